"""What a run's curves say, in words: what is wrong, in which layer, the numbers, what to try."""

from __future__ import annotations

from collections.abc import Sequence

from . import rules
from .history import History
from .rules import Finding

NOTHING = "Nothing stands out."
ENOUGH = 3
"""Records; fewer show no change that a rule could judge."""

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


def unjudged(history: History) -> list[str]:
    """What the rules could not look at, without which a run is not called sound."""
    updates = history.layers("update to weight").values()
    records = max((len(history.values(tag)) for tag in updates), default=0)
    found = []
    if not updates:
        found.append("no step of any layer is recorded: a Monitor does it (record='updates')")
    elif records < ENOUGH:
        found.append(f"it has {records} of the {ENOUGH} records that show a change")
    if "gradient carried over" not in history.curves:
        found.append("whether gradients are zeroed is not recorded: record='health' does it")
    if "loss" not in history.curves:
        found.append("no loss is recorded: Monitor.log(loss=loss) does it")
    return found


def as_markdown(findings: Sequence[Finding], unjudged: Sequence[str]) -> str:
    texts = [
        f"**{finding.kind}**{finding.where}\n\n{finding.evidence}\n\nTry: {finding.try_this}"
        for finding in findings
    ]
    if unjudged:
        texts.append("\n".join(["No verdict on the whole:\n", *(f"- {why}" for why in unjudged)]))
    return "\n\n".join(texts) or NOTHING
