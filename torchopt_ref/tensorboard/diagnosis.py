"""What a run's curves say, in words: what is wrong, in which layer, the numbers, what to try."""

from __future__ import annotations

from collections.abc import Sequence

from . import rules
from .history import History
from .rules import Finding

CAUSES = ("gradients are never zeroed", "learning rate too high")


def diagnose(history: History) -> list[Finding]:
    """The findings of a run, the cause before its consequences; none for a healthy one.

    Consequences are left out where the cause explains them: units that died under steps that were
    too large, and layers that stand still since the units behind them are dead.
    """
    findings = [rules.not_finite(history), rules.carried_over(history)]
    if not findings[1]:
        findings.append(rules.big_steps(history))
    caused = any(finding and finding.kind in CAUSES for finding in findings)
    dead = None if caused else rules.dead_units(history)
    findings += [dead, None if caused else rules.saturated(history)]
    if not any(findings):
        findings += [rules.vanished(history), rules.spikes(history), rules.small_steps(history)]
    if dead is None and not caused:
        findings.append(rules.still(history))
    return [finding for finding in findings if finding]


def as_markdown(findings: Sequence[Finding]) -> str:
    if not findings:
        return "Nothing stands out."
    return "\n\n".join(
        f"**{finding.kind}**{finding.where}\n\n{finding.evidence}\n\nTry: {finding.try_this}"
        for finding in findings
    )
