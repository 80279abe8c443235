"""What a report says, in each of its languages."""

from __future__ import annotations

from typing import NamedTuple


class Words(NamedTuple):
    """The same text in English and in Chinese; in JSON a list of the two."""

    en: str
    zh: str
