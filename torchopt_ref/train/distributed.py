"""The processes of a training: one, or those that torchrun started."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from torchopt_ref.errors import UserError, first_line


class LostProcess(Exception):
    """Another process of the training has gone, or does not answer."""


@dataclass(frozen=True)
class Processes:
    """Which process this is, and how many there are."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in each of them."""
        values = [value]
        if self.count > 1:
            values = [None] * self.count
            dist.all_gather_object(values, value)
        return values

    def share_buffers(self, model: nn.Module) -> None:
        """Give every process the first one's buffers, such as a BatchNorm's statistics."""
        if self.count > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def from_first(self, value: Any) -> Any:
        """The first process's value, in each of them."""
        values = [value]
        if self.count > 1:
            dist.broadcast_object_list(values)
        return values[0]


def choose_device(name: str) -> torch.device:
    """``auto``, ``cpu`` or ``cuda`` as a device; under torchrun each process has its own."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cuda":
        return torch.device(name)
    index = int(os.environ.get("LOCAL_RANK", "0"))
    if index >= torch.cuda.device_count():
        raise UserError(
            f"there are {torch.cuda.device_count()} CUDA devices for local process {index}: start "
            "fewer processes (torchrun --nproc-per-node), or use --device cpu"
        )
    return torch.device("cuda", index)


def under_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextmanager
def joined_processes(device: torch.device, timeout: int) -> Iterator[Processes]:
    """Join the processes that torchrun started; without torchrun there is one.

    Raises:
        LostProcess: within the context another process has died or is silent for ``timeout``
            seconds.
    """
    if not under_torchrun():
        yield Processes()
        return
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    patience = timedelta(seconds=timeout)
    agents = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    try:
        store = dist.TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            count,
            is_master=rank == 0 and not agents,
            timeout=patience,
        )
        # torchrun's store outlives a restart of the processes. Each attempt has a prefix of its
        # own, so that it does not read what the dead processes wrote.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=dist.PrefixStore(f"attempt {attempt}", store),
            rank=rank,
            world_size=count,
            timeout=patience,
        )
        yield Processes(rank, count)
    except BaseException as error:
        clear_frames(error)
        # torch's DistError is a RuntimeError, too.
        if isinstance(error, RuntimeError) and is_lost_connection(error):
            raise LostProcess(first_line(error)) from error
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def clear_frames(error: BaseException | None) -> None:
    """Forget what the functions held that the error, or one before it, has ended.

    If the model were the last to hold the process group, torch would wait for a thread that in turn
    waits for Python's lock."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def is_lost_connection(error: Exception) -> bool:
    """Whether the error says that another process has gone: torch has no one class for that."""
    signs = ("gloo", "Connection closed", "Connection reset", "Broken pipe", "Timed out")
    return isinstance(error, dist.DistError) or any(sign in str(error) for sign in signs)
