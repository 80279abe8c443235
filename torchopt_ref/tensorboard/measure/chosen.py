"""What the process that writes measures, beside what is measured of each optimizer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from ..write.output import Output
from .activations import Activations
from .carried_over import CarriedOver
from .ends import Ends
from .graph import Graph
from .health import Health
from .layers import Layers, is_compiled
from .normalization import Normalization
from .pictures import Figures
from .speed import Speed


@dataclass
class Parts:
    """The parts that were chosen; ``in_layers`` are those with hooks in a recorded step."""

    output: Output | None = None
    activations: Activations | None = None
    ends: Ends | None = None
    in_layers: list[Activations | Normalization | CarriedOver | Ends] = field(default_factory=list)
    health: Health | None = None
    speed: Speed | None = None
    figures: Figures | None = None
    graph: Graph | None = None


def chosen(
    quantities: Collection[str],
    models: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    layers: Layers,
    output: Output,
    window: int,
    nonfinite: str,
) -> Parts:
    """The parts for these quantities; what cannot be measured is noted in the output."""
    parts = Parts(output)
    compiled = is_compiled(module for model in models.values() for module in model.modules())
    if "activations" in quantities and compiled:
        output.note(
            "The model is compiled: hooks in it would change its graph, so activation layers, "
            "BatchNorm and Dropout are not measured."
        )
    elif "activations" in quantities:
        parts.activations = Activations(layers.modules, layers.limit, window)
        parts.in_layers += [parts.activations, Normalization(layers.modules, layers.limit)]
        if not parts.activations:
            output.note(
                "The model has no activation layers (functions such as torch.relu cannot be seen): "
                "use modules such as torch.nn.ReLU to see them."
            )
    if "health" in quantities:
        at_once = nonfinite == "raise" or device_of(models).type == "cpu"
        parts.health = Health(layers, nonfinite, at_once, output.tells, output.not_finite)
        parts.ends = Ends(next(iter(models.values())), is_whole=len(models) == 1)
        parts.in_layers += [CarriedOver(optimizer), parts.ends]
    if "speed" in quantities:
        parts.speed = Speed(device_of(models))
    if "pictures" in quantities:
        parts.figures = Figures(output)
    if "graph" in quantities and not compiled:
        parts.graph = Graph(next(iter(models.values())))
    return parts


def device_of(models: Mapping[str, nn.Module]) -> torch.device:
    for model in models.values():
        for param in model.parameters():
            return param.device
    return torch.device("cpu")
