"""Tensors seen as vectors, so that many can be handled as one."""

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..rule import Rule
from .bucket import Bucket
from .formula import Form
from .per_tensor import as_real

if TYPE_CHECKING:
    from .native import Table

PLAIN = (Tensor, torch.nn.Parameter)

Piece = list[Tensor]
"""A parameter, its gradient and its slots as vectors that list their elements in one order."""


class Vectors(NamedTuple):
    """A bucket as vectors; ``slots`` names those of a piece after the first two.

    ``table`` is what native code takes of the pieces, where it is known already.
    """

    pieces: list[Piece]
    slots: tuple[str, ...]
    scalars: dict[str, Any]
    table: "Table | None" = None

    def form(self, rule: Rule) -> Form:
        flags = tuple(each for each in self.scalars.items() if isinstance(each[1], bool))
        numbers = tuple(name for name in self.scalars if name not in dict(flags))
        return Form(rule, self.slots, numbers, flags)


def as_vectors(bucket: Bucket) -> tuple[Vectors, list[int]]:
    """The bucket as vectors, and the positions of parameters that cannot be seen as a vector.

    Those are tensor subclasses and parameters whose elements overlap or have gaps between them.
    A gradient that lies in memory in another order than its parameter is copied.
    """
    pieces, others = [], []
    tied = overlapping(bucket.params)
    for position, row in enumerate(
        zip(bucket.params, bucket.grads, *bucket.slots.values(), strict=True)
    ):
        piece = None if row[0].data_ptr() in tied else as_piece(row)
        if piece is None:
            others.append(position)
        else:
            pieces.append(piece)
    return Vectors(pieces, tuple(bucket.slots), bucket.scalars), others


def overlapping(params: list[Tensor]) -> set[int]:
    """The addresses of parameters that share memory with others: one sees what another writes."""
    if any(type(param) not in PLAIN for param in params):
        return set()
    spans = sorted((p.data_ptr(), p.data_ptr() + extent(p)) for p in params if p.numel() > 0)
    tied: set[int] = set()
    reach, owner = 0, 0
    for start, end in spans:
        if start < reach:
            tied |= {owner, start}
        if end > reach:
            reach, owner = end, start
    return tied


def extent(tensor: Tensor) -> int:
    """Bytes from the first element to the end of the last."""
    steps = ((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (1 + sum(steps)) * tensor.element_size()


def as_vector(grad: Tensor) -> Tensor:
    """A gradient as plain memory, whatever autograd left it as."""
    return grad.reshape(-1).contiguous().resolve_neg()


def as_piece(tensors: tuple[Tensor, ...]) -> Piece | None:
    if any(type(each) not in PLAIN or each.shape != tensors[0].shape for each in tensors):
        return None
    if all(tensor.is_contiguous() and not tensor.is_complex() for tensor in tensors):
        param, grad, *slots = (tensor.detach().view(-1) for tensor in tensors)
        return [param, as_vector(grad), *slots]
    param, grad, *slots = (as_real(tensor.detach()) for tensor in tensors)
    order = sorted(range(param.ndim), key=param.stride, reverse=True)
    ordered = [tensor.permute(order) for tensor in (param, *slots)]
    if not all(tensor.is_contiguous() for tensor in ordered):
        return None
    param, *slots = (tensor.view(-1) for tensor in ordered)
    return [param, as_vector(grad.permute(order)), *slots]


def is_plain(piece: Piece, dtypes: tuple[torch.dtype, ...]) -> bool:
    """Whether it is what kernels are compiled for, which they do not check themselves."""
    size = piece[0].numel()
    return all(
        vector.dtype == dtype and vector.numel() == size and vector.is_contiguous()
        for vector, dtype in zip(piece, dtypes, strict=True)
    )


def is_cpu_memory(vector: Tensor) -> bool:
    """Whether it is memory that others than torch can write to, on the CPU."""
    return vector.is_cpu and not torch._C._functorch.is_functorch_wrapped_tensor(vector)
