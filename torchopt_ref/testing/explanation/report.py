"""An explanation as a person reads it."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torchopt_ref.written import counted, number

from .parting import STEPS, Comparison, Together
from .terms import LETTERS, letter

WIDTH = 80
MARKS = {"same": "=", "rounding": "~", "other": "!", "alone": " "}


@dataclass(frozen=True)
class Difference:
    """A topic on which two optimizers differ. ``needs`` is the option, used by neither, without
    which it makes no difference, or None; ``rounding``: only the last digits differ."""

    topic: str
    a: str
    b: str
    needs: str | None
    rounding: bool


@dataclass(frozen=True)
class Option:
    """An option whose values differ; None where a side does not have it. ``a_name`` and ``b_name``:
    what the class or its own framework calls it, if that is another name."""

    name: str
    a: Any
    b: Any
    a_name: str | None
    b_name: str | None


@dataclass(frozen=True)
class Operation:
    """The parts in which both formulas for ``result`` differ.

    ``a_value`` and ``b_value`` are their values where the parameters part, if known. If both parts
    are just the name of a slot, the formulas agree, but that slot differs before the step.
    """

    result: str
    a: str
    b: str
    a_value: float | None
    b_value: float | None


@dataclass(frozen=True)
class Explanation:
    """What ``explain`` found; ``print`` shows it.

    ``alike`` has what both do, by topic; ``undecided`` what no probe could tell. ``options`` are
    those that differ; ``numbers`` the values that both were given, except for ``as_given``.
    ``formulas`` has both formulas, line by line; it is None if one is not known, and
    ``without_formula`` says why. ``together`` is how both went on hostile gradients, ``operations``
    what makes them part. ``effects`` (with the same numbers) and ``as_given`` (with the options as
    given) have the relative difference after the first update and after 100, for each size of
    ordinary gradients.
    """

    a: str
    b: str
    differences: list[Difference]
    alike: dict[str, str]
    undecided: list[str]
    options: list[Option]
    numbers: dict[str, float]
    formulas: Comparison | None
    without_formula: dict[str, str]
    together: Together
    operations: list[Operation]
    effects: dict[float, tuple[float, float]]
    as_given: dict[float, tuple[float, float]]

    @property
    def nothing_differs(self) -> bool:
        """Whether all is the same: the options, what the probes tell, and every bit."""
        return not (self.options or self.differences or self.together.first_bits)

    @property
    def cancelled(self) -> bool:
        """Whether the optimizers part only by rounding, which is large where numbers cancel: both
        formulas have the same value, and both states were the same before the step."""
        return self.formulas is not None and bool(self.together.parting) and not self.operations

    def verdict(self) -> str:
        """In a sentence or two, what differs."""
        looked = (
            f"{counted(STEPS, 'step')} of hostile gradients, "
            f"{counted(self.together.elements, 'element')}"
        )
        now = [each.topic for each in self.differences if not (each.needs or each.rounding)]
        digits = [each.topic for each in self.differences if each.rounding and not each.needs]
        later = [f"{each.topic} (with {each.needs})" for each in self.differences if each.needs]
        if self.together.parting is not None and not now and not self.cancelled:
            switched = [
                option.name
                for option in self.options
                if option.a is not option.b and (option.a is True or option.b is True)
            ]
            now = switched or ["what no probe tells: see where they part"]
        if now:
            text = f"They differ in {', '.join([*now, *digits])}."
        elif digits or self.together.first_bits is not None:
            why = f" ({', '.join(digits)})" if digits else ""
            large = ", which is large where numbers cancel" if self.cancelled else ""
            text = f"With the same numbers they differ by rounding only{why}{large}, in {looked}."
        elif self.options or later:
            text = f"With the same numbers nothing differs: every bit is the same in {looked}."
        else:
            text = (
                "Nothing differs: the same options, the same answers to "
                f"{counted(len(self.alike), 'probe')}, every bit the same in {looked}."
            )
        if later:
            text += f" They would differ in {', '.join(later)}."
        other = [each.name for each in self.options if None not in (each.a, each.b)]
        return text + (f" Their options differ: {', '.join(other)}." if other else "")

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> Iterator[str]:
        """The page, at most 80 columns wide."""
        yield from wrapped("A  ", self.a)
        yield from wrapped("B  ", self.b)
        yield ""
        yield from wrapped("", self.verdict())
        yield from ("", "What they do")
        for each in self.differences:
            needs = f" (with {each.needs})" if each.needs else ""
            yield f"  {each.topic}{needs}"
            yield from wrapped("    A  ", each.a)
            yield from wrapped("    B  ", each.b)
        if self.alike:
            yield from wrapped("  alike: ", ", ".join(self.alike), "    ")
        if self.undecided:
            yield from wrapped("  not decided: ", "; ".join(self.undecided), "    ")
        yield from self.option_lines()
        yield from self.formula_lines()
        yield from self.parting_lines()
        yield from self.effect_lines()

    def option_lines(self) -> Iterator[str]:
        both = [each for each in self.options if each.a is not None and each.b is not None]
        if both:
            yield from ("", f"Options that differ{'':<9} {'A':<14} B")
        elif self.options:
            yield from ("", "Options that differ")
        for each in both:
            theirs = ", ".join(dict.fromkeys(filter(None, (each.a_name, each.b_name))))
            called = f"{each.name} ({theirs})" if theirs else each.name
            yield f"  {called:<26} {shown(each.a):<14} {shown(each.b)}"
        for side, mine, yours in (("A", "a", "b"), ("B", "b", "a")):
            alone = [each for each in self.options if getattr(each, yours) is None]
            texts = [f"{each.name}={shown(getattr(each, mine))}" for each in alone]
            if texts:
                yield from wrapped(f"  only {side} has: ", ", ".join(texts), "    ")

    def formula_lines(self) -> Iterator[str]:
        given = ", ".join(f"{key}={shown(value)}" for key, value in self.numbers.items())
        yield ""
        yield from wrapped("With the same numbers: ", given or "they share none", "  ")
        for side, why in self.without_formula.items():
            yield from wrapped("", f"No formula is known of {side}: {why}.")
        if self.formulas is None:
            return
        slots = {line.result for line in self.formulas.lines if line.result != "param"}
        legend = ["p parameter", "g gradient"]
        legend += [f"{letter(slot)} {slot}" for slot in LETTERS if slot in slots]
        yield from wrapped("  ", "; ".join([*legend, "t step; ' new"]))
        yield "  = the same   ~ the same but for rounding   ! another"
        for side, called in zip("AB", self.formulas.called, strict=True):
            for slot, own in called.items():
                yield f"  {side} calls {letter(slot)} {own}"
        for side, step in zip("AB", self.formulas.steps, strict=True):
            if step is not None:
                yield f"  the numbers of {side} are those of step {step}"
        for slot in self.formulas.negated:
            yield f"  B keeps {letter(slot)} with the other sign"
        for line in self.formulas.lines:
            head = f"  {MARKS[line.kind]} {letter(line.result)}'"
            if line.kind == "same":
                yield from wrapped(f"{head:<9}    ", str(line.a))
                continue
            for side, term in (("A", line.a), ("B", line.b)):
                yield from wrapped(f"{head:<9} {side}  ", str(term) if term else "-")
                head = ""

    def parting_lines(self) -> Iterator[str]:
        parting = self.together.parting
        if parting is None:
            looked = f"On {counted(STEPS, 'step')} of hostile gradients"
            yield ""
            if self.together.first_bits is None:
                yield from wrapped("", f"{looked} every bit of the parameters is the same.")
            else:
                most = counted(max(math.ceil(self.together.roundings), 1), "rounding")
                yield from wrapped(
                    "",
                    f"{looked} the parameters differ by rounding only, first at step "
                    f"{self.together.first_bits}, by at most {most} of a step.",
                )
            if (step := self.together.first_overflow) is not None:
                yield from wrapped("", f"At step {step} only one of them is finite somewhere.")
            return
        place = f"[{', '.join(map(str, parting.index))}]" if parting.index else ""
        yield ""
        yield from wrapped(
            "",
            f"On hostile gradients the parameters part at step {parting.step}, most of all "
            f"{parting.tensor}{place}, whose gradients are {parting.kind}: "
            f"g = {parting.grad:.8g}, p = {parting.before:.8g} becomes",
        )
        yield f"  A  {parting.a:.8g}"
        yield f"  B  {parting.b:.8g}"
        if self.cancelled:
            yield "Both formulas have the same value: numbers that were rounded cancel."
        for each in self.operations:
            start = each.a == each.b == each.result
            what = f"{each.result} before that step:"
            yield what if start else f"The operation, in {each.result}':"
            for side, text, value in (("A", each.a, each.a_value), ("B", each.b, each.b_value)):
                there = "" if value is None else f" = {value:.8g}"
                yield from wrapped(f"  {side}  ", f"{text}{there}")

    def effect_lines(self) -> Iterator[str]:
        if self.nothing_differs:
            return
        yield from ("", "Difference on ordinary gradients, relative to A's way")
        yield f"{'':<30} {'after 1 step':>14} {f'after {STEPS} steps':>18}"
        for words, effects in (("the same numbers", self.effects), ("as given", self.as_given)):
            for scale, (first, last) in effects.items():
                row = f"  {words}, g ~ {number(scale, 1)}"
                yield f"{row:<30} {share(first):>14} {share(last):>18}"

    def as_json(self) -> dict[str, Any]:
        """The same for machines, terms as text."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in ("differences", "options", "operations"):
            found[name] = [dataclasses.asdict(each) for each in found[name]]
        found["together"] = dataclasses.asdict(self.together)
        if self.formulas is not None:
            found["formulas"] = {
                "lines": [line.as_json() for line in self.formulas.lines],
                "called": self.formulas.called,
                "negated": self.formulas.negated,
                "steps": self.formulas.steps,
            }
        for name in ("effects", "as_given"):
            found[name] = [
                {"gradients": scale, "first": first, "last": last}
                for scale, (first, last) in found[name].items()
            ]
        found |= {"verdict": self.verdict(), "nothing_differs": self.nothing_differs}
        return plain(found)


def plain(value: Any) -> Any:
    """For JSON, which has no NaN and no infinity: those as text."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


def shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def share(value: float) -> str:
    return "0" if value == 0 else f"{value:.2g}"


def wrapped(head: str, text: str, margin: str | None = None) -> list[str]:
    """The text after ``head``, wrapped. Further lines begin with ``margin``; without it they are
    indented as far as the text of the first line."""
    margin = " " * len(head) if margin is None else margin
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=head,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [head.rstrip()]
