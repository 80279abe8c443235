"""Tensors seen as vectors, so that many can be handled as one."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..rule import Rule
from .bucket import Bucket
from .formula import Form
from .per_tensor import as_real

PLAIN = (Tensor, torch.nn.Parameter)

Piece = list[Tensor]
"""A parameter, its gradient and its slots as vectors that list their elements in one order."""


class Vectors(NamedTuple):
    """A bucket as vectors; ``slots`` names those of a piece after the first two."""

    pieces: list[Piece]
    slots: tuple[str, ...]
    scalars: dict[str, Any]

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
    for position, row in enumerate(
        zip(bucket.params, bucket.grads, *bucket.slots.values(), strict=True)
    ):
        piece = as_piece(row)
        if piece is None:
            others.append(position)
        else:
            pieces.append(piece)
    return Vectors(pieces, tuple(bucket.slots), bucket.scalars), others


def as_piece(tensors: tuple[Tensor, ...]) -> Piece | None:
    if any(type(tensor) not in PLAIN for tensor in tensors):
        return None
    if all(tensor.is_contiguous() and not tensor.is_complex() for tensor in tensors):
        return [tensor.detach().view(-1) for tensor in tensors]
    param, grad, *slots = (as_real(tensor.detach()) for tensor in tensors)
    order = sorted(range(param.ndim), key=param.stride, reverse=True)
    ordered = [tensor.permute(order) for tensor in (param, *slots)]
    if not all(tensor.is_contiguous() for tensor in ordered):
        return None
    param, *slots = (tensor.view(-1) for tensor in ordered)
    return [param, grad.permute(order).reshape(-1), *slots]
