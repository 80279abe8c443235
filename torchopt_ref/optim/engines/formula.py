"""A rule taken apart: what it computes from numbers alone, and what from tensors."""

import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from .. import exact
from ..rule import Rule, unscaled

OPERATIONS = frozenset(
    (
        *(operator.add, operator.sub, operator.mul, operator.truediv, operator.neg),
        *(torch.maximum, torch.sqrt, operator.gt, torch.where),
    )
)
"""What a formula may be made of. Every kernel rounds each of them as IEEE-754 prescribes. A
comparison may only be what ``where`` chooses by."""

OPERANDS = frozenset((fx.Node, float, int, bool))
"""What they may be applied to. A tensor or a NumPy scalar would bring its own dtype into it."""


class Form:
    """A rule under fixed options: names of its slots and numbers, and the flags of its call."""

    def __init__(
        self, rule: Rule, slots: tuple[str, ...], scalars: tuple[str, ...], flags: tuple[Any, ...]
    ) -> None:
        self.rule, self.slots = rule, slots
        self.flags = {n: flag for n, flag in zip(scalars, flags, strict=True) if flag is not None}
        self.numbers = tuple(name for name in scalars if name not in self.flags)

    @staticmethod
    def of(rule: Rule, slots: tuple[str, ...], scalars: Mapping[str, Any]) -> "Form":
        """The form of a call with these scalars; always the same object for the same form."""
        flags = [each if each is True or each is False else None for each in scalars.values()]
        return only_form(rule, slots, tuple(scalars), tuple(flags))


only_form = functools.cache(Form)


@dataclass(frozen=True, eq=False)
class Formula:
    """The operations of a rule with its options, in order.

    ``columns`` stand for parameter, gradient and slots; ``results`` maps the position of a column
    to what is written there. ``calls`` need tensors, and ``inputs`` are the numbers that they read;
    ``evaluate`` computes these from the scalars of a step, in float64 (or as 0-dim tensors):
    ``scalars`` stand for them, and ``alone`` are the operations that need nothing else.
    """

    columns: list[fx.Node]
    scalars: dict[str, fx.Node]
    alone: list[fx.Node]
    calls: list[fx.Node]
    inputs: list[fx.Node]
    results: dict[int, fx.Node]
    evaluate: Callable[[Mapping[str, Any]], list[Any]]


def evaluator(
    names: dict[str, fx.Node], numbers: list[fx.Node], inputs: list[fx.Node]
) -> Callable[[Mapping[str, Any]], list[Any]]:
    """A function from the scalars of these names to the ``inputs``, by way of the ``numbers``."""
    graph = fx.Graph()
    copies = {node: graph.placeholder(node.name) for node in names.values()}
    for node in numbers:
        copies[node] = graph.node_copy(node, copies.__getitem__)
        if node.target is torch.sqrt:
            copies[node].target = exact.sqrt
    graph.output([copies[node] for node in inputs])
    function, order = fx.GraphModule({}, graph).forward, tuple(names)
    return lambda scalars: function(*[scalars[name] for name in order])


@functools.cache
def formula(form: Form) -> Formula | None:
    """The formula of a form; None where there is none, as for a rule that looks at values."""
    rule, slots = form.rule, form.slots
    graph = fx.Graph()
    tracer = fx.proxy.GraphAppendingTracer(graph)
    columns = [graph.placeholder(name) for name in ("param", "grad", *slots)]
    names = {name: graph.placeholder(name) for name in form.numbers}
    param, grad, *values = (fx.Proxy(node, tracer) for node in columns)
    scalars: dict[str, Any] = {name: fx.Proxy(node, tracer) for name, node in names.items()}
    scalars |= form.flags
    try:
        own_grad, scalars = unscaled(grad, scalars)
        new_param, new = rule(
            param,  # type: ignore[arg-type]
            own_grad,
            dict(zip(slots, values, strict=True)),  # type: ignore[arg-type]
            **scalars,
        )
        written: dict[int, Any] = {0: new_param} | ({} if own_grad is grad else {1: own_grad})
        written |= {position: new[name] for position, name in enumerate(slots, 2)}
    except (MemoryError, RecursionError):
        raise  # It says nothing of the rule, and None would be cached for good.
    except Exception:  # The rule asks a stand-in for its value: eager will run it on tensors.
        return None
    if not all(isinstance(result, fx.Proxy) for result in written.values()):
        return None
    calls = [node for node in graph.nodes if node.op != "placeholder"]
    if any(node.kwargs or node.target not in OPERATIONS for node in calls):
        return None
    if not OPERANDS.issuperset(type(arg) for node in calls for arg in node.args):
        return None
    numeric = set(names.values())
    alone: list[fx.Node] = []
    for node in calls:
        if all(arg in numeric for arg in node.all_input_nodes):
            alone.append(node)
            numeric.add(node)
    if not all(chooses_rightly(node, numeric) for node in calls):
        return None
    calls = [node for node in calls if node not in numeric]
    read = dict.fromkeys(arg for node in calls for arg in node.all_input_nodes if arg in numeric)
    results = {position: result.node for position, result in written.items()}
    if any(node in numeric or node.target is operator.gt for node in results.values()):
        return None
    inputs = list(read)
    return Formula(columns, names, alone, calls, inputs, results, evaluator(names, alone, inputs))


def chooses_rightly(node: fx.Node, numeric: set[fx.Node]) -> bool:
    """Whether tensors are compared only for ``where`` to choose by, and ``where`` chooses between
    values of which one at least is a tensor: torch and NumPy give two numbers different dtypes."""
    truths = [isinstance(arg, fx.Node) and arg.target is operator.gt for arg in node.args]
    if node.target is not torch.where:
        return not any(truths)
    tensors = [isinstance(arg, fx.Node) and arg not in numeric for arg in node.args]
    return truths == [True, False, False] and tensors[0] and any(tensors[1:])
