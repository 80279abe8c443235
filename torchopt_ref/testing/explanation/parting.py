"""Where two optimizers part on the same gradients, and by which operation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from torchopt_ref.sides import Arrays
from torchopt_ref.testing.parity import ROUNDINGS, copied, same_bits, workload

from .subject import ROLES, Subject
from .terms import LETTERS, Formula, Term, letter

STEPS = 100
"""The steps on hostile gradients, and on ordinary ones. After half of them the learning rate is
halved, so that its place in the formula shows."""
DETOUR = 4
"""How many operations ``Match.smallest_parts`` counts for negating or scaling a part."""


@dataclass(frozen=True)
class Line:
    """One result, the parameter or a slot, as both formulas compute it.

    ``kind`` is "same" (to the letter), "rounding" (the same value in other operations), "other", or
    "alone" where one side, whose term is None, has no such slot.
    ``parts`` of an "other" line: the smallest part of A, and what B has in its place.
    """

    result: str
    a: Term | None
    b: Term | None
    kind: str
    parts: tuple[Term, Term] | None = None

    def as_json(self) -> dict[str, str | None]:
        sides = {
            side: None if term is None else str(term)
            for side, term in (("a", self.a), ("b", self.b))
        }
        return {"result": self.result, "kind": self.kind, **sides}


@dataclass(frozen=True)
class Comparison:
    """Two formulas, result by result.

    ``called`` maps, for A and for B, the name that a slot has in the lines to its own name, if that
    is another. ``negated`` has the slots that B keeps with the opposite sign; ``steps``, for each
    formula, the only step that its numbers hold for, or None if they hold for all.
    """

    lines: list[Line]
    called: tuple[dict[str, str], dict[str, str]]
    negated: tuple[str, ...]
    steps: tuple[int | None, int | None]

    def parts(self) -> list[tuple[Term, Term]]:
        return [line.parts for line in self.lines if line.parts is not None]


def compared(
    a: Formula, b: Formula, numbers: tuple[dict[str, float], dict[str, float]]
) -> Comparison:
    """Both formulas, with the slots of one matched to those of the other so that they differ least.

    ``numbers`` are the options of both.
    """
    slots = [slot for slot in a.results if slot != "param"]
    alone = [slot for slot in b.results if slot not in a.results]
    free = [slot for slot in slots if slot not in b.results]
    count = min(len(free), len(alone))
    orders = itertools.permutations(free, count), itertools.combinations(alone, count)
    matches = []
    for order, others in itertools.product(*orders):
        called: tuple[dict[str, str], dict[str, str]] = {}, {}
        for mine, yours in zip(order, others, strict=True):
            # A line is called by the slot's name in A; by its name in B if only that has a letter.
            if mine not in LETTERS and yours in LETTERS:
                called[0][yours] = mine
            else:
                called[1][mine] = yours
        sides = [
            side.renamed({own: shown for shown, own in names.items()})
            for side, names in zip((a, b), called, strict=True)
        ]
        both = [slot for slot in sides[0].results if slot != "param" and slot in sides[1].results]
        for signs in itertools.product((1, -1), repeat=len(both)):
            negated = tuple(slot for slot, sign in zip(both, signs, strict=True) if sign < 0)
            matches.append(Match(sides[0], sides[1], numbers, negated, called))
    differ = [sum(line.kind == "other" for line in match.lines()) for match in matches]
    fewest = [match for match, count in zip(matches, differ, strict=True) if count == min(differ)]
    found = [
        Comparison(match.lines(with_parts=True), match.called, match.negated, (a.step, b.step))
        for match in fewest[:4]
    ]
    return min(found, key=lambda each: sum(size(x) + size(y) for x, y in each.parts()))


class Match:
    """Two formulas, evaluated at the same values; but in B the ``negated`` slots have -1 times
    those of A."""

    def __init__(
        self,
        a: Formula,
        b: Formula,
        numbers: tuple[dict[str, float], dict[str, float]],
        negated: tuple[str, ...],
        called: tuple[dict[str, str], dict[str, str]],
    ) -> None:
        self.a: Formula = a
        self.b: Formula = b
        self.negated: tuple[str, ...] = negated
        self.called: tuple[dict[str, str], dict[str, str]] = called
        # A slot that one side alone keeps is replaced by its term: the other computes it in place.
        self.bare_a: Formula = a.without(a.results.keys() - b.results.keys())
        self.bare_b: Formula = b.without(b.results.keys() - a.results.keys())
        self.mine, self.yours = generic(a, b, numbers)
        self.numbers: set[str] = {"t", *numbers[0], *numbers[1]}
        for slot in negated:
            for key in (letter(slot), letter(slot) + "'"):
                self.yours[key] = -self.mine.get(key, 0.0)

    def lines(self, with_parts: bool = False) -> list[Line]:
        slots = dict.fromkeys([*self.a.results, *self.b.results])
        return [self.line(slot, with_parts) for slot in sorted(slots, key="param".__eq__)]

    def line(self, slot: str, with_parts: bool) -> Line:
        mine, yours = self.a.results.get(slot), self.b.results.get(slot)
        if mine is None or yours is None:
            return Line(slot, mine, yours, "alone")
        sign = -1 if slot in self.negated else 1
        if str(mine) == str(yours) and sign == 1:
            return Line(slot, mine, yours, "same")
        x, y = (without_float32(side.results[slot]) for side in (self.bare_a, self.bare_b))
        wanted = sign * x.value(self.mine)
        if equal(wanted, y.value(self.yours)):
            return Line(slot, mine, yours, "rounding")
        parts = self.smallest_parts(x, y, wanted) if with_parts else None
        return Line(slot, mine, yours, "other", parts)

    def smallest_parts(self, a: Term, b: Term, wanted: float) -> tuple[Term, Term]:
        """A part of A and a part of B: with A's part in its place, B has the value ``wanted``.

        Of all such pairs the one with the fewest operations; at worst both terms whole. A's part
        may also be negated, or multiplied or divided by what A computes from numbers alone, such as
        a correction: that counts as ``DETOUR`` more operations. A part made of numbers alone only
        replaces another such part.
        """

        def of_numbers(term: Term) -> bool:
            return all(part.name in (*self.numbers, "") for part in term.parts())

        parts = [*a.parts()]
        factors = [each for each in parts if each.operation and of_numbers(each)]
        detours = [Term("neg", (x,)) for x in parts] + [
            Term(operation, (x, factor))
            for x, factor, operation in itertools.product(parts, factors, "*/")
            if x.operation and x is not factor
        ]
        costs = {x: size(x) for x in parts} | {x: size(x) + DETOUR for x in detours}
        values = Term("all", tuple(costs)).values(self.mine)
        theirs = {y: size(y) for y in b.parts()}
        numeric = {term: of_numbers(term) for term in (*costs, *theirs)}
        pairs = [(x, y) for x, y in itertools.product(costs, theirs) if numeric[x] == numeric[y]]
        for x, y in sorted(pairs, key=lambda pair: costs[pair[0]] + theirs[pair[1]]):
            if equal(b.value(self.yours, {y: values[x]}), wanted):
                return x, y
        return a, b


def generic(
    a: Formula, b: Formula, numbers: tuple[dict[str, float], dict[str, float]]
) -> tuple[dict[str, float], dict[str, float]]:
    """A value for each name. Columns are random and the same for both, so that nothing is equal by
    chance. So are the options, unless a formula holds for one step only: then they keep their
    own numbers."""
    step = a.step or b.step
    columns = sorted((a.names() | b.names()) - numbers[0].keys() - numbers[1].keys() - {"t"})
    rng = np.random.default_rng(0)
    values = {column: float(rng.uniform(0.5, 1.0)) for column in columns}
    values |= {each: -values[each] for each in columns if each in ("p", "g")}
    # A mean of squares is larger than the square of a mean.
    values |= {each: values[each] + 2 for each in columns if each.strip("'") in ("s", "v", "v_max")}
    shared = values | {"t": step or 3}
    if step:
        return shared | dict(numbers[0]), shared | dict(numbers[1])
    roles = sorted({ROLES.get(each, each) for side in numbers for each in side})
    options = {role: float(rng.uniform(0.1, 0.9)) for role in roles}
    mine, yours = (
        {each: options[ROLES.get(each, each)] for each in side if side[each]} for side in numbers
    )
    return shared | mine, shared | yours


def without_float32(term: Term) -> Term:
    if term.operation == "float32":
        return without_float32(term.operands[0])
    if not term.operation:
        return term
    return replace(term, operands=tuple(map(without_float32, term.operands)))


def equal(x: Any, y: Any) -> bool:
    return math.isclose(float(x), float(y), rel_tol=1e-12)


def size(term: Term) -> int:
    return len([*term.parts()])


@dataclass(frozen=True)
class Parting:
    """The first step at which parameters differ by more than roundings, and one element there."""

    step: int
    tensor: str
    index: tuple[int, ...]
    kind: str
    grad: float
    before: float
    a: float
    b: float
    states: tuple[Mapping[str, float], Mapping[str, float]]
    """The element's parameter and slots before the step, for A and B; slots that exist then."""


@dataclass(frozen=True)
class Together:
    """How long both agreed in ``STEPS`` steps, each taken from the same parameters."""

    elements: int
    first_bits: int | None
    """The first step at which any bit of a parameter differed."""
    roundings: float
    """The largest difference, measured in float32 roundings of the element's longest step so far.
    """
    first_overflow: int | None
    """The first step after which an element was finite on one side alone. That does not count as
    parting, since close to the largest number roundings decide it."""
    parting: Parting | None


def together(a: Subject, b: Subject) -> Together:
    """Run both on hostile gradients in float32, each with its own state, until they part."""
    params = {called: p for called, p in workload.parameters("float32").items() if p.size}
    left, right = (workload.torch_side(subject.make, params) for subject in (a, b))
    way = {called: np.zeros(array.shape) for called, array in params.items()}
    first_bits, first_overflow, worst = None, None, 0.0
    elements = sum(array.size for array in params.values())
    for step, grads in enumerate(workload.standard_gradients("float32", STEPS), start=1):
        for side, subject in ((left, a), (right, b)):
            halve_lr(side.optimizer, subject, step == STEPS // 2 + 1)
        for called, param in left.params.items():
            with torch.no_grad():
                right.params[called].copy_(param)
        before = [copied(side.tensors()) for side in (left, right)]
        for side, subject in ((left, a), (right, b)):
            side.set_gradients(grads)
            subject.step(side.optimizer)
        mine, yours = (side.tensors() for side in (left, right))
        partings = []
        for called in params:
            old, x, y = (of[called]["param"] for of in (before[0], mine, yours))
            if same_bits(x, y):
                continue
            first_bits = first_bits or step
            if (np.isfinite(x) != np.isfinite(y)).any():
                first_overflow = first_overflow or step
            share = roundings(old, x, y, way[called])
            worst = max(worst, float(share.max()))
            if share.max() > ROUNDINGS:
                place = tuple(map(int, np.unravel_index(int(np.argmax(share)), share.shape)))
                partings.append((float(share.max()), called, place))
        if partings:
            _, called, place = max(partings)
            states = [element(each[called], place) for each in before]
            parting = Parting(
                step,
                called,
                place,
                workload.kind_of(place, params[called].shape),
                float(grads[called][place]),
                states[0]["param"],
                float(mine[called]["param"][place]),
                float(yours[called]["param"][place]),
                (states[0], states[1]),
            )
            return Together(elements, first_bits, worst, first_overflow, parting)
    return Together(elements, first_bits, worst, first_overflow, None)


def roundings(old: np.ndarray, x: np.ndarray, y: np.ndarray, way: np.ndarray) -> np.ndarray:
    """The difference of each element of ``x`` and ``y``, in roundings of its longest step so far.

    The parameter's own roundings are subtracted first. ``way`` has the longest step of each
    element, and is updated in place.
    """
    with np.errstate(all="ignore"):
        wide = [array.astype(np.float64) for array in (old, x, y)]
        for new in wide[1:]:
            np.fmax(way, np.where(np.isfinite(new), np.abs(new - wide[0]), 0), out=way)
        gap = np.abs(wide[1] - wide[2])
        gap -= 4 * np.spacing(np.fmax(np.abs(old), np.abs(x))).astype(np.float64)
        share = np.where(gap > 0, gap / (way * np.finfo(np.float32).eps), 0.0)
    alike = (x == y) | (np.isnan(x) & np.isnan(y))
    return np.where(alike | ~(np.isfinite(x) & np.isfinite(y)), 0.0, share)


def numbers_there(
    formula: Formula, subject: Subject, parting: Parting, side: int
) -> dict[str, float] | None:
    """The values of a formula's names at the element where both part.

    Slots that do not exist before the step are tried as 0 and as 1; None if that does not explain
    the step.
    """
    options = dict(subject.numbers)
    if parting.step > STEPS // 2 and (lr := subject.own_name("lr")) is not None:
        options[lr] /= 2
    columns = {"p": parting.before, "g": parting.grad} | {
        letter(slot): value for slot, value in parting.states[side].items() if slot != "param"
    }
    columns |= {key: value for key, value in starts(subject).items() if key not in columns}
    missing = sorted({letter(slot) for slot in formula.results if slot != "param"} - columns.keys())
    after = (parting.a, parting.b)[side]
    for start in itertools.product((0.0, 1.0), repeat=len(missing)):
        there = columns | dict(zip(missing, start, strict=True))
        names = options | {each: np.float32(value) for each, value in there.items()}
        names["t"] = parting.step
        with np.errstate(all="ignore"):
            written = formula.values(names)
        if np.isclose(written["param"], after, 1e-5, 0, equal_nan=True):
            return names | {letter(slot) + "'": value for slot, value in written.items()}
    return None


def starts(subject: Subject) -> dict[str, float]:
    """The initial values of the slots of this package's optimizers, by their letters."""
    if not subject.is_ours:
        return {}
    made: Any = subject.make([torch.nn.Parameter(torch.zeros(1))])
    return {letter(slot): v for slot, v in made.rule.slots(made.param_groups[0]).items()}


def halve_lr(optimizer: torch.optim.Optimizer, subject: Subject, now: bool) -> None:
    called = subject.own_name("lr")
    if now and called is not None:
        subject.set(optimizer, {called: subject.numbers[called] / 2})


def element(tensors: Arrays, place: tuple[int, ...]) -> dict[str, float]:
    shape = tensors["param"].shape
    return {slot: float(a[place]) for slot, a in tensors.items() if a.shape == shape}


def effect(a: Subject, b: Subject, scale: float) -> tuple[float, float]:
    """How far B is from A after one step and after ``STEPS`` steps, relative to A's way.

    On ordinary gradients: normal ones, times ``scale``, in float64.
    """
    ways = []
    for subject in (a, b):
        generator = torch.Generator().manual_seed(0)
        start, *grads = torch.randn(1 + STEPS, 200, generator=generator, dtype=torch.float64)
        param = torch.nn.Parameter(start.clone())
        optimizer = subject.make([param])
        way: list[torch.Tensor] = []
        for grad in grads:
            param.grad = grad * scale
            halve_lr(optimizer, subject, len(way) == STEPS // 2)
            subject.step(optimizer)
            way.append(param.detach() - start)
        ways.append((way[0], way[-1]))
    return tuple(relative(x, y) for x, y in zip(*ways, strict=True))  # type: ignore[return-value]


def relative(x: torch.Tensor, y: torch.Tensor) -> float:
    gap, whole = (x - y).norm().item(), x.norm().item()
    return 0.0 if gap == 0 else gap / whole if whole else math.inf
