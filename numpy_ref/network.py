"""The fully connected network of the experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .checks import Array, class_labels, shaped
from .init import Scheme, initial_std, normal
from .layers import (
    Affine,
    BatchNormalization,
    Draw,
    Dropout,
    Gradients,
    Relu,
    Scaling,
    Sigmoid,
    SoftmaxWithLoss,
    Tanh,
    keep_mask,
)

Activation = Literal["relu", "sigmoid", "tanh"]
Normalised = Literal["before", "after"] | bool
Layer = Affine | BatchNormalization | Relu | Sigmoid | Tanh | Dropout

ACTIVATIONS: dict[Activation, type[Relu] | type[Sigmoid] | type[Tanh]] = {
    "relu": Relu,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
}


class MultiLayerNet:
    """Hidden layers of Affine, [BatchNormalization,] activation[, Dropout]; Affine; softmax.

    Args:
        input_size, hidden_sizes, output_size: the numbers of units, e.g. 784, (100, 100), 10.
        activation: "relu", "sigmoid" or "tanh"; another name raises ``ValueError``.
        weight_init: "he", "xavier", "zeros" or a standard deviation (:func:`.init.initial_std`),
            for all weights. Biases and beta start at 0, gamma at 1.
        weight_decay: lambda of the term ``lambda / 2 sum(W^2)`` of the loss, over all weights W
            (not over biases, gamma and beta).
        batchnorm: where to normalise, in the torch convention: "before" or "after" each activation;
            True is "before", False is nowhere.
        dropout: the probability of dropping a hidden unit; 0 makes no Dropout layers.
        scaling, draw: see :class:`.layers.Dropout`. All its layers share ``draw``, which is called
            once per layer, from the input to the output; the default draws from ``rng``.
        rng: a ``numpy.random.Generator`` for initial values and masks; by default that of seed 0.
        dtype: of the parameters. Give inputs of the same dtype; another one is not refused.
        params: initial values to use instead of drawn ones, under the names described below; none
            may be missing. They are copied.

    The attribute ``params`` has the arrays that the layers use, so that an optimizer changes the
    network by changing them in place: W1 (in, out), b1 (out), with normalisation gamma1 and beta1
    (out), then W2 and so on. ``layers`` maps the names Affine1, BatchNorm1, Activation1, Dropout1,
    Affine2 ... to the layers in order, ``activations`` the same names to the outputs of the last
    forward pass.
    """

    def __init__(
        self,
        input_size: int,
        hidden_sizes: Sequence[int],
        output_size: int,
        *,
        activation: Activation = "relu",
        weight_init: Scheme | float = "he",
        weight_decay: float = 0.0,
        batchnorm: Normalised = False,
        dropout: float = 0.0,
        scaling: Scaling = "inverted",
        draw: Draw | None = None,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = np.float64,
        params: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"unknown activation {activation!r}: choose from "
                + ", ".join(map(repr, ACTIVATIONS))
            )
        if batchnorm not in (False, True, "before", "after"):
            raise ValueError(
                f"unknown batchnorm {batchnorm!r}: choose from 'before', 'after', False"
            )
        rng = np.random.default_rng(0) if rng is None else rng
        draw = keep_mask(dropout, rng) if draw is None else draw
        sizes = [input_size, *hidden_sizes, output_size]
        self.depth: int = len(sizes) - 1
        self.weight_decay: float = float(weight_decay)
        if params is None:
            params = initial_params(sizes, weight_init, batchnorm, rng)
        self.params: dict[str, Array] = {
            name: np.array(value, dtype) for name, value in params.items()
        }
        self.layers: dict[str, Layer] = {}
        self.activations: dict[str, Array] = {}
        # The layers with parameters, each with its number.
        self.numbered: list[tuple[int, Affine | BatchNormalization]] = []
        for i in range(1, self.depth + 1):
            shaped(self.params[f"W{i}"], (sizes[i - 1], sizes[i]), f"W{i}")
            affine = Affine(self.params[f"W{i}"], self.params[f"b{i}"])
            self.layers[f"Affine{i}"] = affine
            self.numbered.append((i, affine))
            if i < self.depth and batchnorm != "after":
                self._normalise(i, batchnorm)
            if i < self.depth:
                self.layers[f"Activation{i}"] = ACTIVATIONS[activation]()
            if i < self.depth and batchnorm == "after":
                self._normalise(i, batchnorm)
            if i < self.depth and dropout != 0:
                self.layers[f"Dropout{i}"] = Dropout(dropout, draw, scaling)
        self.last_layer: SoftmaxWithLoss = SoftmaxWithLoss()

    def _normalise(self, i: int, batchnorm: Normalised) -> None:
        if batchnorm:
            norm = BatchNormalization(self.params[f"gamma{i}"], self.params[f"beta{i}"])
            self.layers[f"BatchNorm{i}"] = norm
            self.numbered.append((i, norm))

    def predict(self, x: Array, train: bool = False) -> Array:
        """The logits (N, output_size) of x (N, input_size)."""
        for name, layer in self.layers.items():
            x = self.activations[name] = layer.forward(x, train)
        return x

    def loss(self, x: Array, t: ArrayLike, train: bool = True) -> np.floating:
        """The mean cross entropy for labels ``t``, integers (N) or one-hot, plus weight decay."""
        loss = self.last_layer.forward(self.predict(x, train), t)
        if self.weight_decay != 0:
            weights = [self.params[f"W{i}"] for i in range(1, self.depth + 1)]
            loss = loss + 0.5 * self.weight_decay * sum((W * W).sum() for W in weights)
        return loss

    def accuracy(self, x: Array, t: ArrayLike) -> float:
        """The fraction of x whose largest logit is that of its label, in evaluation."""
        logits = self.predict(x)
        return float((logits.argmax(axis=1) == class_labels(t, logits)).mean())

    def gradient(self, x: Array, t: ArrayLike) -> tuple[np.floating, Gradients]:
        """One forward and backward in training: the loss, and its gradients keyed as ``params``."""
        loss = self.loss(x, t)
        dout = self.last_layer.backward()
        for layer in reversed(self.layers.values()):
            dout = layer.backward(dout)
        grads = {
            f"{name}{i}": grad for i, layer in self.numbered for name, grad in layer.grads.items()
        }
        if self.weight_decay != 0:
            for i in range(1, self.depth + 1):
                grads[f"W{i}"] += self.weight_decay * self.params[f"W{i}"]
        return loss, grads


def initial_params(
    sizes: Sequence[int],
    weight_init: Scheme | float,
    batchnorm: Normalised,
    rng: np.random.Generator,
) -> dict[str, Array]:
    """The initial values, in float64, of a network with layers of these sizes."""
    params = {}
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes), start=1):
        std = initial_std(weight_init, fan_in)
        params[f"W{i}"] = normal((fan_in, fan_out), std, rng)
        params[f"b{i}"] = np.zeros(fan_out)
        if batchnorm and i < len(sizes) - 1:
            params[f"gamma{i}"] = np.ones(fan_out)
            params[f"beta{i}"] = np.zeros(fan_out)
    return params
