"""Optimizers as JavaScript, translated from their rules.

The update is the rule's ``formula``, the list of operations that becomes LLVM and Triton. What
depends on step and hyper-parameters alone is traced from the rule's ``scalars``. Where a rule
branches on a hyper-parameter (is the weight decay 0?), both branches are traced, each into a form
of its own. JavaScript's numbers are float64, and its ``+ - * /`` and ``Math.sqrt`` round as
IEEE-754 prescribes. Nothing prescribes how ``Math.pow`` rounds; in Chromium it is the C library's,
as Python's is.
"""

import functools
import inspect
import json
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import fx

from torchopt_ref.optim import Optimizer
from torchopt_ref.optim.engines.formula import Form, formula
from torchopt_ref.sides import KNOWN, optimizer_name

NEGATION, ATOM = 5, 6
"""The precedence of a sign, and of what needs no parentheses anywhere."""

EXPRESSIONS: dict[Any, tuple[str, int]] = {
    operator.add: ("{} + {}", 3),
    operator.sub: ("{} - {}", 3),
    operator.mul: ("{} * {}", 4),
    operator.truediv: ("{} / {}", 4),
    operator.neg: ("-{}", NEGATION),
    operator.pow: ("Math.pow({}, {})", ATOM),
    torch.sqrt: ("Math.sqrt({})", ATOM),
    torch.maximum: ("Math.max({}, {})", ATOM),
    torch.where: ("({} ? {} : {})", ATOM),
    "float": ("Math.fround({})", ATOM),
    operator.eq: ("{} === {}", 1),
    operator.ne: ("{} !== {}", 1),
    operator.lt: ("{} < {}", 2),
    operator.le: ("{} <= {}", 2),
    operator.gt: ("{} > {}", 2),
    operator.ge: ("{} >= {}", 2),
}
"""The operations of a rule, each with its form in JavaScript and the precedence of that."""

VALUE = "value"
"""The prefix of the names of values that have no name in the rule."""

NUMBERS = (bool, int, float, tuple)
"""The types of hyper-parameters that the page can change: a bool, a number, several numbers."""

RESERVED = (
    *("case", "const", "default", "delete", "enum", "function", "let", "new", "static"),
    *("switch", "this", "typeof", "var", "void"),
)
"""Words that a name may be in Python, but not in JavaScript."""

FLAGS = ("foreach", "fused", "capturable", "differentiable")
"""Options that choose how a step is run. Here there is only one way."""


@functools.cache
def optimizers() -> str:
    """A statement that defines ``OPTIMIZERS``: every known optimizer, by its name."""
    lines = (f"{json.dumps(known.name)}: {optimizer(known.ours)},\n" for known in KNOWN)
    return "const OPTIMIZERS = {\n" + "".join(lines) + "};\n"


def optimizer(cls: type[Optimizer]) -> str:
    """A JavaScript object: name, dialect, hyper-parameters, and the forms that they choose from.

    ``form(h, t, fresh)`` is the index of the form in step ``t``; ``fresh`` is 1 in a step that has
    just made slots, else 0. A form has ``slots(h)``, the names and initial values of the state, and
    ``step(h, t, fresh, param, grad, slots)``, which changes arrays of one length in place.
    """
    group = made(cls).defaults
    hyper = {name: value for name, value in group.items() if name not in (*FLAGS, "dialect")}
    names = inspect.signature(cls).parameters
    adjustable = {name: hyper[name] for name in names if isinstance(hyper.get(name), NUMBERS)}
    ways = list(every_way(lambda answers: traced(cls, hyper, adjustable, answers)))
    texts = list(dict.fromkeys(way.text for way in ways))
    chosen = decision([(way.asked, texts.index(way.text)) for way in ways])
    body = f"form: (h, t, fresh) => {chosen},\nforms: [\n" + "".join(f"{text},\n" for text in texts)
    read = set(re.findall(r"\bh\.(\w+)", body))
    # An option that nothing reads, such as one that matters in float32 only, needs no control.
    described = {n: description(cls, n, value) for n, value in adjustable.items() if n in read}
    return (
        f"{{\nname: {json.dumps(cls.__name__)}, dialect: {json.dumps(cls.dialect)},\n"
        f"hyper: {json.dumps(described)},\n{body}],\n}}"
    )


def made(cls: Any, **options: Any) -> Optimizer:
    return cls([torch.zeros(1)], **options)


def description(cls: type[Optimizer], name: str, value: Any) -> dict[str, Any]:
    """A hyper-parameter's default, and the range that the constructor's own checks allow.

    ``least`` is 0 where it may not be negative, and then ``zero`` says whether it may be 0;
    ``below`` is 1 where it must be below 1, ``most`` is 1 where it may not be above 1.
    """
    found: dict[str, Any] = {"value": value}
    if isinstance(value, bool):
        return found

    def accepts(number: float) -> bool:
        option = tuple(number for _ in value) if isinstance(value, tuple) else number
        try:
            made(cls, **{name: option})
        except ValueError:
            return False
        return True

    if not accepts(-1.0):
        found |= {"least": 0, "zero": accepts(0.0)}
    if not accepts(1.0):
        found["below"] = 1
    elif not accepts(2.0):
        found["most"] = 1
    return found


class Way(NamedTuple):
    """One way through a rule: the questions that it asked with their answers, and what it does."""

    asked: dict[str, bool]
    text: str


def every_way(trace: Callable[[Sequence[bool]], Way]) -> Iterator[Way]:
    """All ways through a rule. ``trace`` gets the first answers; all later ones are yes."""
    pending: list[tuple[bool, ...]] = [()]
    while pending:
        answers = pending.pop()
        way = trace(answers)
        yield way
        given = list(way.asked.values())
        pending += [(*given[:k], False) for k in range(len(answers), len(given))]


def decision(ways: Sequence[tuple[dict[str, bool], int]]) -> str:
    """An expression that asks the ways' questions, in their order, and gives the form's number.

    A question that makes no difference is left out.
    """
    if len({number for _, number in ways}) == 1:
        return str(ways[0][1])
    question = next(iter(ways[0][0]))
    yes, no = (
        decision(
            [
                ({q: a for q, a in asked.items() if q != question}, number)
                for asked, number in ways
                if asked[question] is answer
            ]
        )
        for answer in (True, False)
    )
    return yes if yes == no else f"({question} ? {yes} : {no})"


class Tracer(fx.proxy.GraphAppendingTracer):
    """Records operations on hyper-parameters, and answers the questions that branches ask."""

    def __init__(self, answers: Sequence[bool]) -> None:
        super().__init__(fx.Graph())
        self.answers = answers
        self.names: dict[fx.Node, str] = {}
        self.asked: dict[str, bool] = {}

    def number(self, name: str) -> fx.Proxy:
        node = self.graph.placeholder("number")
        self.names[node] = name
        return fx.Proxy(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        question = expression(obj.node, self.names)
        if question not in self.asked:
            place = len(self.asked)
            self.asked[question] = self.answers[place] if place < len(self.answers) else True
        return self.asked[question]


def traced(
    cls: type[Optimizer],
    hyper: Mapping[str, Any],
    adjustable: Mapping[str, Any],
    answers: Sequence[bool],
) -> Way:
    """The form of an optimizer under these answers."""
    tracer = Tracer(answers)
    group = dict(hyper)
    for name, value in adjustable.items():
        if isinstance(value, tuple):
            group[name] = tuple(tracer.number(f"h.{name}[{i}]") for i in range(len(value)))
        else:
            number = tracer.number(f"h.{name}")
            # A bool always chooses the form, whatever the rule does with it.
            group[name] = bool(number) if isinstance(value, bool) else number
    initial = cls.rule.slots(group)
    scalars = cls.rule.all_scalars(group, tracer.number("t"), tracer.number("fresh"), torch.float64)
    known = formula(Form.of(cls.rule, tuple(initial), scalars))
    if known is None:
        raise NotImplementedError(f"{optimizer_name(cls)} has no formula to translate")

    taken = {"h", "t", "fresh", "param", "grad", "slots", "i", *RESERVED}
    arrays = {slot: new_name(slot, taken) for slot in initial}
    text = Text(taken)
    for slot, array in arrays.items():
        text.add(f"const {array} = slots.{slot};")
    # What depends on numbers alone is computed once for all elements.
    names = dict(tracer.names)
    read = needed(known.inputs)
    for name, node in known.scalars.items():
        if node in read:
            names[node] = text.constant(name, value_of(scalars[name], tracer.names))
    text.assign(dict.fromkeys(known.inputs, VALUE), names)
    # What depends on tensors, for each element; all is read before anything is written.
    text.add("for (let i = 0; i < param.length; i++) {")
    text.margin = "  "
    columns = ["param", "grad", *arrays.values()]
    names |= {n: f"{c}[i]" for n, c in zip(known.columns, columns, strict=True)}
    text.assign({node: f"new_{columns[k]}" for k, node in known.results.items()}, names)
    for k, node in known.results.items():
        text.add(f"{columns[k]}[i] = {names[node]};")
    text.margin = ""
    text.add("}")

    starts = ", ".join(f"{slot}: {value_of(v, tracer.names)}" for slot, v in initial.items())
    head = f"slots: (h) => ({{{starts}}}),\nstep(h, t, fresh, param, grad, slots) {{"
    return Way(tracer.asked, "\n".join(["{", head, *text.lines, "}", "}"]))


class Text:
    """Lines that give names to values."""

    def __init__(self, taken: set[str]) -> None:
        self.taken, self.lines, self.margin = taken, list[str](), ""

    def add(self, line: str) -> None:
        self.lines.append(f"  {self.margin}{line}")

    def constant(self, name: str, value: str) -> str:
        name = new_name(name, self.taken)
        self.add(f"const {name} = {value};")
        return name

    def assign(self, results: Mapping[fx.Node, str], names: dict[fx.Node, str]) -> None:
        """Name the results as wanted, and before them every value that is used more than once."""
        order = [node for node in needed(results, names) if node not in names]
        uses = [arg for node in order for arg in node.args if isinstance(arg, fx.Node)]
        for node in sorted(order):
            if node in results or uses.count(node) > 1:
                wanted = results.get(node, VALUE)
                names[node] = self.constant(wanted, expression(node, names))


def new_name(wanted: str, taken: set[str]) -> str:
    """The wanted name, or a similar one if it is taken."""
    name, count = wanted, 0
    while name in taken:
        count += 1
        name = f"{wanted}{count}"
    taken.add(name)
    return name


def needed(results: Iterable[fx.Node], known: Iterable[fx.Node] = ()) -> list[fx.Node]:
    """The results and all that they are computed from; the inputs of ``known`` are left out."""
    found: dict[fx.Node, None] = {}
    stop, pending = set(known), list(results)
    while pending:
        node = pending.pop()
        if node not in found:
            found[node] = None
            pending += [] if node in stop else node.all_input_nodes
    return list(found)


def value_of(value: Any, names: Mapping[fx.Node, str]) -> str:
    return expression(value.node if isinstance(value, fx.Proxy) else value, names)


def expression(value: Any, names: Mapping[fx.Node, str]) -> str:
    return bound(value, names)[0]


def bound(value: Any, names: Mapping[fx.Node, str]) -> tuple[str, int]:
    """An expression, and its precedence."""
    if not isinstance(value, fx.Node):
        text = literal(value)
        return text, NEGATION if text.startswith("-") else ATOM
    if value in names:
        return names[value], ATOM
    if value.target not in EXPRESSIONS or value.kwargs:
        raise NotImplementedError(f"no JavaScript is known for {value.target}")
    pattern, strength = EXPRESSIONS[value.target]
    operands = []
    for position, arg in enumerate(value.args, start=1):
        text, tightness = bound(arg, names)
        # `a - b - c` is `(a - b) - c`; every other order of rounding stands in parentheses.
        last = position == len(value.args)
        loose = tightness < strength or (tightness == strength and last)
        operands.append(f"({text})" if loose and strength < ATOM else text)
    return pattern.format(*operands), strength


def literal(value: Any) -> str:
    """A number or bool of Python, in JavaScript."""
    if isinstance(value, bool):
        return json.dumps(value)
    text = repr(float(value)).removesuffix(".0")
    return text.replace("inf", "Infinity").replace("nan", "NaN")
