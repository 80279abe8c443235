"""The eager engine: updates parameters of any kind, one after the other."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from ..rule import Rule, unscaled
from ..torch_private import is_watched
from .formula import Form, Formula, formula
from .memory import PLAIN

EXACT = (np.dtype(np.float32), np.dtype(np.float64))

ARRAYS: dict[Any, Any] = {torch.sqrt: np.sqrt, torch.maximum: np.maximum, torch.where: np.where}


def update(
    rule: Rule, slots: tuple[str, ...], scalars: Mapping[str, Any]
) -> Callable[[list[Tensor]], None]:
    """A function that takes one step, in place, of a parameter, its gradient and its slots.

    float32 and float64 on the CPU are computed by NumPy, at a third of the cost of torch's
    operations, which compute everything else.
    """
    by_operations = functools.partial(by_torch, rule, slots, scalars)
    recorded = torch.compiler.is_compiling() or torch.is_grad_enabled() or is_watched()
    known = None if recorded else formula(Form.of(rule, slots, scalars))
    if known is None:
        return by_operations
    function, numbers = array_function(known), known.evaluate(scalars)
    if any(isinstance(number, Tensor) for number in numbers):
        return by_operations

    def step(columns: list[Tensor]) -> None:
        arrays = as_arrays(columns)
        if arrays is None:
            by_operations(columns)
            return
        results = function(*arrays, *numbers)
        for position, result in zip(known.results, results, strict=True):
            arrays[position][...] = result
        notice_writes([columns[position] for position in known.results])

    return step


def notice_writes(tensors: list[Tensor]) -> None:
    """Tell autograd of writes that it has not seen: a backward pass that needs the old values then
    raises an error."""
    try:
        torch.autograd.graph.increment_version(tensors)
    except RuntimeError:
        torch.autograd.graph.increment_version([t for t in tensors if not t.is_inference()])


def by_torch(
    rule: Rule, slots: tuple[str, ...], scalars: Mapping[str, Any], columns: list[Tensor]
) -> None:
    """One step by torch's operations.

    Complex tensors are computed as pairs of reals; float16 and bfloat16 in float32, rounded once to
    nearest even when stored; tensors of several dtypes in the widest. With a sparse (COO)
    gradient only the elements that it contains are updated.
    """
    names_elements = columns[1].is_sparse and not columns[0].is_sparse
    dense = [columns[0], *columns[2:]] if names_elements else columns
    targets = [as_real(tensor) for tensor in dense]
    if names_elements:
        touched = columns[1].coalesce()
        at = tuple(touched.indices())
        read = [target[at] for target in targets]
        read.insert(1, as_real(touched.values()))
    else:
        read = targets
    wide = compute_dtype(read)
    param, grad, *old = (readable(tensor, wide) for tensor in read)
    own_grad, own_scalars = unscaled(grad, scalars)
    new_param, new = rule(param, own_grad, dict(zip(slots, old, strict=True)), **own_scalars)
    results = [
        result.clone() if any(result is each for each in read) else result
        for result in (new_param, *(new[name] for name in slots))
    ]
    if names_elements:
        for target, result in zip(targets, results, strict=True):
            target[at] = result.to(target.dtype)
        return
    if own_grad is not grad:
        targets[1].copy_(own_grad)
    for target, result in zip((targets[0], *targets[2:]), results, strict=True):
        target.copy_(result)


def as_arrays(columns: list[Tensor]) -> list[np.ndarray] | None:
    """The tensors' memory as NumPy arrays. None where NumPy cannot use it, or where dtypes differ
    or are narrower than float32, so that something would have to be rounded."""
    if not PLAIN.issuperset(map(type, columns)):
        return None
    try:
        arrays = [
            each.numpy() if not each.requires_grad else each.detach().numpy() for each in columns
        ]
    except (RuntimeError, TypeError):
        return None
    first = arrays[0]
    if first.dtype not in EXACT or any(each.dtype != first.dtype for each in arrays):
        return None
    if any(0 in each.strides for each in (first, *arrays[2:])):
        return None  # Several elements share one place: torch refuses to write there.
    return arrays if all(each.shape == first.shape for each in arrays) else None


@functools.cache
def array_function(known: Formula) -> Callable[..., tuple[np.ndarray, ...]]:
    """The formula as a function of arrays and of its ``inputs``; it returns the ``results``."""
    graph = fx.Graph()
    copies = {node: graph.placeholder(node.name) for node in (*known.columns, *known.inputs)}
    for node in known.calls:
        copies[node] = graph.node_copy(node, copies.__getitem__)
        copies[node].target = ARRAYS.get(node.target, node.target)
    # A result that is another column, unchanged, is copied: that column may be written first.
    results = [
        copies[node] if node in known.calls or node is known.columns[position]
        else graph.call_function(np.copy, (copies[node],))
        for position, node in known.results.items()
    ]  # fmt: skip
    graph.output(tuple(results))
    return fx.GraphModule({}, graph).forward


def compute_dtype(tensors: Iterable[Tensor]) -> torch.dtype:
    """The precision in which these tensors are updated; a complex number counts as two reals."""
    wide = any(tensor.dtype in (torch.float64, torch.complex128) for tensor in tensors)
    return torch.float64 if wide else torch.float32


def as_real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def readable(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in ``dtype``, as a rule reads it. If autograd records, it is a copy: autograd
    keeps what was read, and the tensor itself will be overwritten."""
    if tensor.dtype != dtype:
        return tensor.to(dtype)
    return tensor.clone() if torch.is_grad_enabled() else tensor
