"""Which quantities are measured, and in which order they are told of what happens."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import nn

from ..write.output import Output
from .activations import Activations
from .carried_over import CarriedOver
from .drift import Drift
from .ends import Ends
from .graph import Graph
from .health import Health
from .layers import Layers, is_compiled
from .logged import Logged
from .normalization import Normalization
from .pictures import Pictures
from .quantity import Quantity
from .slots import Slots
from .speed import Speed
from .trained import Trained
from .updates import Updates

QUANTITIES = {
    "updates": "norms of weights, gradients and updates, their ratios, cosine and noise scale",
    "slots": "what the optimizer remembers",
    "activations": "activation layers, BatchNorm and Dropout",
    "drift": "parity with the NumPy reference and with float64, of a sample",
    "health": "values that are not finite, gradients carried over, the model's input and output",
    "speed": "times, samples per second, memory",
    "pictures": "confusion matrix and wrong predictions, of what log() is given",
    "graph": "the model's graph, traced once on a copy",
}
DEFAULT = tuple(name for name in QUANTITIES if name != "graph")


def chosen(
    names: Collection[str],
    models: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    layers: Layers,
    logged: Logged,
    output: Output,
    window: int,
    nonfinite: str,
) -> dict[str, list[Quantity]]:
    """The quantities of these ``names`` that follow each optimizer; what is not about parameters
    follows the first one.

    The order matters in three places: ``Speed`` comes first, so that its clock does not count what
    the others do; ``Logged`` before ``Pictures``, which draws its confusion matrix; ``Health``
    before what keeps copies for a step that it may refuse.
    """
    model, first = next(iter(models.values())), next(iter(optimizers.values()))
    device = device_of(models)
    compiled = is_compiled(module for model in models.values() for module in model.modules())
    ends = Ends(model, is_whole=len(models) == 1) if "health" in names else None
    health: list[Quantity] = []
    of_training: list[Quantity] = [Trained(layers, optimizers, ends, output)]
    if ends:
        at_once = nonfinite == "raise" or device.type == "cpu"
        health.append(
            Health(
                layers,
                [*optimizers.values()],
                nonfinite,
                at_once,
                output.tells,
                output.not_finite,
            )
        )
        of_training += [CarriedOver(first), ends]
    if "activations" in names and compiled:
        output.note(
            "The model is compiled: hooks in it would change its graph, so activation layers, "
            "BatchNorm and Dropout are not measured."
        )
    elif "activations" in names:
        activations = Activations(layers.modules, layers.limit, window)
        of_training += [activations, Normalization(layers.modules, layers.limit)]
        if not activations:
            output.note(
                "The model has no activation layers (functions such as torch.relu cannot be seen): "
                "use modules such as torch.nn.ReLU to see them."
            )
    if "pictures" in names:
        of_training.append(Pictures(output, logged))
    if "graph" in names and not compiled:
        of_training.append(Graph(model, output))
    clock: list[Quantity] = [Speed(device)] if "speed" in names else []
    found: dict[str, list[Quantity]] = {}
    for name, optimizer in optimizers.items():
        own = of_parameters(names, optimizer, name, layers)
        found[name] = (
            [*clock, logged, *health, *own, *of_training] if optimizer is first else [*health, *own]
        )
    return found


def of_parameters(
    names: Collection[str], optimizer: torch.optim.Optimizer, name: str, layers: Layers
) -> list[Quantity]:
    """What is measured of each optimizer."""
    found: list[Quantity] = []
    if "drift" in names:
        found.append(Drift(optimizer, name))
    if "updates" in names:
        found.append(Updates(optimizer, layers, name))
    if "slots" in names:
        found.append(Slots(optimizer, name))
    return found


def device_of(models: Mapping[str, nn.Module]) -> torch.device:
    for model in models.values():
        for param in model.parameters():
            return param.device
    return torch.device("cpu")
