"""Statistics of tensors, finite where the tensors are: sums of finite values may overflow."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor


def norms(tensors: list[Tensor]) -> list[Tensor]:
    """Euclidean norms, at least in float32; finite ones of what is finite.

    Squares of finite values overflow. On CUDA they are summed in float64, which would take the CPU
    40 times as long: there a norm that is not finite is looked at again.
    """
    if not tensors:
        return []
    low = any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in tensors)
    dtype = torch.float64 if tensors[0].is_cuda else torch.float32 if low else None
    found = list(torch._foreach_norm(tensors, 2, dtype=dtype))
    if all(norm.is_cpu for norm in found) and not torch.stack(found).isfinite().all():
        return [
            norm if norm.isfinite() else scaled(tensor, torch.linalg.vector_norm)
            for norm, tensor in zip(found, tensors, strict=True)
        ]
    return found


def mean_and_std(y: Tensor) -> list[Tensor]:
    return [finite(y, torch.mean), finite(y, partial(torch.std, correction=0))]


def finite(y: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """``function(y)``, which goes with the scale of ``y``; on the CPU finite where ``y`` is, whose
    sum may overflow."""
    found = function(y)
    return scaled(y, function) if y.is_cpu and not found.isfinite() else found


def scaled(tensor: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """``function``, which goes with the scale of its argument, in float64 and without overflow."""
    peak = tensor.abs().amax().double()
    return function(tensor.double() / peak) * peak


def real(tensor: Tensor | None) -> Tensor:
    """The values of a parameter or gradient, a sparse one made dense, a complex one as pairs."""
    assert tensor is not None
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def wide(tensor: Tensor) -> Tensor:
    """The tensor in a precision that can hold a sum."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor


def has_values(tensor: Tensor) -> bool:
    """Whether its values lie in memory as a dense array, and there are some."""
    is_dense = tensor.layout == torch.strided and not tensor.is_nested and not tensor.is_meta
    return is_dense and tensor.numel() > 0
