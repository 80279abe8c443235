"""What a training is made of, its steps, and its state as a checkpoint holds it."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.amp import GradScaler
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel

from torchopt_ref.errors import UserError

from .distributed import Processes, is_lost_connection
from .optimizers import Schedule

SCHEDULED = ("lr", "momentum", "betas")
"""What a schedule sets in param groups; ``roll_back`` keeps it, because the schedule goes on."""


@dataclass
class Position:
    """How far the training is, and its sums over the epoch so far, of all processes."""

    epoch: int = 0
    """epochs that are finished"""
    batch: int = 0
    """batches of this epoch that are finished"""
    step: int = 0
    """steps of the optimizer, those included that ``GradScaler`` skipped"""
    loss: float = 0.0
    """the sum of the losses of this epoch's images"""
    hits: int = 0
    """images of this epoch that were classified correctly"""
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
        """The epoch in numbers; without loss and accuracy if all its batches were skipped."""
        row: dict[str, Any] = {"epoch": self.epoch + 1, "step": self.step}
        if self.images:
            row |= {"loss": self.loss / self.images, "accuracy": self.hits / self.images}
        return row

    def next_epoch(self, accuracy: float) -> None:
        self.best = max(self.best, accuracy)
        self.epoch, self.batch = self.epoch + 1, 0
        self.loss, self.hits, self.images = 0.0, 0, 0


@dataclass
class TrainingState:
    """All that changes while a model is trained, so that a checkpoint has to hold it."""

    sharded: ClassVar[bool] = False
    """whether each process holds only a part of every parameter"""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: GradScaler
    ema: AveragedModel | None
    device: torch.device
    processes: Processes
    position: Position = field(default_factory=Position)

    @property
    def judged(self) -> nn.Module:
        """The model to evaluate: with the averaged weights, if there are any."""
        return self.ema.module if self.ema else self.model

    def step(self, clip: float) -> None:
        """A step of the optimizer, and of all that goes with it."""
        self.step_optimizer(clip)
        self.schedule.step()
        if self.ema:
            self.ema.update_parameters(self.model)
        self.position.step += 1

    def step_optimizer(self, clip: float) -> None:
        """Let the optimizer make a step, with the gradients' norm clipped to ``clip``, unless 0."""
        if clip:
            self.scaler.unscale_(self.optimizer)
            clip_grad_norm_(self.model.parameters(), clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """All of it as tensors and plain values; every process has to call it."""
        return self.weights() | {
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "position": asdict(self.position),
            "random": self.processes.gather(random_state(self.device)),
        }

    def weights(self) -> dict[str, Any]:
        """The model, the optimizer, and the average of the weights if there is one."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state``.

        Each process takes the random numbers of its rank. Where there are more processes than in
        ``state``, the others keep their own.

        Raises:
            UserError: ``state`` does not fit this training.
        """
        try:
            self.load_weights(state)
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
        """Take model, optimizer and average from ``state``; position and schedule stay."""
        groups = self.optimizer.param_groups
        schedules = [{k: v for k, v in group.items() if k in SCHEDULED} for group in groups]
        self.load_weights(state)
        for group, now in zip(self.optimizer.param_groups, schedules, strict=True):
            group.update(now)

    def load_weights(self, state: dict[str, Any]) -> None:
        """The inverse of ``weights``, and the scale of the gradients, which belongs to them."""
        self.scaler.load_state_dict(state["scaler"])
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
    """Seed the global generators of torch, NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
