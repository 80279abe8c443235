"""A network with its optimizer, trained step by step: by NumPy, or by torch."""

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from numpy_ref.network import MultiLayerNet
from numpy_ref.optimizers import Optimizer as Reference
from torchopt_ref.sides import Twin, as_array
from torchopt_ref.tensorboard import Monitor

Arrays = dict[str, np.ndarray]


class Trainer(ABC):
    """A network with its optimizer on one side. ``seconds`` is the time spent in ``step``."""

    seconds = 0.0

    def step(self, x: np.ndarray, t: np.ndarray) -> float:
        """Take one training step on a mini-batch; the loss before it."""
        start = time.perf_counter()
        loss = self._step(x, t)
        self.seconds += time.perf_counter() - start
        return loss

    @abstractmethod
    def _step(self, x: np.ndarray, t: np.ndarray) -> float: ...

    @abstractmethod
    def accuracy(self, x: np.ndarray, t: np.ndarray) -> float:
        """The fraction of images that are classified as their label says."""

    @abstractmethod
    def weights(self) -> Arrays:
        """The weights, named and laid out as in ``numpy_ref``."""

    def under_monitor(self, folder: Path | None) -> AbstractContextManager[None]:
        """A context in which a ``Monitor`` watches torch's steps and writes to ``folder``.

        It does nothing if ``folder`` is None, and nothing on the NumPy side.
        """
        return nullcontext()


class NumpyTrainer(Trainer):
    """A network of ``numpy_ref``.

    Each optimizer comes with a function that says of a parameter's name whether it updates it.
    """

    def __init__(
        self, network: MultiLayerNet, *optimizers: tuple[Reference, Callable[[str], bool]]
    ) -> None:
        self.network, self.optimizers = network, optimizers

    def _step(self, x: np.ndarray, t: np.ndarray) -> float:
        loss, grads = self.network.gradient(x, t)
        for optimizer, selects in self.optimizers:
            chosen = {name: grad for name, grad in grads.items() if selects(name)}
            optimizer.update({name: self.network.params[name] for name in chosen}, chosen)
        return float(loss)

    def accuracy(self, x: np.ndarray, t: np.ndarray) -> float:
        return self.network.accuracy(x, t)

    def weights(self) -> Arrays:
        return self.network.params

    def copy_from(self, other: "TorchTrainer") -> None:
        """Take over torch's weights, optimizer state and running statistics, bit for bit."""
        for name, array in other.weights().items():
            self.network.params[name][...] = array
            for optimizer, selects in self.optimizers:
                if selects(name):
                    optimizer.state[name] = other.state(name)
        for name, buffer in other.twin.named_buffers():
            layer, _, statistic = name.partition(".")
            if statistic != "num_batches_tracked":
                getattr(self.network.layers[layer], statistic)[...] = buffer.cpu().numpy()


class TorchTrainer(Trainer):
    """The network's ``Twin``, and the torch optimizer that ``optimizer`` makes for it."""

    def __init__(self, twin: Twin, optimizer: Callable[[Twin], torch.optim.Optimizer]) -> None:
        self.twin = twin
        self.optimizer = optimizer(twin)
        self.device = next(twin.parameters()).device
        self.monitor: Monitor | None = None

    @contextmanager
    def under_monitor(self, folder: Path | None) -> Iterator[None]:
        if folder is None:
            yield
            return
        with (
            warnings.catch_warnings(),
            Monitor(self.twin, self.optimizer, folder) as self.monitor,
        ):
            # Some trainings are meant to fail. Then the diagnosis says so, and no warning need.
            warnings.filterwarnings("ignore", "not finite", RuntimeWarning)
            yield
        self.monitor = None

    def _step(self, x: np.ndarray, t: np.ndarray) -> float:
        self.twin.train()
        loss = self.twin.loss(self.tensor(x), self.tensor(t))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.monitor:
            self.monitor.log(loss=loss)
        return loss.item()

    @torch.no_grad()
    def accuracy(self, x: np.ndarray, t: np.ndarray) -> float:
        self.twin.eval()
        hits = self.twin(self.tensor(x)).argmax(dim=1) == self.tensor(t)
        return hits.double().mean().item()

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)

    def weights(self) -> Arrays:
        return {name: as_array(param) for name, param in self.twin.parameters_by_name.items()}

    def state(self, name: str) -> dict[str, Any]:
        """A copy of the optimizer's state of a parameter, as ``numpy_ref`` keeps it."""
        state = self.optimizer.state[self.twin.parameters_by_name[name]]
        return {
            slot: int(value) if slot == "step" else as_array(value).copy()
            for slot, value in state.items()
        }
