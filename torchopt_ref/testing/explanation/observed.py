"""The formula of any torch optimizer, from the operations that its step is seen to run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .subject import Subject
from .terms import Formula, Term, apply, letter, name, number

UNARY = {"sqrt": "sqrt", "neg": "neg", "abs": "abs", "sign": "sign", "sgn": "sign"}
BINARY = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "^"}
BINARY |= {"maximum": "max", "minimum": "min", "gt": ">"}
SAME = ("view", "clone", "detach", "alias", "_to_copy", "lift_fresh", "expand", "positive", "copy")
"""Operations of torch that return the value of their operand (``copy``: of the last)."""
STEP = 7
"""The step that is watched: the first ones may be special."""


class Watched(TorchDispatchMode):
    """Records as terms what a step computes. A tensor is known by the address of its memory."""

    def __init__(self, numbered: Callable[[float], Term]) -> None:
        super().__init__()
        self.numbered = numbered
        self.terms: dict[int, Term] = {}
        self.kept: list[torch.Tensor] = []  # kept alive, so that no address is reused
        self.without_sign: str | None = None

    def know(self, tensor: torch.Tensor, term: Term) -> None:
        self.terms[tensor.untyped_storage().data_ptr()] = term
        self.kept.append(tensor)

    def term(self, value: Any) -> Term:
        if not isinstance(value, torch.Tensor):
            return self.numbered(float(value))
        known = self.terms.get(value.untyped_storage().data_ptr())
        return self.numbered(float(value)) if known is None else known

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        called = func.overloadpacket.__name__.rstrip("_")
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor)]
        ours = any(t.untyped_storage().data_ptr() in self.terms for t in tensors)
        meant = (
            self.meant(called, args, kwargs) if ours and called != "_local_scalar_dense" else None
        )
        result = func(*args, **kwargs)
        if meant is not None and isinstance(result, torch.Tensor):
            self.know(result, meant)
        return result

    def meant(self, called: str, args: tuple, kwargs: dict[str, Any]) -> Term:
        if called in ("zeros_like", "ones_like", "empty_like"):
            return number(called == "ones_like")
        operands = [self.term(a) for a in args if isinstance(a, torch.Tensor | int | float)]
        scale = kwargs.get("alpha", kwargs.get("value", 1))
        factor = self.numbered(float(scale))
        first, last = operands[0], operands[-1]
        if called in UNARY:
            return apply(UNARY[called], first)
        if called in BINARY:
            return apply(BINARY[called], first, apply("*", factor, last))
        if called == "where":
            return apply("where", *operands)
        if called in ("addcmul", "addcdiv"):
            sign = "*" if called == "addcmul" else "/"
            product = apply(sign, apply("*", factor, operands[1]), operands[2])
            return apply("+", first, product)
        if called == "lerp":
            weight = operands[2] if len(operands) > 2 else self.term(kwargs["weight"])
            return apply("+", first, apply("*", weight, apply("-", operands[1], first)))
        if called == "square":
            return apply("*", first, first)
        if called == "rsqrt":
            return apply("/", number(1), apply("sqrt", first))
        if called == "reciprocal":
            return apply("/", number(1), first)
        if called in ("zero", "fill"):
            return number(0) if called == "zero" else last
        if called in SAME:
            return last if called == "copy" else first
        self.without_sign = called
        return number(math.nan)


def observed(subject: Subject) -> Formula | str:
    """The formula of a step; or why there is none.

    It is accepted only if it predicts steps from another state: at other step numbers, with two
    sets of options. If options do not explain all its numbers, it is tried at the same step with
    the same options.
    """
    own = {key: value for key, value in subject.numbers.items() if value}
    apart = {key: moved(key, value) for key, value in own.items()}
    numbers = Numbers(apart)
    formula = watched(subject.with_numbers(apart), numbers)
    # Several in a row: every second step, or every fifth, may be unlike the others.
    tried = [(own, STEP - 2), *((apart, STEP + later) for later in range(1, 7))]
    if numbers.unexplained and isinstance(formula, Formula):
        # Unexplained numbers are shown as they are in this step, with the options as given.
        formula = watched(subject, Numbers(own, numbers.found))
        tried = [(own, STEP)]
    if isinstance(formula, str):
        return formula
    if numbers.unexplained:
        formula = replace(formula, step=STEP)
    for options, step in tried:
        if not foretells(formula, subject.with_numbers(options), options, step):
            return "the operations seen do not explain another step"
    return formula


def moved(called: str, value: float) -> float:
    """Another value for an option, changed by a percentage that depends on the option's name. A
    value below 1 stays below 1."""
    share = (sum(map(ord, called)) % 89 + 5) / 1000
    return value * (1 - share) if value < 1 else value * (1 + share)


def started(subject: Subject, seed: int, steps: int) -> tuple[Any, torch.Tensor]:
    """An optimizer that has taken ``steps``, and its one parameter with the next gradient."""
    generator = torch.Generator().manual_seed(seed)
    param = torch.nn.Parameter(torch.tensor([0.7 + 0.1 * seed], dtype=torch.float64))
    optimizer = subject.make([param])
    for step in range(steps + 1):
        if step:
            subject.step(optimizer)
        param.grad = torch.randn(1, generator=generator, dtype=torch.float64)
    return optimizer, param


def slots(optimizer: Any, param: torch.Tensor) -> dict[str, torch.Tensor]:
    """The tensors of the state that have the shape of the parameter."""
    state = optimizer.state[param]
    return {
        key: value
        for key, value in state.items()
        if isinstance(value, torch.Tensor) and value.shape == param.shape
    }


def watched(subject: Subject, numbers: Numbers) -> Formula | str:
    optimizer, param = started(subject, 1, STEP - 1)
    mode = Watched(numbers)
    mode.know(param, name("p"))
    mode.know(param.grad, name("g"))  # type: ignore[arg-type]
    for slot, tensor in slots(optimizer, param).items():
        mode.know(tensor, name(letter(slot)))
    with mode:
        subject.step(optimizer)
    if mode.without_sign:
        return f"it uses torch's {mode.without_sign}, which has no notation here"
    found = {slot: mode.term(tensor) for slot, tensor in slots(optimizer, param).items()}
    found = {slot: term for slot, term in found.items() if term.operation}
    # In this order a term comes after those that it is computed from: they have fewer parts.
    order = sorted(found, key=lambda slot: len([*found[slot].parts()]))
    called = {found[slot]: name(letter(slot) + "'") for slot in order}
    results = {slot: rewritten(found[slot], called) for slot in order}
    results["param"] = rewritten(mode.term(param), called)
    return Formula(results)


def rewritten(term: Term, called: Mapping[Term, Term]) -> Term:
    """The term with each part that has a name in ``called`` replaced by that name. The term as a
    whole is never replaced."""
    known: dict[Term, Term] = dict(called)
    for part in term.parts():
        if part.operation and (part is term or part not in known):
            operands = tuple(known.get(operand, operand) for operand in part.operands)
            known[part] = Term(part.operation, operands)
    return known.get(term, term)


class Numbers:
    """Explains the numbers that occur in step ``STEP`` as terms of the options.

    ``found`` has the answers in order. Those of an earlier run of the same operations can be given
    as ``before`` and are used again; a number that they do not explain stays a number.
    """

    def __init__(self, options: Mapping[str, float], before: Sequence[Term] = ()) -> None:
        self.options: dict[str, Any] = {**options, "t": STEP}
        self.before: Iterator[Term] = iter(before)
        self.found: list[Term] = []
        self.unexplained = 0
        t, one = name("t"), number(1)
        named = [name(key) for key in options]
        powers = [apply("-", one, apply("^", each, t)) for each in named]
        self.simple = [*named, *(apply("-", one, each) for each in named), *powers]
        self.simple += [apply("sqrt", each) for each in powers]

    def __call__(self, value: float) -> Term:
        explained = next(self.before, None) or self.explained(value)
        self.unexplained += explained is None
        unnamed = explained is None or not [p for p in explained.parts() if p.name]
        self.found.append(number(value) if unnamed else explained)  # type: ignore[arg-type]
        return self.found[-1]

    def explained(self, value: float) -> Term | None:
        if value in (0, 1, -1, 2, 0.5) or not math.isfinite(value):
            return number(value)
        with np.errstate(all="ignore"):
            for term in itertools.chain(self.simple, self.products()):
                made = float(term.value(self.options))
                for sign in (1, -1):
                    if math.isclose(value, sign * made, rel_tol=1e-13):
                        return term if sign == 1 else Term("neg", (term,))
        return None

    def products(self) -> Iterator[Term]:
        """Products and quotients of two terms, such as learning rate times decay; 1 minus such a
        product; and ``lr * sqrt(x) / y``, as in Adam's corrected rate."""
        for x, y in itertools.permutations(self.simple, 2):
            yield from (apply("*", x, y), apply("/", x, y))
            yield apply("-", number(1), apply("*", x, y))
            if "lr" in self.options and x.operation == "sqrt":
                yield apply("/", apply("*", name("lr"), x), y)


def foretells(formula: Formula, subject: Subject, options: Mapping[str, float], step: int) -> bool:
    """Whether the formula predicts what this step, taken from another state, writes."""
    optimizer, param = started(subject, 2, step - 1)
    before = slots(optimizer, param)
    columns = {letter(slot): tensor.item() for slot, tensor in before.items()}
    columns |= {"p": param.item(), "g": param.grad.item(), "t": step}  # type: ignore[union-attr]
    expected = formula.values({**options, **columns})
    subject.step(optimizer)
    written = slots(optimizer, param) | {"param": param}
    return all(
        math.isclose(float(expected[slot]), written[slot].item(), rel_tol=1e-9)
        for slot in formula.results
    )
