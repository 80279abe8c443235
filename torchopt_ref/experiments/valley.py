"""Paths of the optimizers down f(x, y) = x^2/20 + y^2, a valley steeper across than along."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from torchopt_ref.sides import Configuration

from .dialects import in_dialect
from .results import Outcome

START = (-7.0, 2.0)
STEPS = 30
LEARNING_RATES = {"SGD": 0.95, "Momentum": 0.1, "AdaGrad": 1.5, "RMSprop": 0.1, "Adam": 0.3}
"""The textbook's, for every dialect."""


def walk(engine_names: Sequence[str], dialect: str = "book") -> Outcome:
    """30 steps of each optimizer of a dialect by each engine: the work of a ``Unit``.

    ``paths`` and the curves ``valley/<optimizer>`` of f, numbers: the last f of each.
    """
    outcome: Outcome = {}
    for engine in engine_names:
        paths = {
            name: list(PATHS[engine](in_dialect(name, dialect, lr)))
            for name, lr in LEARNING_RATES.items()
        }
        values = {name: [f(x, y) for x, y in path] for name, path in paths.items()}
        outcome[engine] = {
            "paths": paths,
            "curves": {f"valley/{name}": list(enumerate(fs)) for name, fs in values.items()},
            "numbers": {name: fs[-1] for name, fs in values.items()},
        }
    return outcome


def f(x: Any, y: Any) -> Any:
    return x**2 / 20 + y**2


def numpy_path(configuration: Configuration) -> Iterator[tuple[float, float]]:
    params = {"x": np.array(START[0]), "y": np.array(START[1])}
    optimizer = configuration.reference()
    yield START
    for _ in range(STEPS):
        optimizer.update(params, {"x": params["x"] / 10, "y": 2 * params["y"]})
        yield float(params["x"]), float(params["y"])


def torch_path(configuration: Configuration) -> Iterator[tuple[float, float]]:
    x, y = (torch.nn.Parameter(torch.tensor(start, dtype=torch.float64)) for start in START)
    optimizer = configuration.ours([x, y])
    yield START
    for _ in range(STEPS):
        optimizer.zero_grad()
        f(x, y).backward()
        optimizer.step()
        yield x.item(), y.item()


PATHS = {"numpy": numpy_path, "torch": torch_path}
