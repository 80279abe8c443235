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
    """The quantities with these ``names``, for each optimizer; those that are not about parameters
    belong to the first one.

    Their order matters in three places: ``Speed`` comes first, so that it does not time the others;
    ``Logged`` and ``Pictures`` come before ``Health``, so that they have seen the batch when
    ``Health`` raises an error; ``Health``, which may refuse a step, comes before quantities that
    copy the parameters before a step.
    """
    device = device_of(models)
    at_once = nonfinite == "raise" or device.type == "cpu"
    everywhere: list[Quantity] = []
    if "health" in names:
        watched = [*optimizers.values()]
        everywhere.append(
            Health(layers, watched, nonfinite, at_once, output.tells, output.not_finite)
        )
    found = {
        name: [*everywhere, *of_optimizer(names, each, name, layers)]
        for name, each in optimizers.items()
    }
    first = next(iter(found))
    clock = [Speed(device)] if "speed" in names else []
    pictures = [Pictures(output, logged)] if "pictures" in names else []
    training = of_training(names, models, optimizers, layers, output, window)
    found[first] = [*clock, logged, *pictures, *found[first], *training]
    return found


def of_optimizer(
    names: Collection[str], optimizer: torch.optim.Optimizer, name: str, layers: Layers
) -> list[Quantity]:
    found: list[Quantity] = []
    if "drift" in names:
        found.append(Drift(optimizer, name))
    if "updates" in names:
        found.append(Updates(optimizer, layers, name))
    if "slots" in names:
        found.append(Slots(optimizer, name))
    return found


def of_training(
    names: Collection[str],
    models: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    layers: Layers,
    output: Output,
    window: int,
) -> list[Quantity]:
    """What is measured of the model and of the training as a whole. A note says what cannot be
    measured."""
    model = next(iter(models.values()))
    compiled = is_compiled(module for each in models.values() for module in each.modules())
    found: list[Quantity] = []
    ends = None
    if "health" in names:
        ends = Ends(model, is_whole=len(models) == 1)
        found += [CarriedOver(next(iter(optimizers.values()))), ends]
    found.append(Trained(layers, optimizers, ends, output))
    if "activations" in names and compiled:
        output.note(
            "The model is compiled: hooks in it would change its graph, so activation layers, "
            "BatchNorm and Dropout are not measured."
        )
    elif "activations" in names:
        activations = Activations(layers.modules, layers.limit, window)
        found += [activations, Normalization(layers.modules, layers.limit)]
        if not activations:
            output.note(
                "The model has no activation layers (functions such as torch.relu cannot be seen): "
                "use modules such as torch.nn.ReLU to see them."
            )
    if "graph" in names and not compiled:
        found.append(Graph(model, output))
    return found


def device_of(models: Mapping[str, nn.Module]) -> torch.device:
    for model in models.values():
        for param in model.parameters():
            return param.device
    return torch.device("cpu")
