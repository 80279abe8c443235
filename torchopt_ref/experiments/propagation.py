"""Signals through an untrained network, forward and back, by either engine, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from numpy_ref.network import MultiLayerNet
from torchopt_ref.sides import Twin

Layers = list[np.ndarray]

NEAR = 0.1
"""How far from a bound, or from sigmoid's centre, an activation counts as at it."""
BEYOND = 3.0
"""ReLU's activations above it are counted in the last bin of a histogram: with some weights they
grow without bound, and a range that holds them shows nothing of the other layers."""


@dataclass(frozen=True)
class Stack:
    """Equally wide layers of Affine and activation, and ``samples`` standard normal inputs.

    ``activation`` and ``weight_init`` are those of ``numpy_ref.network.MultiLayerNet``. Weights and
    inputs follow from ``seed``.
    """

    activation: str
    weight_init: str | float
    seed: int
    samples: int = 1000
    width: int = 100
    depth: int = 5


def signals(stack: Stack, engine: str, dtype: str, device: str = "cpu") -> tuple[Layers, Layers]:
    """The activations of each layer, and the gradients in them of the sum of the last layer's."""
    network = MultiLayerNet(
        stack.width,
        (stack.width,) * stack.depth,
        1,
        activation=stack.activation,
        weight_init=stack.weight_init,
        rng=np.random.default_rng(stack.seed),
        dtype=dtype,
    )
    inputs = np.random.default_rng([stack.seed, 1]).standard_normal((stack.samples, stack.width))
    x = inputs.astype(dtype)
    if engine == "torch":
        return by_torch(network, torch.from_numpy(x).to(device))
    return by_numpy(network, x)


def by_numpy(network: MultiLayerNet, x: np.ndarray) -> tuple[Layers, Layers]:
    hidden = list(network.layers.values())[:-1]
    outputs: Layers = []
    for affine, activation in zip(hidden[::2], hidden[1::2], strict=True):
        x = activation.forward(affine.forward(x))
        outputs.append(x)
    gradients: Layers = []
    dout = np.ones_like(x)
    for activation, affine in zip(hidden[::-2], hidden[-2::-2], strict=True):
        gradients.append(dout)
        dout = affine.backward(activation.backward(dout))
    return outputs, gradients[::-1]


def by_torch(network: MultiLayerNet, x: torch.Tensor) -> tuple[Layers, Layers]:
    hidden = list(Twin(network, device=str(x.device)))[:-1]
    outputs = []
    for affine, activation in zip(hidden[::2], hidden[1::2], strict=True):
        x = activation(affine(x))
        outputs.append(x)
    gradients = torch.autograd.grad(x.sum(), outputs)
    return [y.detach().cpu().numpy() for y in outputs], [g.cpu().numpy() for g in gradients]


def measured(function: str, outputs: Layers, gradients: Layers) -> dict[str, Any]:
    """Curves over the layers, and a histogram of each layer in a range that all layers share."""
    outputs = [y.astype(np.float64) for y in outputs]
    low = -1.0 if function == "tanh" else 0.0
    high = BEYOND if function == "relu" else 1.0
    curves = {
        "activation/mean": [y.mean() for y in outputs],
        "activation/std": [y.std() for y in outputs],
        "activation/std_over_inputs": [np.sqrt(y.var(axis=0).mean()) for y in outputs],
        "activation/saturated": [saturated(function, y) for y in outputs],
        "activation/center": [(np.abs(y - 0.5) < NEAR).mean() for y in outputs],
        "activation/dead_units": [(y == 0).all(axis=0).mean() for y in outputs],
        "gradient/norm": [np.linalg.norm(g.astype(np.float64)) for g in gradients],
    }
    histograms = {
        f"activation/layer{i}": {
            "range": [low, high],
            "counts": np.histogram(np.minimum(y, high), 30, (low, high))[0].tolist(),
        }
        for i, y in enumerate(outputs, start=1)
    }
    return {
        "curves": {tag: [float(value) for value in curve] for tag, curve in curves.items()},
        "histograms": histograms,
    }


def saturated(function: str, y: np.ndarray) -> float:
    """The fraction within 0.1 of a bound of sigmoid or tanh, or at ReLU's 0."""
    if function == "relu":
        return (y == 0).mean()
    low = -1 if function == "tanh" else 0
    return ((y < low + NEAR) | (y > 1 - NEAR)).mean()


def apart(a: Layers, b: Layers) -> float:
    """The largest difference in any layer, relative to the largest value of the layer."""
    return float(np.max([np.abs(p - q).max() / np.abs(p).max() for p, q in zip(a, b, strict=True)]))
