"""How many inputs and outputs a weight connects, by its shape or by its layer."""

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
    dim for the fan_in of an embedding, although only one element of its one-hot input is active.
    Like ``torch.nn.init``, this function ignores the stride: at stride s one output of a transposed
    convolution is reached by 1 / s of the inputs in each direction.

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
