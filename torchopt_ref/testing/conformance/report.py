"""What the checks found."""

from __future__ import annotations

import re
import textwrap
from dataclasses import asdict, dataclass
from typing import Any

from .hints import hint_for

PASSED, FAILED, SKIPPED, EXPECTED = "passed", "failed", "skipped", "expected"
"""How a check may end; expected: it failed, and a reason was given for that beforehand."""

COMMON = 3
"""If this many checks raise the same error, they have one cause, and are reported together."""


@dataclass(frozen=True)
class Result:
    """How one check ended.

    ``detail``: what was seen, why it was skipped, or a measurement. ``promise``: what is promised,
    in a line; ``remedy``: what helps where the promise is broken.
    """

    check: str
    outcome: str
    detail: str = ""
    promise: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.check:<48} {self.outcome:<8} {self.detail}".rstrip()

    @property
    def cause(self) -> str:
        """The error that was raised, without its numbers; nothing where none was."""
        return re.sub(r"\d+", "", self.detail) if self.detail.startswith("raised ") else ""


@dataclass(frozen=True)
class ConformanceReport:
    """What ``check_optimizer`` found: a ``Result`` for each check, in the order of the guide."""

    optimizer: str
    results: list[Result]

    @property
    def passed(self) -> bool:
        """Whether all checks that failed were expected to."""
        return not self.with_outcome(FAILED)

    def with_outcome(self, outcome: str) -> list[Result]:
        return [result for result in self.results if result.outcome == outcome]

    def summary(self) -> str:
        outcomes = [PASSED, FAILED, SKIPPED]
        counts = [f"{len(self.with_outcome(outcome))} {outcome}" for outcome in outcomes]
        expected = len(self.with_outcome(EXPECTED))
        counts += [f"{expected} failed as expected"] if expected else []
        return f"{self.optimizer}: {', '.join(counts)}"

    def __str__(self) -> str:
        """A line for each check; last those that failed, each with its promise and a remedy."""
        others = [str(result) for result in self.results if result.outcome != FAILED]
        return "\n".join([*others, *self.failures(), self.summary()])

    def failures(self) -> list[str]:
        """The lines about what failed; checks that raise the same error are reported once."""
        lines: list[str] = []
        told: set[str] = set()
        failed = self.with_outcome(FAILED)
        for result in failed:
            alike = [each for each in failed if result.cause and each.cause == result.cause]
            if len(alike) < COMMON:
                lines += ["", str(result)]
                lines += indented("promise: ", result.promise) + indented("remedy: ", result.remedy)
            elif result.cause not in told:
                told.add(result.cause)
                lines += ["", f"{len(alike)} of {len(self.results)} checks {result.detail}"]
                hint = hint_for(result.detail)
                names = "all of these: " + ", ".join(each.check for each in alike)
                lines += indented("hint: ", hint) if hint else indented("", names)
        return [*lines, ""] if lines else []

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return asdict(self) | {"passed": self.passed}


def indented(label: str, text: str) -> list[str]:
    return textwrap.wrap(label + text, 100, initial_indent="    ", subsequent_indent="        ")
