"""Operations rounded as IEEE-754 prescribes, where torch's own are not."""

import numpy as np
import torch
from torch import Tensor


def sqrt(x: Tensor) -> Tensor:
    """The square root, correctly rounded on CPU.

    ``torch.sqrt`` on CPU may call a vector library whose results are 1 ULP off for one float32
    input in six; ``numpy.sqrt`` on the same memory is exact. Where NumPy cannot go (another
    device, autograd, the compiler, a tensor subclass) this is ``torch.sqrt``.
    """
    if (
        torch.compiler.is_compiling()
        or type(x) is not Tensor
        or x.device.type != "cpu"
        or x.requires_grad
    ):
        return torch.sqrt(x)
    root = torch.empty_like(x)
    with np.errstate(invalid="ignore"):
        np.sqrt(x.numpy(), out=root.numpy())
    return root
