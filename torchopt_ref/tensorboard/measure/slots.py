"""What an optimizer remembers: the distribution of its slots."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..write.record import Record
from .layers import evenly_spaced
from .quantity import Quantity

TENSORS, ELEMENTS = 64, 256
"""The sample has at most this many parameters, and elements of each slot, evenly spaced."""


class Slots(Quantity):
    """Statistics of each slot, such as ``exp_avg_sq``, over a sample of its elements.

    ``slots/<slot> [log10]`` is the histogram of ``log10 |s|`` over the elements that are not zero,
    ``slot size/<slot>`` the root mean square of the sample.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, name: str) -> None:
        self._optimizer = optimizer
        self._of = f" of {name}" if name else ""

    def collect(self, record: Record) -> None:
        tensors: dict[str, list[Tensor]] = {}
        for param, state in evenly_spaced([*self._optimizer.state.items()], TENSORS):
            for slot, value in state.items():
                if isinstance(value, Tensor) and value.shape == param.shape and value.numel():
                    tensors.setdefault(slot, []).append(value)
        for slot, each in tensors.items():
            sampled = [sample(tensor) for tensor in each]
            record.later(sampled, partial(add_slot, record, f"{slot}{self._of}"))


def sample(tensor: Tensor) -> Tensor:
    flat = tensor.detach().reshape(-1)
    flat = torch.view_as_real(flat).reshape(-1) if flat.is_complex() else flat
    return flat[:: -(-flat.numel() // ELEMENTS)]


def add_slot(record: Record, name: str, values: np.ndarray) -> None:
    size = np.abs(values)
    rms = peak = float(size.max())
    if 0 < peak < np.inf:
        rms = peak * float(np.sqrt(np.mean((size / peak) ** 2)))
    record.scalars[f"slot size/{name}"] = rms
    if (size > 0).any():
        record.histograms[f"slots/{name} [log10]"] = np.log10(size[size > 0])
