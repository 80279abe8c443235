"""Networks as sides: each computes its own gradients, and trains on mini-batches."""

from __future__ import annotations

import numpy as np
import torch

from numpy_ref.network import MultiLayerNet

from .side import Arrays, NumpySide, Reference, TorchSide
from .twin import Twin


class NumpyNetwork(NumpySide):
    """A network of ``numpy_ref`` with its optimizer; ``grads`` are those of the last step."""

    grads: Arrays

    def __init__(self, network: MultiLayerNet, optimizer: Reference) -> None:
        super().__init__(network.params, optimizer)
        self.network = network

    def train(self, x: np.ndarray, t: np.ndarray) -> float:
        """Take a step on a mini-batch; the loss before it."""
        loss, self.grads = self.network.gradient(x, t)
        self.step(self.grads)
        return float(loss)

    def statistics(self) -> Arrays:
        """The running statistics of its batch normalisations, named as torch names buffers."""
        return {
            f"{name}.{statistic}": getattr(layer, statistic)
            for name, layer in self.network.layers.items()
            for statistic in ("running_mean", "running_var")
            if hasattr(layer, statistic)
        }

    def follow(self, other: TorchNetwork) -> None:
        """Take over parameters, slots and statistics, bit for bit."""
        self.copy_from(other)
        theirs = other.statistics()
        for name, statistic in self.statistics().items():
            statistic[...] = theirs[name]


class TorchNetwork(TorchSide):
    """The ``Twin`` of a ``numpy_ref`` network, with its optimizer.

    torch keeps a weight as the transpose of ``numpy_ref``'s, so arrays are transposed both ways.
    """

    def __init__(self, twin: Twin, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(twin.parameters_by_name, optimizer)
        self.twin = twin
        self.device: torch.device = next(twin.parameters()).device

    def train(self, x: np.ndarray, t: np.ndarray) -> float:
        """Take a step on a mini-batch; the loss before it."""
        self.twin.train()
        self.twin.zero_grad()
        loss = self.twin.loss(self.on_device(x), self.on_device(t))
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def statistics(self) -> Arrays:
        """The running statistics of its batch normalisations."""
        buffers = self.twin.named_buffers()
        return {name: buffer.cpu().numpy() for name, buffer in buffers if "running" in name}

    def on_device(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)

    def as_array(self, tensor: torch.Tensor) -> np.ndarray:
        return super().as_array(tensor).T

    def as_tensor(self, array: np.ndarray) -> torch.Tensor:
        return super().as_tensor(array.T)
