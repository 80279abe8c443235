"""An estimate of the memory that a training needs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from torchopt_ref.errors import UserError, first_line

GIB = 2**30
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Memory:
    """Bytes that one process of a training needs at once."""

    weights: int
    gradients: int
    slots: int
    activations: int
    """what the backward pass needs of the images that go through the model at once"""

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.slots + self.activations


def estimate(
    model: nn.Module,
    make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    shape: tuple[int, ...],
    images: int,
    copies: int = 1,
    shards: int = 1,
) -> Memory:
    """Estimate the memory of a step on ``images`` inputs of ``shape``.

    Two images go through a copy of the model; the bytes that autograd keeps of them are multiplied
    by ``images`` / 2. The work space of kernels and what torch itself needs are not counted.
    ``copies`` is 2 if the average of the weights is kept, too; ``shards`` is the number of
    processes among which weights, gradients and slots are divided.

    Raises:
        UserError: the model cannot take such inputs.
    """
    weights = sum(each.nbytes for each in (*model.parameters(), *model.buffers()))
    gradients = sum(each.nbytes for each in model.parameters() if each.requires_grad)
    probe = nn.Linear(64, 1)
    probe_optimizer = make_optimizer(probe)
    probe(torch.ones(1, 64)).sum().backward()
    probe_optimizer.step()
    slots = [
        value.nbytes / value.numel() / 4
        for value in probe_optimizer.state[probe.weight].values()
        if isinstance(value, Tensor) and value.numel() == 64
    ]
    try:
        kept = kept_for_backward(copy.deepcopy(model), torch.zeros(2, *shape))
    except Exception as error:  # of any class: the user chose the model
        size, reason = " x ".join(map(str, shape)), first_line(error)
        raise UserError(
            f"the model cannot take images of {size}: {reason}: choose another --image-size or "
            "--model"
        ) from error
    return Memory(
        copies * weights // shards,
        gradients // shards,
        round(sum(slots) * gradients) // shards,
        kept * images // 2,
    )


def kept_for_backward(model: nn.Module, x: Tensor) -> int:
    """The bytes that autograd keeps for ``model(x)``, besides parameters and buffers."""
    own = {each.untyped_storage().data_ptr() for each in (*model.parameters(), *model.buffers())}
    kept: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.random.fork_rng(), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        output = model.train()(x)
    del output
    return sum(storage.nbytes() for storage in kept.values())


def available(device: torch.device) -> int:
    """Bytes that a process may still take on ``device``."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    if (CGROUP / "memory.max").exists() and (limit := read("memory.max").strip()).isdecimal():
        stat = dict(line.split() for line in read("memory.stat").splitlines())
        # Cached files can be dropped.
        free = min(free, int(limit) - int(read("memory.current")) + int(stat["file"]))
    return free


def read(name: str) -> str:
    """A file of the control group, by which Linux limits the memory of a container."""
    return (CGROUP / name).read_text(encoding="utf-8")


def check_that_it_fits(memory: Memory, device: torch.device, processes: int) -> None:
    """Raise ``UserError`` if a step does not fit into the memory of ``device``.

    On the CPU, ``processes`` share that memory; on CUDA each has a device of its own.
    """
    room = available(device)
    needed = memory.total * (1 if device.type == "cuda" else processes)
    if needed > room:
        raise UserError(
            f"a step needs about {needed / GIB:.1f} GiB ({memory.activations / GIB:.1f} for what "
            f"the backward pass needs of the images), and {device} has {room / GIB:.1f}: "
            "lower --batch-size or --image-size, or raise --accumulate"
        )
