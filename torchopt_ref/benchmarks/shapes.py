"""The shapes of the parameters of models, without the models."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn

Shapes = list[tuple[int, ...]]

SMALL: Shapes = [(64,)] * 1000
"""Many small tensors: handling each one costs more than the arithmetic of its step."""


def elements(shapes: Shapes) -> int:
    return sum(torch.Size(shape).numel() for shape in shapes)


def shapes_of(make: Callable[[], nn.Module]) -> Shapes:
    with torch.device("meta"):
        model = make()
    return [tuple(param.shape) for param in model.parameters()]


def vision(name: str) -> Shapes:
    """The shapes of a model that torchvision knows by this name."""
    from torchvision.models import get_model

    return shapes_of(lambda: get_model(name))


def mlp() -> nn.Module:
    """The network of the experiment ``weight-init``: 784-100-100-100-100-10."""
    sizes = [784, 100, 100, 100, 100, 10]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def cnn() -> nn.Module:
    """The training script's small network for MNIST."""
    from torchopt_ref.train.models import model_by_name

    return model_by_name("cnn", (1, 28, 28), 10)


def transformer(width: int = 2048, layers: int = 18, tokens: int = 50304) -> Shapes:
    """The shapes of a transformer like GPT-2, by default of a billion elements."""
    norm: Shapes = [(width,), (width,)]
    attention = [(3 * width, width), (3 * width,), (width, width), (width,)]
    feed_forward = [(4 * width, width), (4 * width,), (width, 4 * width), (width,)]
    layer = [*norm, *attention, *norm, *feed_forward]
    return [(tokens, width), (1024, width), *layer * layers, *norm]
