"""What the reports say: a module for each experiment, named like the experiment's own.

It defines what ``lab.run.ExperimentReport`` lists. Each text is a pair of ``Words`` with the
computed numbers in it, so that ``results.json`` holds both languages. What several experiments say
is in ``common``.
"""

import importlib
from typing import cast

from ..lab.run import ExperimentReport


def report_of(name: str) -> ExperimentReport:
    """The module that says what an experiment found."""
    return cast(ExperimentReport, importlib.import_module(f"{__name__}.{name.replace('-', '_')}"))
