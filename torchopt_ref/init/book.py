"""The textbook's dialect: K. Saito, "Deep Learning from Scratch", O'Reilly Japan 2016, chapter 6.

``n`` is fan_in, the number of inputs of a weight, or fan_out, that of its outputs, or the mean of
both (fan_avg):

====================  ==============================  ==============================
                      standard deviation              for
====================  ==============================  ==============================
``normal_``           0.01                            the textbook's example of bad values
Xavier                ``gain sqrt(1 / n)``            sigmoid, tanh, no activation
He                    ``gain sqrt(2 / n)``            ReLU and its relatives
====================  ==============================  ==============================

The default mode of both is fan_in. For Xavier that is the textbook's; X. Glorot and Y. Bengio
(AISTATS 2010) take the mean of both sides, ``sqrt(2 / (fan_in + fan_out))``, and so does torch:
here that is ``mode="fan_avg"``. The two agree for a square weight. He is that of K. He, X. Zhang,
S. Ren and J. Sun (ICCV 2015), as in torch.

The ``_normal_`` functions draw from a normal distribution, the ``_uniform_`` ones between plus and
minus ``sqrt(3)`` standard deviations, which has the same variance.

Every function whose name ends in ``_`` returns the tensor, records no gradient, and fills it by its
indices: one seed gives the same values whatever the memory format. A tensor of 16 bits is drawn in
float32 and rounded once. On a CPU the standard draw is that of ``numpy_ref.random.Generator`` of
the same seed, and one multiplication follows: uniforms equal the reference exactly, normals differ
from it as its ``normal`` says.
"""

import math
from typing import Literal

import torch

from .fans import Fans, shape_fans

Mode = Literal["fan_in", "fan_out", "fan_avg"]


@torch.no_grad()
def normal_(
    tensor: torch.Tensor, std: float = 0.01, *, generator: torch.Generator | None = None
) -> torch.Tensor:
    """N(0, std^2). Raises ``ValueError`` for a negative ``std``."""
    if not std >= 0:
        raise ValueError(f"std must be at least 0, got {std}")
    return tensor.copy_(_empty_draw(tensor).normal_(generator=generator).mul_(std))


def xavier_normal_(
    tensor: torch.Tensor,
    *,
    mode: Mode = "fan_in",
    gain: float = 1.0,
    fans: Fans | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """N(0, gain^2 / n).

    Args:
        tensor: a floating-point weight, of any shape when ``fans`` is given.
        mode: what ``n`` is: ``"fan_in"`` (default), ``"fan_out"`` or ``"fan_avg"``, their mean.
        gain: a further factor of the standard deviation.
        fans: by default those that ``init.shape_fans`` reads from the shape; for a transposed or
            grouped convolution or an embedding give ``init.layer_fans(layer)``.
        generator: by default that of the tensor's device.

    Raises:
        ValueError: an unknown ``mode``, a negative ``gain``, no ``fans`` and fewer than two
            dimensions.
        TypeError: the tensor is not of a real floating-point dtype.
    """
    return normal_(
        tensor, scaled_std(1, fans or shape_fans(tensor), mode, gain), generator=generator
    )


def xavier_uniform_(
    tensor: torch.Tensor,
    *,
    mode: Mode = "fan_in",
    gain: float = 1.0,
    fans: Fans | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """U(-a, a) with ``a = gain sqrt(3 / n)``; the arguments of :func:`xavier_normal_`."""
    return _symmetric_uniform_(
        tensor, scaled_std(1, fans or shape_fans(tensor), mode, gain), generator
    )


def he_normal_(
    tensor: torch.Tensor,
    *,
    mode: Mode = "fan_in",
    gain: float = 1.0,
    fans: Fans | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """N(0, 2 gain^2 / n); the arguments of :func:`xavier_normal_`.

    ``gain`` multiplies the ``sqrt(2)`` of ReLU: for a leaky ReLU of slope ``a`` it is
    ``1 / sqrt(1 + a^2)``.
    """
    return normal_(
        tensor, scaled_std(2, fans or shape_fans(tensor), mode, gain), generator=generator
    )


def he_uniform_(
    tensor: torch.Tensor,
    *,
    mode: Mode = "fan_in",
    gain: float = 1.0,
    fans: Fans | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """U(-a, a) with ``a = gain sqrt(6 / n)``; the arguments of :func:`he_normal_`."""
    return _symmetric_uniform_(
        tensor, scaled_std(2, fans or shape_fans(tensor), mode, gain), generator
    )


def scaled_std(numerator: int, fans: Fans, mode: Mode = "fan_in", gain: float = 1.0) -> float:
    """``gain sqrt(numerator / n)``, where ``numerator`` is 1 for Xavier and 2 for He."""
    fan_avg = (fans.fan_in + fans.fan_out) / 2
    choices = {"fan_in": fans.fan_in, "fan_out": fans.fan_out, "fan_avg": fan_avg}
    if mode not in choices:
        raise ValueError(f"unknown mode {mode!r}: choose from " + ", ".join(map(repr, choices)))
    if not gain >= 0:
        raise ValueError(f"gain must be at least 0, got {gain}")
    return gain * math.sqrt(numerator / max(choices[mode], 1))  # n = 0 only in an empty weight


@torch.no_grad()
def _symmetric_uniform_(
    tensor: torch.Tensor, std: float, generator: torch.Generator | None
) -> torch.Tensor:
    # uniform_(-a, a) multiplies and adds with one rounding or with two, depending on the CPU. Here
    # doubling and subtracting are exact, and only the last product is rounded.
    draw = _empty_draw(tensor).uniform_(generator=generator).mul_(2).sub_(1)
    return tensor.copy_(draw.mul_(math.sqrt(3) * std))


def _empty_draw(tensor: torch.Tensor) -> torch.Tensor:
    """A contiguous tensor of the shape of ``tensor``, in the dtype in which values are drawn."""
    if not tensor.is_floating_point():
        raise TypeError(f"random initial values need a floating-point tensor, not {tensor.dtype}")
    dtype = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    return torch.empty(tensor.shape, dtype=dtype, device=tensor.device)
