"""FSDP2: each process keeps a part of every parameter.

This imports torch's compiler, which takes longer than torch itself; so it is imported for a sharded
training only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from torchopt_ref.errors import UserError

from .state import TrainingState

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def shard(model: nn.Module, device: torch.device, processes: int) -> None:
    """Shard ``model`` in place, block by block, over all processes.

    Blocks are the model's children that have parameters; a plain container, as in a ResNet, is
    replaced by its own children. In the forward and the backward pass only one block at a time has
    whole parameters.

    Raises:
        UserError: torchrun did not start this process.
    """
    if not dist.is_initialized():
        raise UserError(
            "--fsdp shards over the processes of torchrun: start it by torchrun, or omit --fsdp"
        )
    mesh = init_device_mesh(device.type, (processes,))
    for block in (*blocks(model), model):
        fully_shard(block, mesh=mesh, reshard_after_forward=True)


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    for child in model.children():
        if type(child) in CONTAINERS:
            yield from blocks(child)
        elif any(True for _ in child.parameters()):
            yield child


class ShardedTraining(TrainingState):
    """A training whose ``model``, and the average of it, were given to ``shard``."""

    sharded = True

    def weights(self) -> dict[str, Any]:
        """This process's part, in a form that any number of processes can read."""
        of_model, of_optimizer = get_state_dict(self.model, self.optimizer)
        average = get_model_state_dict(self.ema) if self.ema else {}
        return {"model": of_model, "optimizer": of_optimizer, "ema": average}

    def load_weights(self, state: dict[str, Any]) -> None:
        self.scaler.load_state_dict(state["scaler"])
        set_state_dict(
            self.model,
            self.optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
        )
        if self.ema:
            set_model_state_dict(self.ema, state["ema"])
