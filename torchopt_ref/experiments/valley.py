"""Paths of the optimizers down f(x, y) = x^2/20 + y^2, a valley twenty times as long as wide."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

import numpy_ref.optimizers as reference
from torchopt_ref import optim
from torchopt_ref.tensorboard import RunFolder

from .figures import valley_paths

START = (-7.0, 2.0)
STEPS = 30
LEARNING_RATES = {"SGD": 0.95, "Momentum": 0.1, "AdaGrad": 1.5, "RMSprop": 0.1, "Adam": 0.3}


def run_valley(folder: RunFolder, engines: tuple[str, ...]) -> dict[str, Any]:
    """30 steps of each optimizer by each engine; where they ended, and how far apart."""
    shown, results = {}, {}
    for name, lr in LEARNING_RATES.items():
        paths = {engine: np.array(list(PATHS[engine](name, lr))) for engine in engines}
        for engine, path in paths.items():
            for step, (x, y) in enumerate(path):
                folder.writer(f"{name}-{engine}").add_scalar("valley/f", f(x, y), step)
        shown[name] = paths[engines[-1]]
        difference = np.abs(paths[engines[0]] - paths[engines[-1]]).max()
        results[name] = {
            "lr": lr,
            "f": f(*shown[name][-1]),
            "max_engine_difference": float(difference) if len(engines) > 1 else None,
        }
    folder.add_figure("valley", valley_paths(shown))
    return results


def f(x: Any, y: Any) -> Any:
    return x**2 / 20 + y**2


def numpy_path(name: str, lr: float) -> Iterator[tuple[float, float]]:
    params = {"x": np.array(START[0]), "y": np.array(START[1])}
    optimizer = getattr(reference, name)(lr, convention="book")
    yield START
    for _ in range(STEPS):
        optimizer.update(params, {"x": params["x"] / 10, "y": 2 * params["y"]})
        yield float(params["x"]), float(params["y"])


def torch_path(name: str, lr: float) -> Iterator[tuple[float, float]]:
    x, y = (torch.nn.Parameter(torch.tensor(start, dtype=torch.float64)) for start in START)
    optimizer = getattr(optim, name)([x, y], lr=lr, convention="book")
    yield START
    for _ in range(STEPS):
        optimizer.zero_grad()
        f(x, y).backward()
        optimizer.step()
        yield x.item(), y.item()


PATHS = {"numpy": numpy_path, "torch": torch_path}
