"""FSDP2: each process keeps a part of every parameter."""

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
from torch.optim.swa_utils import AveragedModel

from torchopt_ref.errors import UserError

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def shard(model: nn.Module, device: torch.device, processes: int) -> None:
    """Shard ``model`` in place, block by block, over all processes.

    Blocks are the modules in plain containers, such as a ResNet's: the parameters of one at a time
    are whole, in the forward and in the backward pass.

    Raises:
        UserError: torchrun did not start this process.
    """
    if not dist.is_initialized():
        raise UserError(
            "--fsdp shards over the processes of torchrun: start it by torchrun, or leave it away"
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


def sharded_weights(
    model: nn.Module, optimizer: torch.optim.Optimizer, ema: AveragedModel | None
) -> dict[str, Any]:
    """What this process has of them, in a form that other numbers of processes can read, too."""
    of_model, of_optimizer = get_state_dict(model, optimizer)
    average = get_model_state_dict(ema) if ema else {}
    return {"model": of_model, "optimizer": of_optimizer, "ema": average}


def load_sharded_weights(
    state: dict[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: AveragedModel | None,
) -> None:
    """The inverse of ``sharded_weights``."""
    set_state_dict(
        model,
        optimizer,
        model_state_dict=state["model"],
        optim_state_dict=state["optimizer"],
    )
    if ema:
        set_model_state_dict(ema, state["ema"])
