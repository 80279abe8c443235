"""What is trained, and with what options: what the diagnosis knows besides the curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..write.facts import group_values
from ..write.output import Output
from ..write.record import Record
from .ends import Ends
from .layers import Layers
from .quantity import Quantity


class Trained(Quantity):
    """Gives the output a function that returns these facts. The output writes them with the first
    record, and again when they change."""

    def __init__(
        self,
        layers: Layers,
        optimizers: Mapping[str, torch.optim.Optimizer],
        ends: Ends | None,
        output: Output,
    ) -> None:
        self._layers, self._optimizers = layers, optimizers
        self._ends, self._output = ends, output

    def complete(self, record: Record) -> None:
        if record.optimizer:
            self._output.trained = self._facts

    def _facts(self) -> dict[str, Any]:
        layers, ends, optimizers = self._layers, self._ends, self._optimizers.values()
        return {
            "param groups": [
                {
                    "optimizer": type(optimizer).__name__,
                    "maximize": bool(group.get("maximize")),
                    **group_values(group),
                }
                for optimizer in optimizers
                for group in optimizer.param_groups
            ],
            "layers of each optimizer": {
                name or "all": layers.charts_of(each) for name, each in self._optimizers.items()
            },
            "frozen layers": layers.frozen(),
            "layers in no param group": layers.forgotten(optimizers),
            "parameters outside of the model": layers.outside(
                optimizers, ends.leaves if ends else []
            ),
            "floating input": bool(ends and ends.takes_floats),
        }
