"""Plain memory for tensors that kernels do not take as they are: shards, complex numbers, gradients
in another memory order than their parameter."""

from array import array
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from .memory import PLAIN, UNFIT, Places, inspect, overlap


def in_memory(
    columns: list[list[Tensor]], plain: bool, unscales: bool
) -> tuple[list[list[Tensor]], Places]:
    """The columns, with a view or copy in plain memory for each tensor that kernels do not take as
    it is, or an empty tensor of a dtype for no kernel if there can be none; and where they lie.

    ``plain``: whether all tensors are of the types in ``PLAIN``; ``unscales``: whether the step
    writes the gradients, too.
    """
    unfit: Iterable[int] = range(len(columns[0]))
    given = columns
    if not plain:
        columns = unsharded(columns, unscales)
        plain = PLAIN.issuperset(map(type, chain(*columns)))
    if plain and not any(map(Tensor.is_neg, chain(*columns))):
        seen = inspect(columns)
        if UNFIT not in seen.kinds:
            return columns, seen
        unfit = [position for position in unfit if seen.kinds[position] == UNFIT]
    columns = [[*column] for column in columns]
    for position in unfit:
        made = as_memory([column[position] for column in columns], unscales)
        for column, tensor in zip(columns, made, strict=True):
            column[position] = tensor
    seen = inspect(columns)
    return columns, seen._replace(overlap=seen.overlap or overlaps_others(seen, given))


def as_memory(tensors: list[Tensor], unscales: bool) -> list[Tensor]:
    """A parameter, its gradient and slots as plain memory; if they cannot be, empty tensors of a
    dtype that no kernel takes.

    Complex numbers are seen as pairs of reals. A gradient that lies in memory in another order than
    its parameter is copied; if the step writes it, the row cannot be plain memory.
    """
    nothing = [torch.empty(0, dtype=torch.int8, device="cpu")] * len(tensors)
    if not PLAIN.issuperset(map(type, tensors)):
        return nothing
    param, grad, *slots = (tensor.detach() for tensor in tensors)
    if any(each.is_neg() or each.is_conj() or each.shape != grad.shape for each in (param, *slots)):
        return nothing
    if grad.layout is not torch.strided:
        return nothing
    if grad.is_neg() or grad.is_conj() or grad.stride() != param.stride():
        if unscales:
            return nothing
        grad = torch.empty_like(param, dtype=grad.dtype).copy_(grad)
    row = [param, grad, *slots]
    return [torch.view_as_real(each) for each in row] if param.is_complex() else row


def unsharded(columns: list[list[Any]], unscales: bool) -> list[list[Tensor]]:
    """The columns with this process's shards in place of DTensors: a rule is elementwise, so each
    process updates its shards alone. A gradient that is sharded differently, or still to be summed,
    is first redistributed to the placements of its parameter."""
    if not torch.distributed.is_available():
        return columns
    from torch.distributed.tensor import DTensor

    def local(row: tuple[Any, ...]) -> Sequence[Tensor]:
        if not all(isinstance(each, DTensor) for each in row):
            return row
        param, grad, *slots = row
        mesh, placements = param.device_mesh, param.placements
        # ``is`` first, since comparing two meshes takes longer.
        one_mesh = all(each.device_mesh is mesh or each.device_mesh == mesh for each in row)
        if not one_mesh or any(placement.is_partial() for placement in placements):
            return row
        if any(each.placements != placements for each in slots):
            return row
        if grad.placements != placements:
            if unscales:
                return row
            grad = grad.redistribute(mesh, placements)
        return [param.to_local(), grad.to_local(), *[each.to_local() for each in slots]]

    with torch.no_grad():
        rows = [local(row) for row in zip(*columns, strict=True)]
    return [list(column) for column in zip(*rows, strict=True)]


def overlaps_others(seen: Places, given: list[list[Tensor]]) -> bool:
    """Whether a tensor that no kernel takes shares memory with any other tensor."""
    unfit = [position for position, kind in enumerate(seen.kinds) if kind == UNFIT]
    others = [column[position] for position in unfit for column in given]
    extents = [extent(each) for each in others if type(each) in PLAIN and each.numel() > 0]
    starts, ends = zip(*extents, strict=True) if extents else ((), ())
    half = len(seen.spans) // 2
    return overlap(seen.spans[:half] + array("q", starts) + seen.spans[half:] + array("q", ends))


def extent(tensor: Tensor) -> tuple[int, int]:
    """Where a tensor begins and ends in memory."""
    if tensor.layout is not torch.strided:
        return 0, 0
    steps = ((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start = tensor.data_ptr()
    return start, start + (1 + sum(steps)) * tensor.element_size()
