"""The learning-rate range test: which rates lower the loss, and from which on it rises."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, SupportsFloat

import torch
from torch import Tensor, nn

from .figure import draw
from .restored import restored

HALF = 4
"""A smoothed loss is the median of a loss and this many on either side."""
FEWEST = 50
"""The least number of steps: with fewer, neighbouring rates would be far apart."""
SURE = 0.85
"""Each of the first losses is compared with each of the last ones up to the least. The loss has
fallen if the later one is lower in at least this share of the pairs. For mere noise (normal,
exponential or Cauchy, 200 steps) the share was above 0.82 in one test of 300; for networks that
learn it was at least 0.89."""


@dataclass(frozen=True)
class LRRange:
    """What a learning-rate range test has found.

    Attributes:
        rates: the learning rates that were tried, of the param group with the largest one.
        losses: what ``step`` returned at each rate: the loss before the step was made.
        smoothed: at each rate the median of the nine losses around it, of fewer at the ends.
        suggestion: a learning rate, rounded to two digits, or None.
        reason: why this one, or why none, in words.
        ended: where and why the test ended before all rates were tried; empty if all were.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float | None
    reason: str
    ended: str

    def svg(self, title: str = "Learning-rate range test") -> str:
        """A figure of the curves, as the text of an SVG file.

        It is light or dark as the system that shows it.
        """
        return draw(self.rates, self.losses, self.smoothed, self.suggestion, self.words(), title)

    def words(self) -> str:
        """The outcome in one or two sentences."""
        outcome = (
            "No suggestion: " if self.suggestion is None else f"Suggested: {self.suggestion:g}, "
        )
        ended = f" The test ended {self.ended}." if self.ended else ""
        return f"{outcome}{self.reason}.{ended}"

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values; None for a loss that is not finite, which JSON lacks."""
        plain = asdict(self)
        for name in ("losses", "smoothed"):
            plain[name] = [loss if math.isfinite(loss) else None for loss in plain[name]]
        return plain


def lr_range_test(
    step: Callable[[], float | Tensor],
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    *,
    lowest: float = 1e-7,
    highest: float = 10.0,
    steps: int = 200,
    others: Sequence[Any] = (),
) -> LRRange:
    """Train some steps while the learning rate grows, and suggest one; then undo all of it.

    Step k of n has the rate ``lowest * (highest / lowest) ** (k / (n - 1))``. If the groups have
    different rates, that is the rate of the group with the largest one, and the other groups keep
    their ratio to it. The test stops when a loss is not finite, or the smoothed loss is far above
    the first ones.

    The smoothed loss at a rate is the median of the nine losses around it. It does not lag behind,
    as a moving average does, nor rise with the first losses of a divergence.

    The suggestion is a third of the rate at which the smoothed loss is least, or a tenth of the
    rate at which it is back at its first value, if that is smaller. There is none if the loss did
    not fall by more than its noise, was least at the lowest rates, or was still falling at the
    highest.

    A step's loss is computed before the step, so the effect of a rate shows in the losses after it.
    The suggestion holds for the batch size, the precision and the momentum of ``step``; with a
    schedule it is the largest rate.

    Afterwards parameters, buffers, gradients, the optimizer and the global random generators of
    torch, NumPy and Python are bit for bit as before, also after an error or Ctrl-C in ``step``. It
    cannot undo what else ``step`` changes: an iterator over batches, a generator of its own,
    a ``Monitor`` or a log that it writes, Python attributes of modules.

    Args:
        step: makes one training step, ``optimizer.step()`` included, and returns its loss. Leave
            schedulers out of it.
        optimizer: of any class whose param groups have ``lr``.
        model: whose parameters and buffers a step changes.
        lowest: the rate of the first step, above 0.
        highest: the rate of the last step.
        steps: how many rates are tried, at least 50.
        others: what a step changes besides, such as a ``GradScaler`` or an ``AveragedModel``:
            objects with ``state_dict`` and ``load_state_dict``.

    Raises:
        ValueError: rates or steps that cannot be, groups without a rate, or a ``step`` that sets
            the rate itself.
        TypeError: ``step`` does not return a number.

    Source: Smith 2015, "Cyclical Learning Rates for Training Neural Networks", section 3.3,
    arXiv:1506.01186; there the rate grows linearly.
    """
    if not 0 < lowest < highest < math.inf:
        raise ValueError(f"0 < lowest < highest must hold, not {lowest} and {highest}")
    if steps < FEWEST:
        raise ValueError(f"steps must be at least {FEWEST}, not {steps}")
    groups = optimizer.param_groups
    try:
        own = [float(group["lr"]) for group in groups]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{type(optimizer).__name__} has param groups without an lr") from error
    if not all(0 <= rate < math.inf for rate in own):
        raise ValueError(f"the rates of the param groups must be at least 0 and finite, not {own}")
    shares = [rate / max(own) if max(own) > 0 else 1.0 for rate in own]
    first = max(steps // 10, 2 * HALF + 1)
    rates: list[float] = []
    losses: list[float] = []
    ended = ""
    with restored(model, optimizer, others):
        for k in range(steps):
            rates.append(lowest * (highest / lowest) ** (k / (steps - 1)))
            for group, share in zip(groups, shares, strict=True):
                set_rate(group, rates[-1] * share)
            asked = [float(group["lr"]) for group in groups]
            losses.append(as_number(step()))
            if [float(group["lr"]) for group in groups] != asked:
                raise ValueError("step sets the learning rate itself: leave schedulers out of it")
            if not math.isfinite(losses[-1]):
                ended = f"at {rates[-1]:.2g}, where the loss was {losses[-1]}"
                break
            if k >= first and median(losses[-HALF - 1 :]) > far_above(losses[:first]):
                ended = f"at {rates[-1]:.2g}, where the loss was {losses[-1]:.3g}"
                break
    return judged(rates, losses, first, ended)


def judged(rates: list[float], losses: list[float], first: int, ended: str) -> LRRange:
    """The smoothed losses, and what follows from them. The loss at the start is the median of the
    first ``first`` ones."""
    finite = [loss if math.isfinite(loss) else math.inf for loss in losses]
    smoothed = [median(finite[max(0, k - HALF) : k + HALF + 1]) for k in range(len(finite))]
    least = smoothed.index(min(smoothed))
    start = median(finite[:first])

    def found(reason: str, suggestion: float | None = None) -> LRRange:
        return LRRange(rates, losses, smoothed, suggestion, reason, ended)

    if not math.isfinite(losses[0]):
        return found(f"the loss was {losses[0]} before the first step")
    if ended and (least < first or smoothed[least] >= start):
        if smoothed[-1] <= max(finite[:first]):
            return found(
                f"the loss was {losses[-1]} though it had not risen: look at the data of step "
                f"{len(losses)}"
            )
        return found(f"the loss was least at the lowest rates: begin below {rates[0]:.2g}")
    if not has_fallen(finite[:first], finite[max(first, least - 2 * HALF) : least + 1]):
        return found("the loss did not fall by more than its noise")
    if not ended and least >= len(rates) - 1 - HALF:
        return found(f"the loss was still falling at the highest rate: go beyond {rates[-1]:.2g}")
    risen = (k for k in range(least, len(rates)) if smoothed[k] >= start)
    back = next(risen, len(rates) - 1 if ended else None)
    third = rates[least] / 3
    if back is not None and rates[back] / 10 < third:
        there = "back at its first value" if math.isfinite(losses[back]) else f"{losses[back]}"
        return found(
            f"a tenth of {rates[back]:.2g}, where the loss was {there}",
            float(f"{rates[back] / 10:.2g}"),
        )
    return found(
        f"a third of {rates[least]:.2g}, where the smoothed loss was least "
        f"({smoothed[least]:.3g}, from {start:.3g})",
        float(f"{third:.2g}"),
    )


def has_fallen(first: Sequence[float], later: Sequence[float]) -> bool:
    """Whether ``later`` losses are lower than the ``first`` in nearly all pairs of one of each."""
    pairs = [(after < before) + (after == before) / 2 for before in first for after in later]
    return bool(pairs) and sum(pairs) >= SURE * len(pairs)


def far_above(first: Sequence[float]) -> float:
    """Four times the first losses, in a way that also works for losses that are negative or 0."""
    return median(first) + 3 * max(abs(median(first)), max(first) - min(first))


def set_rate(group: dict[str, Any], rate: float) -> None:
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)  # in place: a captured CUDA graph reads this tensor
    else:
        group["lr"] = rate


def as_number(loss: Any) -> float:
    one = loss.numel() == 1 if isinstance(loss, Tensor) else isinstance(loss, SupportsFloat)
    if not one:
        raise TypeError(f"step must return its loss, a number or a tensor of one, not {loss!r:.50}")
    return float(loss.detach() if isinstance(loss, Tensor) else loss)
