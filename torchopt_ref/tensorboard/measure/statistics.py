"""Statistics that are finite for finite tensors, although sums of finite values may overflow."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor


def norms(tensors: list[Tensor]) -> list[Tensor]:
    """Euclidean norms, in float32 or wider; finite for finite tensors.

    Squares of finite values may overflow. On CUDA they are summed in float64. On the CPU that would
    take 40 times as long, so there a norm that is not finite is computed again, scaled.
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
    """``function(y)``, for a function that scales with ``y``, as a mean does. On the CPU it is
    finite if ``y`` is, even if the sum of ``y`` overflows."""
    found = function(y)
    return scaled(y, function) if y.is_cpu and not found.isfinite() else found


def scaled(tensor: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """``function(tensor)`` in float64, without overflow, for a function that scales with its
    argument."""
    peak = tensor.abs().amax().double()
    return function(tensor.double() / peak) * peak


def real(tensor: Tensor | None) -> Tensor:
    """The values of a parameter or gradient, a sparse one made dense, a complex one as pairs."""
    assert tensor is not None
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float32 or wider, which can hold a sum."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor


def has_values(tensor: Tensor) -> bool:
    """Whether its values lie in memory as a dense array, and there are some."""
    is_dense = tensor.layout == torch.strided and not tensor.is_nested and not tensor.is_meta
    return is_dense and tensor.numel() > 0
