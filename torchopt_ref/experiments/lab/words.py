"""What a report says, in each of its languages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

LANGUAGES = ("en", "zh")


class Words(NamedTuple):
    """The same text in English and in Chinese; in JSON a list of the two."""

    en: str
    zh: str


def in_language(text: str | Sequence[str], lang: str) -> str:
    """A text in one of the ``LANGUAGES``; a bare string, a name or a number, is in all of them."""
    return text if isinstance(text, str) else text[LANGUAGES.index(lang)]


def listed(parts: Iterable[str | Words]) -> Words:
    """The parts of an enumeration, with each language's comma between them."""
    found = list(parts)
    en, zh = ([in_language(part, lang) for part in found] for lang in LANGUAGES)
    return Words(", ".join(en), "，".join(zh))


def sentences(parts: Iterable[Words]) -> Words:
    """One text of several sentences."""
    en, zh = zip(*parts, strict=True)
    return Words(" ".join(en), "".join(zh))
