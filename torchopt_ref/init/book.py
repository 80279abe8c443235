"""Fill one tensor in place with initial values.

For a weight of ``n`` = fan_in or fan_out inputs or outputs, or their mean (fan_avg):

====================  ==============================  ==============================
                      standard deviation              for
====================  ==============================  ==============================
Xavier                ``gain sqrt(1 / n)``            sigmoid, tanh, no activation
He                    ``gain sqrt(2 / n)``            ReLU and its relatives
====================  ==============================  ==============================

The default mode of both is fan_in. For Xavier that is the textbook's (K. Saito, "Deep Learning
from Scratch", O'Reilly Japan 2016, section 6.2); X. Glorot and Y. Bengio (AISTATS 2010) take the
mean of both sides, ``sqrt(2 / (fan_in + fan_out))``, and so does ``torch.nn.init.xavier_normal_``:
here that is ``mode="fan_avg"``. The two agree for a square weight. He is that of K. He, X. Zhang,
S. Ren and J. Sun (ICCV 2015) and of ``torch.nn.init.kaiming_normal_(nonlinearity="relu")``.

The ``_normal_`` functions draw from a normal distribution, the ``_uniform_`` ones between plus and
minus ``sqrt(3)`` standard deviations, which has the same variance.

Every function here returns the tensor, records no gradient, and fills a tensor by its indices:
one seed gives the same values whatever the memory format. A tensor of 16 bits is drawn in float32
and rounded once. On a CPU the standard draw is that of ``numpy_ref.random.Generator`` of the same
seed, and one multiplication follows: uniforms equal the reference exactly, normals differ from it
as its ``normal`` says.
"""

import math
from typing import NamedTuple

import torch
from torch import nn


class Fans(NamedTuple):
    """How many inputs reach one output of a layer, and how many outputs one input reaches."""

    fan_in: int
    fan_out: int


def shape_fans(tensor: torch.Tensor) -> Fans:
    """The fans of the weight of a linear layer or of a convolution without groups.

    Its shape is (out, in, kernel): ``fan_in = in k`` and ``fan_out = out k``, ``k`` being the
    number of elements of the kernel. A shape does not show groups or a transposed layout: give
    :func:`layer_fans` the layer. Raises ``ValueError`` for fewer than two dimensions.
    """
    if tensor.ndim < 2:
        raise ValueError(
            f"fans need at least 2 dimensions, (out, in, *kernel), but the shape is "
            f"{tuple(tensor.shape)}"
        )
    kernel = math.prod(tensor.shape[2:])
    return Fans(tensor.shape[1] * kernel, tensor.shape[0] * kernel)


def layer_fans(layer: nn.Module) -> Fans:
    """The fans of the weight of ``layer``.

    =======================  =============================  ==============  ===============
    layer                    shape of the weight            fan_in          fan_out
    =======================  =============================  ==============  ===============
    Linear                   (out, in)                      in              out
    Conv1d to Conv3d         (out, in / groups, kernel)     in k / groups   out k / groups
    ConvTranspose1d to 3d    (in, out / groups, kernel)     in k / groups   out k / groups
    Embedding, EmbeddingBag  (num_embeddings, dim)          1               dim
    =======================  =============================  ==============  ===============

    ``torch.nn.init`` sees only the shape, as :func:`shape_fans` does. So it takes ``out k`` for the
    fan_out of a grouped convolution, exchanges the two fans of a transposed one, and takes
    dim for the fan_in of an embedding, of whose one-hot input one element is active.
    As there, a stride is not counted: at stride s one output of a transposed convolution is
    reached by 1 / s of the inputs in each direction.

    Raises ``TypeError`` for another layer.
    """
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        return Fans(1, layer.embedding_dim)
    if isinstance(layer, nn.Linear):
        return Fans(layer.in_features, layer.out_features)
    if isinstance(layer, nn.modules.conv._ConvNd):
        kernel = math.prod(layer.kernel_size)
        return Fans(
            layer.in_channels // layer.groups * kernel, layer.out_channels // layer.groups * kernel
        )
    raise TypeError(f"the fans of a {type(layer).__name__} are not known")


@torch.no_grad()
def zeros_(tensor: torch.Tensor) -> torch.Tensor:
    """All zeros."""
    return tensor.zero_()


@torch.no_grad()
def constant_(tensor: torch.Tensor, value: float) -> torch.Tensor:
    """Every element is ``value``."""
    return tensor.fill_(value)


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
    mode: str = "fan_in",
    gain: float = 1.0,
    fans: Fans | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """N(0, gain^2 / n).

    Args:
        tensor: a floating-point weight, of any shape when ``fans`` is given.
        mode: what ``n`` is: ``"fan_in"`` (default), ``"fan_out"`` or ``"fan_avg"``, their mean.
        gain: a further factor of the standard deviation.
        fans: by default those that :func:`shape_fans` reads from the shape; for a transposed or
            grouped convolution or an embedding give ``layer_fans(layer)``.
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
    mode: str = "fan_in",
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
    mode: str = "fan_in",
    gain: float = 1.0,
    fans: Fans | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """N(0, 2 gain^2 / n); the arguments of :func:`xavier_normal_`.

    ``gain`` is what comes beside ReLU's ``sqrt(2)``: ``1 / sqrt(1 + a^2)`` for a leaky ReLU of
    slope ``a``.
    """
    return normal_(
        tensor, scaled_std(2, fans or shape_fans(tensor), mode, gain), generator=generator
    )


def he_uniform_(
    tensor: torch.Tensor,
    *,
    mode: str = "fan_in",
    gain: float = 1.0,
    fans: Fans | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """U(-a, a) with ``a = gain sqrt(6 / n)``; the arguments of :func:`he_normal_`."""
    return _symmetric_uniform_(
        tensor, scaled_std(2, fans or shape_fans(tensor), mode, gain), generator
    )


def scaled_std(numerator: int, fans: Fans, mode: str = "fan_in", gain: float = 1.0) -> float:
    """``gain sqrt(numerator / n)``; 1 for Xavier, 2 for He."""
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
    # uniform_(-a, a) multiplies and adds with one rounding or with two, as the CPU has it; here
    # doubling and subtracting are exact, and only the last product rounds.
    draw = _empty_draw(tensor).uniform_(generator=generator).mul_(2).sub_(1)
    return tensor.copy_(draw.mul_(math.sqrt(3) * std))


def _empty_draw(tensor: torch.Tensor) -> torch.Tensor:
    """A contiguous tensor of the shape of ``tensor``, in the dtype in which values are drawn."""
    if not tensor.is_floating_point():
        raise TypeError(f"random initial values need a floating-point tensor, not {tensor.dtype}")
    dtype = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    return torch.empty(tensor.shape, dtype=dtype, device=tensor.device)
