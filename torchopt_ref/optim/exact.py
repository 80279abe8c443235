"""Operations rounded as IEEE-754 prescribes where torch's are not; scalars of a given precision."""

import math
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad


def sqrt(x: Any) -> Any:
    """The square root of a tensor or a number, correctly rounded on CPU.

    ``torch.sqrt`` on CPU may call a vector library whose results are 1 ULP off: for one float32
    input in six on an AMD EPYC, for one in some 160 with AVX-512. ``numpy.sqrt`` on the same memory
    is exact. Where NumPy cannot be used, ``torch.sqrt`` is: on another device, in bfloat16, under
    the compiler, for a tensor subclass.
    """
    if isinstance(x, np.floating):
        return np.sqrt(x)
    if isinstance(x, (float, int)):
        return math.sqrt(x)
    if torch.compiler.is_compiling() or type(x) is not Tensor:
        return torch.sqrt(x)
    if x.device.type != "cpu" or x.dtype == torch.bfloat16:
        return torch.sqrt(x)
    if forward_ad.unpack_dual(x).tangent is None:
        with suppress(RuntimeError):
            return numpy_sqrt(x)
    return ExactSqrt.apply(x)


def float32(x: Any) -> Any:
    """A scalar rounded to float32."""
    return float(np.float32(x)) if isinstance(x, (float, int)) else x.float()


def in_precision(x: Any, dtype: torch.dtype) -> Any:
    """The scalar in a type whose operations are rounded to ``dtype``, float32 or float64."""
    if isinstance(x, Tensor):
        return x.to(dtype)
    # Under the compiler ``x`` stays as it is: the compiler would turn a NumPy scalar into a tensor,
    # and the step count, with which ``x`` is combined, is a tensor already.
    return np.float32(x) if dtype == torch.float32 and not torch.compiler.is_compiling() else x


def quiet() -> AbstractContextManager[object]:
    """A context in which NumPy does not warn of overflow and NaN, which can occur in training."""
    # The compiler knows no errstate.
    return nullcontext() if torch.compiler.is_compiling() else np.errstate(all="ignore")


def where_positive(condition: Tensor, value: Tensor) -> Tensor:
    """``value`` where ``condition`` is greater than 0; else 0, also where ``condition`` is NaN."""
    return torch.where(condition > 0, value, 0.0)


def numpy_sqrt(x: Tensor) -> Tensor:
    root = torch.empty_like(x)
    with np.errstate(invalid="ignore"):
        np.sqrt(x.numpy(), out=root.numpy())
    return root


class ExactSqrt(torch.autograd.Function):
    """``numpy_sqrt`` for tensors that autograd or ``torch.func`` follows."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return numpy_sqrt(x.detach())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (root,) = ctx.saved_tensors
        return grad / (2 * root)

    jvp = backward

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], x: Tensor) -> tuple[Tensor, int]:
        return ExactSqrt.apply(x), in_dims[0]
