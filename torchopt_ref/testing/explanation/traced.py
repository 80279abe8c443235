"""The formula of an optimizer of this package, traced from its rule."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from torchopt_ref.optim import Optimizer
from torchopt_ref.optim.engines.formula import Form, formula

from .terms import Formula, Term, apply, letter, name, number

NAMES = {
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.truediv: "/",
    operator.neg: "neg",
    operator.pow: "^",
    operator.gt: ">",
    torch.sqrt: "sqrt",
    torch.maximum: "max",
    torch.where: "where",
    "float": "float32",
}
"""What a rule's operations are called in a term."""


class Tracer(fx.proxy.GraphAppendingTracer):
    """Records operations on hyper-parameters, and decides comparisons by their values."""

    def __init__(self) -> None:
        super().__init__(fx.Graph())
        self.terms: dict[fx.Node, Term] = {}
        self.values: dict[str, float] = {}

    def number(self, called: str, value: float) -> fx.Proxy:
        node = self.graph.placeholder("number")
        self.terms[node] = name(called) if value else number(0.0)
        self.values[called] = float(value)
        return fx.Proxy(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        compare: Any = obj.node.target
        return bool(compare(*(term(arg, self.terms).value(self.values) for arg in obj.node.args)))


def term(value: Any, known: Mapping[fx.Node, Term]) -> Term:
    """A node of a graph, or a number, as a term."""
    if isinstance(value, fx.Proxy):
        value = value.node
    if not isinstance(value, fx.Node):
        return number(value)
    if value in known:
        return known[value]
    return apply(NAMES[value.target], *(term(arg, known) for arg in value.args))


def traced(optimizer: Optimizer) -> Formula | None:
    """The formula under the options of the first group, from the second step on.

    An option that is 0 is left out. None if the rule has no formula: it may branch on values.
    """
    rule, tracer = optimizer.rule, Tracer()
    group = dict(optimizer.param_groups[0])
    for option, value in group.items():
        if option == "betas":
            group[option] = tuple(
                tracer.number(f"beta{k}", beta) for k, beta in enumerate(value, start=1)
            )
        elif isinstance(value, int | float) and not isinstance(value, bool):
            group[option] = tracer.number(option, value)
    slots = tuple(rule.slots(group))
    scalars = rule.all_scalars(group, tracer.number("t", 2), 0, torch.float64)
    known = formula(Form.of(rule, slots, scalars))
    if known is None:
        return None
    terms = {node: term(scalars[key], tracer.terms) for key, node in known.scalars.items()}
    columns = ("param", "grad", *slots)
    terms |= {node: name(letter(c)) for node, c in zip(known.columns, columns, strict=True)}
    results: dict[str, Term] = {}  # in the order in which they are computed
    for node in (*known.alone, *known.calls):
        terms[node] = apply(NAMES[node.target], *(term(arg, terms) for arg in node.args))
        # What is written to a slot has a line of its own; later terms refer to it by name.
        for position, result in known.results.items():
            if result is node:
                results[columns[position]] = terms[node]
                terms[node] = name(letter(columns[position]) + "'")
    unchanged = {columns[k]: terms[node] for k, node in known.results.items()}
    results |= {slot: same for slot, same in unchanged.items() if slot not in results}
    return Formula({slot: results[slot] for slot in sorted(results, key="param".__eq__)})
