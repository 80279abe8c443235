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

OPERATIONS: frozenset[Callable[..., Any]] = frozenset(
    (
        *(operator.add, operator.sub, operator.mul, operator.truediv, operator.neg),
        *(torch.maximum, torch.sqrt, operator.gt, torch.where),
    )
)
"""The operations of formulas. Every kernel rounds each of them as IEEE-754 prescribes. A comparison
may only be the condition of ``where``."""

OPERANDS = frozenset((fx.Node, float, int, bool))
"""The types of the operands of ``OPERATIONS``. A tensor or NumPy scalar in a rule would bring in
its own dtype."""


class Form:
    """A rule with fixed options: the names of its slots and numbers, the values of its flags."""

    def __init__(
        self, rule: Rule, slots: tuple[str, ...], scalars: tuple[str, ...], flags: tuple[Any, ...]
    ) -> None:
        self.rule: Rule = rule
        self.slots: tuple[str, ...] = slots
        self.flags: dict[str, Any] = {
            n: flag for n, flag in zip(scalars, flags, strict=True) if flag is not None
        }
        self.numbers: tuple[str, ...] = tuple(name for name in scalars if name not in self.flags)

    @staticmethod
    def of(rule: Rule, slots: tuple[str, ...], scalars: Mapping[str, Any]) -> "Form":
        """The form of a call with these scalars; equal forms are one object."""
        flags = [each if each is True or each is False else None for each in scalars.values()]
        return only_form(rule, slots, tuple(scalars), tuple(flags))


only_form: Callable[..., Form] = functools.cache(Form)


@dataclass(frozen=True, eq=False)
class Formula:
    """The operations of a rule with its options, in order.

    ``columns`` stand for parameter, gradient and slots, ``scalars`` for the scalars. ``alone`` are
    the operations on scalars alone, ``calls`` those on tensors, which read the numbers ``inputs``;
    ``evaluate`` computes the ``inputs`` from the scalars of a step, in float64 (or as 0-dim
    tensors). ``results`` maps the position of a column to what is written there.
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
    """A function that computes the ``inputs`` from the scalars by the operations ``numbers``."""
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
    """The formula of a form; None if the rule has none, e.g. because it branches on values."""
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
        raise  # Such an error does not depend on the rule, and None would stay in the cache.
    except Exception:  # The rule needs the value of a stand-in: the eager engine takes it.
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
    """Whether a node keeps the rules for comparisons. A comparison is only the condition of
    ``where``, and it compares tensors. At least one of the two values to choose from is a tensor:
    from two numbers torch and NumPy would make tensors of different dtypes."""
    truths = [isinstance(arg, fx.Node) and arg.target is operator.gt for arg in node.args]
    if node.target is not torch.where:
        return not any(truths)
    tensors = [isinstance(arg, fx.Node) and arg not in numeric for arg in node.args]
    return truths == [True, False, False] and tensors[0] and any(tensors[1:])
