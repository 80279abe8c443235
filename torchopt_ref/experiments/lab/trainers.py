"""A network with its optimizer, trained step by step and tested: by NumPy, or by torch."""

from __future__ import annotations

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch

from torchopt_ref.sides import Arrays, NumpyNetwork, TorchNetwork
from torchopt_ref.tensorboard import Monitor


class Trainer(ABC):
    """A network with its optimizer on one side. ``seconds`` is the time spent in ``step``."""

    seconds: float = 0.0

    def step(self, x: np.ndarray, t: np.ndarray) -> float:
        """Take one training step on a mini-batch; return the loss before the step."""
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
    """Trains a network of ``numpy_ref``."""

    def __init__(self, side: NumpyNetwork) -> None:
        self.side: NumpyNetwork = side

    def _step(self, x: np.ndarray, t: np.ndarray) -> float:
        return self.side.train(x, t)

    def accuracy(self, x: np.ndarray, t: np.ndarray) -> float:
        return self.side.network.accuracy(x, t)

    def weights(self) -> Arrays:
        return self.side.params


class TorchTrainer(Trainer):
    """Trains the torch twin of such a network; this side can be watched by a monitor."""

    def __init__(self, side: TorchNetwork) -> None:
        self.side: TorchNetwork = side
        self.monitor: Monitor | None = None

    @contextmanager
    def under_monitor(self, folder: Path | None) -> Iterator[None]:
        if folder is None:
            yield
            return
        with (
            warnings.catch_warnings(),
            Monitor(self.side.twin, self.side.optimizer, folder) as self.monitor,
        ):
            # Some trainings are meant to diverge. The diagnosis says so; no warning is needed.
            warnings.filterwarnings("ignore", "not finite", RuntimeWarning)
            yield
        self.monitor = None

    def _step(self, x: np.ndarray, t: np.ndarray) -> float:
        loss = self.side.train(x, t)
        if self.monitor:
            self.monitor.log(loss=loss)
        return loss

    @torch.no_grad()
    def accuracy(self, x: np.ndarray, t: np.ndarray) -> float:
        self.side.twin.eval()
        hits = self.side.twin(self.side.on_device(x)).argmax(dim=1) == self.side.on_device(t)
        return hits.double().mean().item()

    def weights(self) -> Arrays:
        return {name: self.side.as_array(param) for name, param in self.side.params.items()}
