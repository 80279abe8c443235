"""Operations rounded as IEEE-754 prescribes, where torch's own are not."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad


def sqrt(x: Any) -> Any:
    """The square root of a tensor or a float, correctly rounded on CPU.

    ``torch.sqrt`` on CPU may call a vector library whose results are 1 ULP off for one float32
    input in six; ``numpy.sqrt`` on the same memory is exact. Where NumPy cannot go (another
    device, bfloat16, autograd, ``torch.func``, the compiler, a tensor subclass) this is
    ``torch.sqrt``.
    """
    if isinstance(x, float):
        return math.sqrt(x)
    if torch.compiler.is_compiling() or type(x) is not Tensor:
        return torch.sqrt(x)
    try:
        array = x.numpy()
    except (RuntimeError, TypeError):
        return torch.sqrt(x)
    if forward_ad.unpack_dual(x).tangent is not None:
        return torch.sqrt(x)
    root = torch.empty_like(x)
    with np.errstate(invalid="ignore"):
        np.sqrt(array, out=root.numpy())
    return root
