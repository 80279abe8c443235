"""How long a step takes, what it is spent on, and how much memory it needs."""

from __future__ import annotations

import statistics
from time import perf_counter
from typing import Any

import psutil
import torch
from torch import Tensor

from ..write.record import Record
from .quantity import Quantity
from .steps import Steps

PHASES = ("data", "forward", "backward", "optimizer")
MIB = 1 << 20


class Speed(Quantity):
    """The median times of the steps just before a record, and the memory: that of the process, and
    on CUDA that in use on the device, now and at its peak.

    ``data`` is from the end of one step to the next forward pass, ``forward`` until the model's
    first forward pass returns, ``backward`` until the optimizer's step begins (so the loss and any
    further passes belong to it), ``optimizer`` the step itself. The pauses for evaluation do not
    show in the medians, and steps in which something was recorded or written are not counted.

    On an accelerator a clock alone would only measure how long the launches take. So there is a
    wait for the device at the end of each phase, and only one step is timed.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._waits = device.type in ("cuda", "mps", "xpu")
        self._times: list[list[float]] = []
        self._samples: list[int] = []
        self._marks: list[float] = []
        self._passes_are_seen = self._counts = False

    def passes(self, are_seen: bool) -> None:
        self._passes_are_seen = are_seen

    def pass_begins(self, args: tuple[Any, ...]) -> None:
        self._mark(1)

    def pass_ends(self, input: Tensor | None, trains: bool) -> None:
        if trains:
            self._mark(2)

    def before_step(self, steps: Steps) -> None:
        self._mark(3)

    def after_step(self, steps: Steps) -> None:
        self._mark(4)
        if len(self._marks) == 5:
            self._times.append([b - a for a, b in zip(self._marks, self._marks[1:], strict=False)])
            self._samples.append(steps.samples)
        is_enough = self._waits and self._times
        self._counts = self._passes_are_seen and not steps.next_is_recorded and not is_enough
        self._marks = []
        self._mark(0)

    def written(self, record: Record) -> None:
        """The step under way, in which the record was written, is not counted."""
        self._counts = False

    def complete(self, record: Record) -> None:
        if record.optimizer is None:
            return
        if self._times:
            phases = [statistics.median(times) for times in zip(*self._times, strict=True)]
            step = statistics.median(sum(times) for times in self._times)
            tags = [f"step time/{phase} [ms]" for phase in PHASES]
            record.scalars.update(zip(tags, (1e3 * seconds for seconds in phases), strict=True))
            record.scalars["step time/whole step [ms]"] = 1e3 * step
            samples = statistics.median(self._samples)
            if samples:
                record.scalars["speed/samples per second"] = samples / step
            self._times, self._samples = [], []
        if self._device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self._device)
            record.scalars["memory/peak on the device [MiB]"] = peak / MIB
            allocated = torch.cuda.memory_allocated(self._device)
            record.scalars["memory/on the device [MiB]"] = allocated / MIB
        record.scalars["memory/of the process [MiB]"] = own_memory() / MIB

    def _mark(self, place: int) -> None:
        if self._counts and len(self._marks) == place:
            if self._waits:
                torch.accelerator.synchronize()
            self._marks.append(perf_counter())


def own_memory() -> int:
    """The memory of the process in bytes; on systems that report it, without what it shares with
    other processes, such as files mapped into memory."""
    memory = psutil.Process().memory_info()
    return memory.rss - getattr(memory, "shared", 0)
