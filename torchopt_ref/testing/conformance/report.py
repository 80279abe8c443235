"""What the checks found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclass(frozen=True)
class Result:
    """How one check ended. ``detail``: what was seen, why it was skipped, or a measurement."""

    check: str
    outcome: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.check:<48} {self.outcome:<8} {self.detail}".rstrip()


@dataclass(frozen=True)
class Report:
    """What ``check_optimizer`` found: a ``Result`` for each check, in the order of the guide."""

    optimizer: str
    results: list[Result]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.with_outcome(FAILED)

    def with_outcome(self, outcome: str) -> list[Result]:
        return [result for result in self.results if result.outcome == outcome]

    def summary(self) -> str:
        counts = (
            f"{len(self.with_outcome(outcome))} {outcome}" for outcome in (PASSED, FAILED, SKIPPED)
        )
        return f"{self.optimizer}: {', '.join(counts)}"

    def __str__(self) -> str:
        return "\n".join([*map(str, self.results), self.summary()])

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return asdict(self) | {"passed": self.passed}
