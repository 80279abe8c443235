"""A ``numpy_ref`` network's twin in torch: the same layers, the same weights bit for bit."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from numpy_ref import layers as reference
from numpy_ref.network import MultiLayerNet
from torchopt_ref.nn import BatchNorm1d, Dropout

ACTIVATIONS = {reference.Relu: nn.ReLU, reference.Sigmoid: nn.Sigmoid, reference.Tanh: nn.Tanh}
TENSORS = {"W": "weight", "b": "bias", "gamma": "weight", "beta": "bias"}
"""The parameters of Affine and BatchNormalization, and what torch calls them."""


class Twin(nn.Sequential):
    """The torch network of the same layers as ``network``, under the same names.

    Its parameters and running statistics start as copies of ``network``'s. Dropout layers draw
    their masks from ``generator``, which needs the seed of ``network``'s
    ``numpy_ref.random.Generator``.
    ``parameters_by_name`` maps the names of ``network.params`` to the torch parameters.
    """

    def __init__(
        self, network: MultiLayerNet, generator: torch.Generator | None = None, device: str = "cpu"
    ) -> None:
        super().__init__()
        self.weight_decay: float = network.weight_decay
        for name, layer in network.layers.items():
            self.add_module(name, torch_layer(layer, generator))
        self.to(device)
        self.parameters_by_name: dict[str, nn.Parameter] = {
            f"{key}{number}": getattr(self.get_submodule(layer_name(key, number)), TENSORS[key])
            for key, number in map(split_name, network.params)
        }

    def loss(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The mean cross entropy plus ``weight_decay / 2`` times the sum of squared weights."""
        loss = nn.functional.cross_entropy(self(x), t)
        if self.weight_decay != 0:
            weights = [p for name, p in self.parameters_by_name.items() if name[0] == "W"]
            loss = loss + 0.5 * self.weight_decay * sum((w * w).sum() for w in weights)
        return loss


def torch_layer(layer: object, generator: torch.Generator | None) -> nn.Module:
    if isinstance(layer, reference.Affine):
        linear = nn.utils.skip_init(nn.Linear, *layer.W.shape)
        linear.weight = nn.Parameter(torch.from_numpy(layer.W.T.copy()))
        linear.bias = nn.Parameter(torch.from_numpy(layer.b.copy()))
        return linear
    if isinstance(layer, reference.BatchNormalization):
        norm = BatchNorm1d(len(layer.gamma), layer.eps, layer.momentum)
        norm.weight = nn.Parameter(torch.from_numpy(layer.gamma.copy()))
        norm.bias = nn.Parameter(torch.from_numpy(layer.beta.copy()))
        norm.running_mean = torch.from_numpy(layer.running_mean.copy())
        norm.running_var = torch.from_numpy(layer.running_var.copy())
        return norm
    if isinstance(layer, reference.Dropout):
        return Dropout(layer.p, scaling=layer.scaling, generator=generator)
    return ACTIVATIONS[type(layer)]()


def split_name(name: str) -> tuple[str, int]:
    """``"gamma2"`` as ``("gamma", 2)``."""
    key = name.rstrip("0123456789")
    return key, int(name[len(key) :])


def layer_name(key: str, number: int) -> str:
    return f"{'Affine' if key in ('W', 'b') else 'BatchNorm'}{number}"


def as_array(tensor: torch.Tensor | None) -> np.ndarray:
    """A parameter, gradient or slot of the twin in the layout of ``numpy_ref``."""
    assert tensor is not None
    return tensor.detach().cpu().numpy().T
