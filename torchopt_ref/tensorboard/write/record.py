"""One record: everything measured at one step, fetched from the device at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


@dataclass
class Record:
    """The curves' values at ``step``, histograms, and notes on what cannot be measured.

    ``optimizer`` made the step, with a gradient of ``samples`` samples, 0 if their number is
    unknown. The last record of a training has no optimizer: it holds what was logged after the last
    step.

    What the device computes is handed over with ``later`` and stays there until ``fetch``, which
    moves all of it in one transfer; what the host knows goes straight to ``scalars``.
    """

    step: int
    optimizer: torch.optim.Optimizer | None = None
    samples: int = 0
    scalars: dict[str, float] = field(default_factory=dict)
    histograms: dict[str, np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _waiting: list[tuple[list[Tensor], Callable[[np.ndarray], None]]] = field(default_factory=list)

    def later(self, tensors: list[Tensor], use: Callable[[np.ndarray], None]) -> None:
        """Call ``use`` with the values of all ``tensors`` in one flat array, once they are on the
        host."""
        if tensors:
            self._waiting.append((tensors, use))

    def scalars_later(self, tags: Sequence[str], tensors: list[Tensor]) -> None:
        """Points of these curves: the values of ``tensors``, as many as there are ``tags``."""
        self.later(
            tensors,
            lambda values: self.scalars.update(zip(tags, values.tolist(), strict=True)),
        )

    def mean_later(self, tag: str, tensors: list[Tensor]) -> None:
        """A point of this curve: the mean of all values."""
        self.later(tensors, lambda values: self.scalars.update({tag: float(values.mean())}))

    def fetch(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        device = waiting[0][0][0].device
        with torch.no_grad():
            joined = torch.cat([in_a_row(tensors, device) for tensors, _ in waiting])
        values = joined.cpu().double().numpy()
        ends = np.cumsum([sum(tensor.numel() for tensor in tensors) for tensors, _ in waiting])
        for part, (_, use) in zip(np.split(values, ends[:-1]), waiting, strict=True):
            use(part)


def in_a_row(tensors: list[Tensor], device: torch.device) -> Tensor:
    here = [t if t.device == device else t.to(device, non_blocking=True) for t in tensors]
    if all(tensor.dim() == 0 for tensor in here):
        return torch.stack(here)
    return torch.cat([tensor.detach().reshape(-1) for tensor in here])
