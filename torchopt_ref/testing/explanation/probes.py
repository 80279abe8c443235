"""Probes: small trainings whose outcome tells in which form an optimizer does something. No formula
is read, so the same probes serve every optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from torchopt_ref.errors import UserError
from torchopt_ref.written import number

from .subject import Subject

CLOSE = 1e-6
"""Numbers with a relative difference below this are the same: float64's roundings are smaller."""
LR = 2.0**-10
"""A learning rate that float32 represents exactly."""
MOMENTUM = 0.875
STEPS = 10
"""Enough steps to see what an optimizer does only at first, as RAdam does for five steps."""
NEARLY_ZERO = 1e-30
"""Negligible beside 1, for numbers that may not be 0."""
HUGE, LARGE = 1e8, 1e5
"""Gradients so large that the initial value of the mean (or sum) of their squares does not count
beside HUGE ones, and counts little beside LARGE ones."""
NOT_DECIDED = "not decided"


@dataclass(frozen=True)
class Fact:
    """What was found about one ``topic``, in words. Parentheses at their end hold a detail that
    depends on the options."""

    topic: str
    words: str

    @property
    def decided(self) -> bool:
        """False if no known form explains the numbers."""
        return not self.words.startswith(NOT_DECIDED)

    @property
    def kind(self) -> str:
        return self.words.partition(" (")[0]


def facts(subject: Subject) -> list[Fact]:
    """All that can be said of an optimizer; a topic that it does not have is left out."""
    laboratory = Laboratory(subject)
    found = []
    for topic, probe in PROBES.items():
        try:
            with np.errstate(all="ignore"):
                words = probe(laboratory)
        except Refused as refused:
            words = f"{NOT_DECIDED}: {refused}"
        if words is not None:
            found.append(Fact(topic, words))
    return found


class Refused(Exception):
    """The optimizer refuses what the probe needs, or its steps are of no use to it."""


class Laboratory:
    """Trains one parameter with given gradients."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.off: dict[str, bool] = {
            option: False
            for option in ("centered", "amsgrad", "maximize")
            if subject.options.get(option) is True and subject.takes(option)
        }

    def has(self, role: str) -> bool:
        return self.subject.own_name(role) is not None

    def number(self, role: str) -> float:
        return self.subject.numbers[self.subject.own_name(role) or ""]

    def run(
        self,
        grads: Sequence[float],
        numbers: Mapping[str, float],
        *,
        start: Any = 0.0,
        then: Mapping[str, float] | None = None,
        dtype: torch.dtype = torch.float64,
        **switches: bool,
    ) -> np.ndarray:
        """The parameter after each step, with these hyper-parameters under torch's names.

        Unless they are given, there is no weight decay, dampening or decay of the rate, and
        ``centered``, ``amsgrad`` and ``maximize`` are off. ``then`` is set after the first step.
        ``start`` may have many elements.
        """
        none = {"weight_decay": 0.0, "dampening": 0.0, "lr_decay": 0.0}
        given = {"lr": LR, **none, **numbers}
        named = {self.subject.own_name(role): value for role, value in given.items()}
        known = {key: value for key, value in named.items() if key is not None}
        values = torch.as_tensor(start, dtype=dtype).reshape(-1).clone()
        param = torch.nn.Parameter(values)
        try:
            optimizer = self.subject.with_numbers(known).make([param], **(self.off | switches))
        except (Exception, SystemExit) as error:
            raise Refused("it refuses the numbers of the probe") from error
        way = []
        for step, grad in enumerate(grads):
            if step == 1 and then:
                own = {self.subject.own_name(role) or "": value for role, value in then.items()}
                self.subject.set(optimizer, own)
            param.grad = torch.full_like(param, grad)
            try:
                self.subject.step(optimizer)
            except UserError as error:
                raise Refused("it refuses a step of the probe") from error
            way.append(param.detach().numpy().copy())
        return np.array(way)

    def updates(self, grads: Sequence[float], numbers: Mapping[str, float], **options: Any) -> Any:
        """By how much each step lowered the parameter, which starts at 0."""
        way = self.run(grads, numbers, **options)[:, 0]
        if not np.isfinite(way).all():
            raise Refused("its steps are not finite")
        return -np.diff(way, prepend=0.0)

    @property
    def alone(self) -> dict[str, float]:
        """Momentum and epsilon nearly 0: a step depends on earlier gradients by squares only."""
        roles = ("momentum", "beta1", "eps")
        return {role: NEARLY_ZERO for role in roles if self.has(role)}

    @cached_property
    def divides(self) -> bool | None:
        """True if each step is divided by the size of the gradient, so that it does not depend on
        that size; False if each step is proportional to the gradient; None otherwise."""
        once, twice = (self.updates([g] * STEPS, self.alone) for g in (HUGE, 2 * HUGE))
        if np.allclose(once, twice, CLOSE, 0):
            return True
        return False if np.allclose(2 * once, twice, CLOSE, 0) else None

    @cached_property
    def memory(self) -> float | None:
        """``a`` if the divisor's square grows as 1 + a + ... + a^(t-1) over ``t`` equal gradients.

        It is 1 for a sum of squares, the decay for a moving average that is not corrected, 0 for
        one that is corrected for its start at zero. None if there is no such ``a``.
        """
        steps = self.updates([HUGE] * STEPS, self.alone)
        if not self.divides or not steps.all():
            return None
        a = float((steps[0] / steps[1]) ** 2 - 1)
        a = 0.0 if abs(a) < CLOSE else a
        if not 0 <= a < 1 + CLOSE:
            return None
        growth = np.array([sum(a**k for k in range(t)) for t in range(1, STEPS + 1)])
        return a if np.allclose(steps**2 * growth, steps[0] ** 2, CLOSE, 0) else None

    @cached_property
    def corrected(self) -> bool:
        """Whether the divisor's square is a moving average of squares, divided by the sum of its
        weights: after one large gradient g it is b^(t-1) (1 - b) / (1 - b^t) g^2."""
        steps = self.updates([HUGE, *[1.0] * (STEPS - 1)], self.alone)
        if self.memory != 0 or not steps.all():
            return False
        squares = (steps[0] / steps / HUGE) ** 2
        b = float(squares[1] / (1 - squares[1]))
        if not 0 < b < 1:
            return False
        expected = [b ** (t - 1) / sum(b**k for k in range(t)) for t in range(1, STEPS + 1)]
        return np.allclose(squares[1:], expected[1:], 1e-4, 0)


def close(a: float, b: float, within: float = CLOSE) -> bool:
    return math.isclose(a, b, rel_tol=within)


def divisor(lab: Laboratory) -> str | None:
    """What a step is divided by."""
    if lab.divides is None:
        return f"{NOT_DECIDED}: a step is neither proportional to its gradient nor free of its size"
    if not lab.divides:
        return "none: a step is proportional to its gradient"
    a = lab.memory
    if a is None:
        return f"{NOT_DECIDED}: equal gradients do not make the steps of any known average"
    if close(a, 1):
        return "the root of the sum of all squared gradients"
    if a:
        decay = number(a, 4)
        return f"the root of a moving average of squares, not corrected (decay {decay})"
    if lab.corrected:
        return "the root of a moving average of squares, corrected for its start at zero"
    return f"{NOT_DECIDED}: it remembers large gradients, or not, like no known average"


def epsilon(role: str) -> Callable[[Laboratory], str | None]:
    """A probe for where an epsilon is: which grows linearly with it, the divisor or its square?"""

    def probe(lab: Laboratory) -> str | None:
        if not lab.has(role):
            return None
        if lab.divides is False:
            return f"{NOT_DECIDED}: nothing is divided"
        tried = [LARGE * factor for factor in (1, 2, 4)]
        steps = [abs(lab.updates([LARGE], {role: each})[0]) for each in tried]
        if not all(steps):
            return f"{NOT_DECIDED}: there is no step that it could change"
        if close(steps[0], steps[2]):
            return f"{NOT_DECIDED}: the first step does not depend on it"
        if not (lab.corrected or lab.memory):
            return f"{NOT_DECIDED}: it is not known what the divisor is"
        places = {1: "outside the root, sqrt(s) + eps", 2: "inside the root, sqrt(s + eps)"}
        for power, words in places.items():
            low, middle, high = ((LR / step) ** power for step in steps)
            slope = (middle - low) / (tried[1] - tried[0])
            if close(high - middle, slope * (tried[2] - tried[1])):
                start = low - slope * tried[0]
                # The weight of epsilon beside the gradient, if the divisor is the gradient's size.
                return words + correction(lab, (slope / start * LARGE**power) ** (1 / power))
        return f"{NOT_DECIDED}: neither the divisor nor its square grows straight with it"

    def correction(lab: Laboratory, weight: float) -> str:
        if not lab.corrected:
            return ""
        if close(weight, 1):
            return ", after the correction of the average"
        return (
            f", before the correction of the average (at first it counts {number(weight, 3)} times)"
        )

    return probe


def start(lab: Laboratory) -> str | None:
    """Where the squares start: what is left of the divisor's square as the gradient goes to 0."""
    a = lab.memory
    if a is None or (a == 0 and not lab.corrected):
        return None
    squares = [0.01, 1.0, 100.0]
    numbers = lab.alone
    steps = [lab.updates([math.sqrt(square)], numbers)[0] for square in squares]
    if not all(steps):
        return f"{NOT_DECIDED}: there is no step to see it by"
    low, middle, high = (square / step**2 for square, step in zip(squares, steps, strict=True))
    slope = (high - middle) / 99
    if not close(middle - low, slope * 0.99, 1e-5):
        return f"{NOT_DECIDED}: the divisor's square does not grow straight with the gradient's"
    ratio = (middle - slope) / slope
    if abs(ratio) < CLOSE:
        return "at 0"
    if not a:
        return f"{NOT_DECIDED}: not at 0"
    # In an average the start has weight a, the gradient's square 1 - a; in a sum both have 1.
    return f"at {number(ratio if close(a, 1) else ratio * (1 - a) / a, 4)}"


def learning_rate(lab: Laboratory) -> str | None:
    """Where the learning rate is. The second step has gradient 0; it is taken with the rate of the
    first step, and in another run with twice that rate."""
    numbers = activated(lab)
    if not numbers or not lab.has("lr"):
        return None
    once, twice = (
        lab.updates([1.0, 0.0], numbers, then={"lr": LR * factor})[1] for factor in (1, 2)
    )
    if not once and not twice:
        return None
    if close(once, twice):
        return "inside the velocity, which keeps the rate of each past step"
    if close(2 * once, twice):
        return "outside the velocity, which takes the rate of the present step"
    return f"{NOT_DECIDED}: twice the rate makes the next step {twice / once:.4g} times as long"


def activated(lab: Laboratory) -> dict[str, float]:
    """Numbers that switch momentum on; empty if the optimizer has none."""
    return {role: MOMENTUM for role in ("momentum", "beta1") if lab.has(role)}


def momentum(lab: Laboratory, **switches: bool) -> str | None:
    """The form of momentum: the weight of the previous gradient relative to the present one's."""
    if not activated(lab):
        return None
    same, turned = (
        lab.updates([HUGE, sign * HUGE], lab.alone | activated(lab), **switches)[1]
        for sign in (1, -1)
    )
    if close(same, turned):
        return f"{NOT_DECIDED}: the present gradient does not count"
    seen = (same + turned) / (same - turned)
    mu = MOMENTUM
    corrections = [(1 - mu) / (1 - mu**t) for t in (1, 2, 3)]
    # The weight of the previous gradient, relative to that of the present one.
    forms = {
        "plain": mu,
        "Nesterov's": mu * mu / (1 + mu),
        "Nesterov's, each part corrected for its own step": mu**2
        / (mu + corrections[1] / corrections[2]),
    }
    first, second = lab.updates([HUGE] * 2, lab.alone)
    # If the velocity sums up steps, each was divided by its own divisor, which may grow.
    shift = first / second
    for words, ratio in forms.items():
        if close(seen, ratio) or close(seen, ratio * shift):
            return words
    return f"{NOT_DECIDED}: the last gradient counts {number(seen, 4)} times the present one"


def velocity(lab: Laboratory) -> str | None:
    """What the velocity sums up, found by growing gradients, with momentum and without."""
    if not activated(lab):
        return None
    count, mu = 4, MOMENTUM
    grads = HUGE * np.arange(1.0, count + 1)
    steps = lab.updates(grads.tolist(), lab.alone | activated(lab))
    alone = lab.updates(grads.tolist(), lab.alone)
    divisor = grads / alone

    def gathered(values: np.ndarray) -> np.ndarray:
        return np.array(
            [sum(mu ** (t - k) * values[k] for k in range(t + 1)) for t in range(count)]
        )

    # Each form without Nesterov momentum, then with it. Nesterov momentum adds the present gradient
    # or step again, with the correction for its own step.
    sums, past_steps = gathered(grads), gathered(alone)
    weight = 1 - mu ** np.arange(1.0, count + 2)
    average = (1 - mu) * sums
    forms = {
        "the sum of past gradients": (sums / divisor, (mu * sums + grads) / divisor),
        "the sum of past steps": (past_steps, mu * past_steps + alone),
        "a moving average of gradients, corrected for its start at zero": (
            average / weight[:-1] / divisor,
            (mu * average / weight[1:] + (1 - mu) * grads / weight[:-1]) / divisor,
        ),
        "a moving average of gradients, not corrected": (
            average / divisor,
            (mu * average + (1 - mu) * grads) / divisor,
        ),
        "a moving average of steps, not corrected": (
            (1 - mu) * past_steps,
            (1 - mu) * (mu * past_steps + alone),
        ),
    }
    for words, expected in forms.items():
        if any(np.allclose(steps, each, CLOSE, 0) for each in expected):
            return words
    return f"{NOT_DECIDED}: growing gradients do not make the steps of any known velocity"


def nesterov(lab: Laboratory) -> str | None:
    """What ``nesterov`` would do, where it is off."""
    if lab.subject.options.get("nesterov") is not False or not lab.subject.takes("nesterov"):
        return None
    return momentum(lab, nesterov=True)


def weight_decay(lab: Laboratory) -> str | None:
    """What a decay does to a parameter whose gradient is 0, and whether later steps remember it."""
    if not lab.has("weight_decay") or not lab.has("lr"):
        return None
    lr, decay, starts = 2.0**-4, 2.0**-2, (3.0, 5.0)
    numbers = {"lr": lr, "weight_decay": decay} | activated(lab)
    off = {"weight_decay": 0.0}
    if (lab.run([0.0, 0.0], numbers | off, start=starts[0]) != starts[0]).any():
        return f"{NOT_DECIDED}: it moves without gradient and without weight decay"
    ways = [p - lab.run([0.0, 0.0], numbers, start=p, then=off)[:, 0] for p in starts]
    if any(abs(second - first) > CLOSE * abs(first) for first, second in ways):
        return "L2: weight_decay * p is added to the gradient, and remembered with it"
    shares = [first / (decay * p) for (first, _), p in zip(ways, starts, strict=True)]
    if not close(*shares):
        if shares[0] and lab.divides:
            return "L2: weight_decay * p is added to the gradient, and divided with it"
        return f"{NOT_DECIDED}: what it takes is not in proportion to the parameter"
    if close(shares[0], lr):
        if lab.divides or activated(lab):
            return "decoupled: p goes down by lr * weight_decay * p" + place_of_decay(lab)
        return "lr * weight_decay * p is subtracted, as L2 or decoupled"
    if close(shares[0], 1):
        return "decoupled from the learning rate too: p goes down by weight_decay * p"
    return f"{NOT_DECIDED}: p goes down by {number(shares[0] / lr, 4)} lr * weight_decay * p"


def place_of_decay(lab: Laboratory) -> str:
    """In which order decay and step are applied, told by their roundings in float32."""
    lr, decay = 0.25, 0.3
    p = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    narrow: dict[str, Any] = {"dtype": torch.float32}
    step = -lab.run([1.0], {"lr": lr}, **narrow)[0, 0]
    seen = lab.run([1.0], {"lr": lr, "weight_decay": decay}, start=torch.from_numpy(p), **narrow)[0]
    places = {
        "multiplied by 1 - lr * weight_decay before the step": p * (1 - lr * decay) - step,
        "lr * weight_decay * p is subtracted before the step": p - lr * (decay * p) - step,
        "lr * weight_decay * p is subtracted after the step": p - step - lr * (decay * p),
        "weight_decay * p is added to the step, before lr": p - lr * (step / lr + decay * p),
    }
    found = [words for words, expected in places.items() if np.array_equal(seen, expected)]
    return f" ({found[0]})" if len(found) == 1 else ""


def float32_rate(lab: Laboratory) -> str | None:
    """Whether a learning rate that float32 cannot represent is rounded to float32."""
    if not lab.has("lr"):
        return None
    exact, rounded, other = (
        lab.updates([1.0], {"lr": lr})[0] for lr in (0.1, float(np.float32(0.1)), 0.2)
    )
    if close(exact, other):
        return f"{NOT_DECIDED}: the first step does not depend on it"
    return "rounded to float32" if exact == rounded else "used as it is given"


def float32_correction(lab: Laboratory) -> str | None:
    """Whether steps of float32 differ from those of float64 by more than their own roundings."""
    if not lab.corrected or not lab.has("beta2"):
        return None
    numbers = lab.alone | {"beta1": 0.9, "beta2": 0.999}
    wide = lab.updates([1.0], numbers)[0]
    narrow = lab.updates([1.0], numbers, dtype=torch.float32)[0]
    apart = abs(narrow / wide - 1)
    if close(narrow, wide):
        return "in float64"
    return f"in float32 for float32 parameters (the first step is {number(apart)} off)"


def direction(lab: Laboratory) -> str | None:
    step = lab.updates([1.0], {}, **{key: True for key in lab.off if key == "maximize"})[0]
    if not step:
        return f"{NOT_DECIDED}: there is no first step"
    return "down, against the gradient" if step > 0 else "up, along the gradient"


PROBES: dict[str, Callable[[Laboratory], str | None]] = {
    "direction": direction,
    "divisor": divisor,
    "eps": epsilon("eps"),
    "eps_root": epsilon("eps_root"),
    "start of the squares": start,
    "place of lr": learning_rate,
    "velocity": velocity,
    "momentum": momentum,
    "nesterov": nesterov,
    "weight decay": weight_decay,
    "precision of lr": float32_rate,
    "correction": float32_correction,
}
"""The probe of each topic, which answers None if the topic does not apply to the optimizer."""

NEEDS = {
    "eps_root": "eps_root",
    "place of lr": "momentum",
    "velocity": "momentum",
    "momentum": "momentum",
    "nesterov": "nesterov",
    "weight decay": "weight_decay",
}
"""The option without which a topic makes no difference."""

ROUNDINGS = ("precision of lr", "correction")
"""Topics that change no more than the last digits."""
