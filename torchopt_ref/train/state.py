"""Everything that a training is made of, and that a checkpoint therefore holds."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.amp import GradScaler
from torch.distributed.fsdp import FSDPModule
from torch.optim.swa_utils import AveragedModel

from torchopt_ref.errors import UserError

from .distributed import Processes, is_lost_connection
from .optimizers import Schedule
from .sharding import load_sharded_weights, sharded_weights

SCHEDULED = ("lr", "momentum", "betas")
"""What a schedule sets in the optimizer's groups, and goes on with after ``roll_back``."""


@dataclass
class Position:
    """How far the training is, and what it saw since the epoch began, over all processes."""

    epoch: int = 0
    batch: int = 0
    """of the epoch, that comes next"""
    step: int = 0
    """of the optimizer, that were made, or left out by ``GradScaler``"""
    loss: float = 0.0
    """sum over the images since the epoch began"""
    hits: int = 0
    images: int = 0
    best: float = -1.0
    """the highest accuracy of an epoch so far"""

    def add(self, loss: float, hits: float, images: float) -> None:
        self.loss, self.hits, self.images = (
            self.loss + loss,
            self.hits + int(hits),
            self.images + int(images),
        )

    def row(self) -> dict[str, Any]:
        """The epoch in numbers; without loss and accuracy if all its batches were left out."""
        row: dict[str, Any] = {"epoch": self.epoch + 1, "step": self.step}
        if self.images:
            row |= {"loss": self.loss / self.images, "accuracy": self.hits / self.images}
        return row

    def next_epoch(self, accuracy: float) -> None:
        self.best = max(self.best, accuracy)
        self.epoch, self.batch = self.epoch + 1, 0
        self.loss, self.hits, self.images = 0.0, 0, 0


@dataclass
class Training:
    """What changes while a model is trained."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: GradScaler
    ema: AveragedModel | None
    device: torch.device
    processes: Processes
    position: Position = field(default_factory=Position)

    @property
    def sharded(self) -> bool:
        """Whether each process has a part of every parameter, by ``sharding``."""
        return isinstance(self.model, FSDPModule)

    @property
    def judged(self) -> nn.Module:
        """The model to evaluate: with the averaged weights, if there are any."""
        return self.ema.module if self.ema else self.model

    def state(self) -> dict[str, Any]:
        """All of it as tensors and plain values; every process has to call it."""
        return self.weights() | {
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "position": asdict(self.position),
            "random": self.processes.gather(random_state(self.device)),
        }

    def weights(self) -> dict[str, Any]:
        """The model, the optimizer, and the average of the weights if there is one."""
        if self.sharded:
            return sharded_weights(self.model, self.optimizer, self.ema)
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Be what ``state`` was; a process that was not there then keeps its random numbers.

        Raises:
            UserError: it does not fit.
        """
        try:
            self._load_weights(state)
            self.schedule.load_state_dict(state["schedule"])
            self.position = Position(**state["position"])
            if self.processes.rank < len(state["random"]):
                set_random_state(state["random"][self.processes.rank], self.device)
        except torch.OutOfMemoryError:
            raise
        except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
            if is_lost_connection(error):
                raise
            raise UserError(
                f"the last checkpoint does not fit this training: {error}: go on with the version "
                "that the run was started with, or start another run"
            ) from error

    def roll_back(self, state: dict[str, Any]) -> None:
        """Take over the weights and what the optimizer remembers; go on where it is."""
        groups = self.optimizer.param_groups
        schedules = [{k: v for k, v in group.items() if k in SCHEDULED} for group in groups]
        self._load_weights(state)
        for group, now in zip(self.optimizer.param_groups, schedules, strict=True):
            group.update(now)

    def _load_weights(self, state: dict[str, Any]) -> None:
        self.scaler.load_state_dict(state["scaler"])
        if self.sharded:
            load_sharded_weights(state, self.model, self.optimizer, self.ema)
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of every global generator: of torch, on CPU and CUDA, of NumPy and of Python."""
    name, keys, *rest = np.random.get_state()
    state = {
        "torch": torch.get_rng_state(),
        "numpy": [name, torch.from_numpy(np.asarray(keys, np.int64)), *rest],
        "python": random.getstate(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["torch"].cpu())
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
    random.setstate(state["python"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


def seed_everything(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
