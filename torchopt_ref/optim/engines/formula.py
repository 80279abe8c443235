"""A rule taken apart: what it computes from numbers alone, and what from vectors."""

import functools
from typing import Any, NamedTuple

import torch
from torch import fx

from .. import exact
from ..rule import Rule


class Form(NamedTuple):
    """A rule under fixed options: names of its slots and numbers, and the flags of its call."""

    rule: Rule
    slots: tuple[str, ...]
    numbers: tuple[str, ...]
    flags: tuple[tuple[str, bool], ...]


class Formula(NamedTuple):
    """The operations of a rule with its options, in order.

    ``piece`` stands for parameter, gradient and slots, ``results`` for the new parameter and slots,
    ``names`` for the scalars. ``numbers`` need no vector; ``calls`` do, and ``inputs`` are the
    numbers that they read.
    """

    piece: list[fx.Node]
    names: dict[fx.Node, str]
    numbers: list[fx.Node]
    calls: list[fx.Node]
    inputs: list[fx.Node]
    results: list[fx.Node]

    def evaluate(self, scalars: dict[str, Any]) -> dict[fx.Node, Any]:
        """The numbers of a step, as Python computes them."""
        values: dict[Any, Any] = {node: scalars[name] for node, name in self.names.items()}
        for node in self.numbers:
            function: Any = exact.sqrt if node.target is torch.sqrt else node.target
            values[node] = function(*(values.get(arg, arg) for arg in node.args))
        return values

    def vector_part(self) -> fx.GraphModule:
        """``calls`` as a function of ``piece`` and ``inputs``, which returns ``results``."""
        graph = fx.Graph()
        copies = {node: graph.placeholder(node.name) for node in (*self.piece, *self.inputs)}
        for node in self.calls:
            copies[node] = graph.node_copy(node, copies.__getitem__)
        graph.output(tuple(copies[node] for node in self.results))
        return fx.GraphModule({}, graph)


@functools.cache
def formula(form: Form) -> Formula | None:
    """The formula of a form; None where it cannot be traced, as a rule that looks at values."""
    rule, slots, numbers, flags = form
    graph = fx.Graph()
    tracer = fx.proxy.GraphAppendingTracer(graph)
    piece = [graph.placeholder(name) for name in ("param", "grad", *slots)]
    names = {graph.placeholder(name): name for name in numbers}
    param, grad, *values = (fx.Proxy(node, tracer) for node in piece)
    scalars: dict[str, Any] = {name: fx.Proxy(node, tracer) for node, name in names.items()}
    try:
        new_param, new = rule(
            param,  # type: ignore[arg-type]
            grad,  # type: ignore[arg-type]
            dict(zip(slots, values, strict=True)),  # type: ignore[arg-type]
            **scalars,
            **dict(flags),
        )
    except (AttributeError, TypeError, fx.proxy.TraceError):
        return None
    results: list[Any] = [new_param, *(new[name] for name in slots)]
    if not all(isinstance(result, fx.Proxy) for result in results):
        return None
    if any(node.kwargs or node.op not in ("placeholder", "call_function") for node in graph.nodes):
        return None
    numeric = set(names)
    parts: dict[bool, list[fx.Node]] = {True: [], False: []}
    for node in graph.nodes:
        if node.op == "call_function":
            alone = all(arg in numeric for arg in node.all_input_nodes)
            parts[alone].append(node)
            numeric.update([node] * alone)
    read = dict.fromkeys(arg for node in parts[False] for arg in node.all_input_nodes)
    inputs = [arg for arg in read if arg in numeric]
    return Formula(
        piece, names, parts[True], parts[False], inputs, [result.node for result in results]
    )
