"""The same fully connected network and optimizer in both engines, from the same weights."""

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import nn

from numpy_ref.network import MultiLayerNet
from numpy_ref.optimizers import Optimizer as Reference

Arrays = dict[str, np.ndarray]

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}


class Engine(ABC):
    """A network with its optimizer. ``seconds`` is the time spent in ``step``."""

    seconds = 0.0

    def step(self, x: np.ndarray, t: np.ndarray) -> float:
        """One training step on a batch; the loss before it."""
        start = time.perf_counter()
        loss = self._step(x, t)
        self.seconds += time.perf_counter() - start
        return loss

    @abstractmethod
    def _step(self, x: np.ndarray, t: np.ndarray) -> float: ...

    @abstractmethod
    def accuracy(self, x: np.ndarray, t: np.ndarray) -> float:
        """The fraction of images that get their label."""

    @abstractmethod
    def weights(self) -> Arrays:
        """The weights, named and laid out as in ``numpy_ref``."""

    @abstractmethod
    def state(self, name: str) -> dict[str, Any]:
        """A copy of the optimizer's state of a parameter, as ``numpy_ref`` keeps it."""


class NumpyEngine(Engine):
    """``numpy_ref``'s network and optimizer."""

    def __init__(self, network: MultiLayerNet, optimizer: Reference) -> None:
        self.network, self.optimizer = network, optimizer

    def _step(self, x: np.ndarray, t: np.ndarray) -> float:
        loss, grads = self.network.gradient(x, t)
        self.optimizer.update(self.network.params, grads)
        return float(loss)

    def accuracy(self, x: np.ndarray, t: np.ndarray) -> float:
        return self.network.accuracy(x, t)

    def weights(self) -> Arrays:
        return self.network.params

    def state(self, name: str) -> dict[str, Any]:
        return copy.deepcopy(self.optimizer.state.get(name, {}))

    def copy_from(self, other: Engine) -> None:
        """Take over weights and optimizer state, bit for bit."""
        for name, array in other.weights().items():
            self.network.params[name][...] = array
            self.optimizer.state[name] = other.state(name)


class TorchEngine(Engine):
    """A ``torch.nn.Sequential`` with the weights of ``network``, and a torch optimizer."""

    def __init__(
        self,
        network: MultiLayerNet,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        *,
        activation: str = "relu",
        device: str = "cpu",
    ) -> None:
        self.device = device
        self.params: dict[str, nn.Parameter] = {}
        layers: list[nn.Module] = []
        for i in range(1, network.depth + 1):
            weight, bias = network.params[f"W{i}"], network.params[f"b{i}"]
            linear = nn.utils.skip_init(nn.Linear, *weight.shape)
            linear.weight = nn.Parameter(torch.from_numpy(weight.T.copy()))
            linear.bias = nn.Parameter(torch.from_numpy(bias.copy()))
            layers += [linear, ACTIVATIONS[activation]()]
            self.params |= {f"W{i}": linear.weight, f"b{i}": linear.bias}
        self.model = nn.Sequential(*layers[:-1]).to(device)
        self.optimizer = optimizer(self.model.parameters())

    def _step(self, x: np.ndarray, t: np.ndarray) -> float:
        loss = nn.functional.cross_entropy(self.model(self.tensor(x)), self.tensor(t))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def accuracy(self, x: np.ndarray, t: np.ndarray) -> float:
        hits = self.model(self.tensor(x)).argmax(dim=1) == self.tensor(t)
        return hits.double().mean().item()

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)

    def weights(self) -> Arrays:
        return {name: as_array(param.detach()) for name, param in self.params.items()}

    def state(self, name: str) -> dict[str, Any]:
        state = self.optimizer.state[self.params[name]]
        return {
            slot: int(value) if slot == "step" else as_array(value).copy()
            for slot, value in state.items()
        }


def as_array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.cpu().numpy().T


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for NumPy's and torch's matrix products: fastest and steadiest for small ones."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
