"""What the reports say: a module for each experiment, named like the experiment's own.

It defines what ``Report`` lists. Each text is a pair of ``Words`` with the computed numbers in it,
so that ``results.json`` holds both languages. What several experiments say is in ``common``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Protocol, cast

from ..lab.results import Claim, Results, Table
from ..lab.words import Words


class Report(Protocol):
    """What is said of an experiment: a question, why it matters, and what was found.

    ``config`` has the options that really ran.
    """

    TITLE: Words
    WHY: Words
    TRAININGS: Mapping[str, str | Words]
    """What the trainings are called of which it is said how far the sides are apart."""

    def tried(self, config: Any) -> Words: ...
    def seen(self, results: Results, config: Any) -> Words: ...
    def claims(self, results: Results, config: Any) -> list[Claim]: ...
    def tables(self, results: Results, config: Any) -> list[Table]: ...


def report_of(name: str) -> Report:
    """What is said of the experiment of that name."""
    return cast(Report, importlib.import_module(f"{__name__}.{name.replace('-', '_')}"))
