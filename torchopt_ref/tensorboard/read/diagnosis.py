"""What a run's curves say, in words: what is wrong, in which layer, the numbers, what to try."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .history import WITHOUT_STEP, History
from .rules import Finding, data, gradients, layers, learning, steps
from .rules.evidence import loss_tag

NOTHING = "Nothing stands out."
ENOUGH = 3
"""It takes this many records to show a change that a rule can judge."""

Rule = Callable[[History], Finding | None]

CAUSES: Sequence[Rule] = (
    steps.carried_over,
    layers.evaluation_mode,
    data.probabilities,
    steps.unusual_options,
    gradients.forgotten,
)
"""Every finding of these rules is reported, unless no step is made: then that is all."""

OTHERS: Sequence[Rule] = (
    gradients.no_gradient_at_all,
    data.never_negative,
    data.constant_input,
    data.same_batch,
    data.one_class_batches,
    layers.dropout,
    data.unscaled,
    layers.born_saturated,
    data.far_off,
    layers.shrunk,
    learning.bottomless,
    gradients.late_spikes,
    learning.ascends,
    steps.big_steps,
    layers.grown,
    gradients.spikes,
    layers.dead_units,
    layers.saturated,
    gradients.without_gradient,
    gradients.zero_gradient,
    layers.running_statistics,
    gradients.faded,
    gradients.vanished,
    steps.still,
    steps.under_epsilon,
    gradients.clipped,
    steps.ended_early,
    steps.small_steps,
    learning.rises,
    learning.memory_grows,
    data.one_class_predicted,
    learning.stands,
    layers.half_dead,
    learning.overfits,
)
"""If those find nothing, the first finding of these rules is reported: what later ones would find
may be its consequences."""

OF_NOT_FINITE: Sequence[Rule] = (
    data.unscaled,
    data.far_off,
    learning.ascends,
    steps.big_steps,
    layers.grown,
    gradients.spikes,
)
"""The rules that look for the cause of a value that is not finite; the first finding is
reported."""


def diagnose(history: History) -> list[Finding]:
    """The findings of a run, the cause before its consequences; none for a healthy one."""
    if stopped := steps.no_step(history):
        return [stopped]
    found = [finding for rule in CAUSES if (finding := rule(history))]
    ruined = learning.not_finite(history)
    if ruined:
        return [*(found or first(OF_NOT_FINITE, history)), ruined]
    return found or first(OTHERS, history)


def first(rules: Sequence[Rule], history: History) -> list[Finding]:
    return next(([finding] for rule in rules if (finding := rule(history))), [])


def unjudged(history: History) -> list[str]:
    """What the rules could not check; a run with such gaps is not called sound."""
    updates = history.layers("update to weight").values()
    records = max((len(history.values(tag)) for tag in updates), default=0)
    found = []
    if not updates and WITHOUT_STEP not in history.curves:
        found.append("no step of any layer is recorded: a Monitor does it (record='updates')")
    elif updates and records < ENOUGH:
        found.append(f"it has {records} of the {ENOUGH} records that show a change")
    if "gradient carried over" not in history.curves:
        found.append("whether gradients are zeroed is not recorded: record='health' does it")
    if not loss_tag(history):
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
