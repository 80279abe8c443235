"""Parameters and gradients that are hard on an optimizer."""

import functools
from collections.abc import Iterator

import numpy as np
import torch

SHAPES = {
    "scalar": (),
    "empty": (0, 3),
    "matrix": (16, 9),
    "non_contiguous": (7, 5),
    "channels_last": (2, 3, 4, 5),
}


def parameters(dtype: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Normal values in the shapes of ``SHAPES``, which include a scalar and an empty tensor."""
    rng = np.random.default_rng(seed)
    return {
        name: np.asarray(rng.standard_normal(shape)).astype(dtype) for name, shape in SHAPES.items()
    }


def gradients(
    params: dict[str, np.ndarray], steps: int, seed: int = 0
) -> Iterator[dict[str, np.ndarray]]:
    """Gradients for ``steps`` steps; each element keeps its kind, that of its position modulo 8.

    Normal; alternating in sign; of any magnitude between tiny and huge; zero; zero with
    probability 0.9; denormal; tiny (its square underflows); huge (its square is near overflow).
    The very last element overflows when squared.
    """
    rng = np.random.default_rng(seed + 1)
    for step in range(steps):
        yield {name: extreme(rng, param, step) for name, param in params.items()}


@functools.lru_cache(maxsize=4)
def standard_gradients(dtype: str, steps: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """``gradients`` for ``parameters``, as a list: drawing them costs as much as a step."""
    return list(gradients(parameters(dtype, seed), steps, seed))


def extreme(rng: np.random.Generator, param: np.ndarray, step: int) -> np.ndarray:
    info = np.finfo(param.dtype)
    root_max = float(np.sqrt(info.max))
    normal = rng.standard_normal(param.size)
    exponent = rng.uniform(-1, 1, param.size) * np.log(root_max)
    kinds = [
        normal,
        np.abs(normal) * (-1) ** step,
        normal * np.exp(exponent * 0.9),
        0 * normal,
        normal * (rng.random(param.size) < 0.1),
        normal * float(info.smallest_subnormal) * 100,
        normal * float(np.sqrt(info.smallest_subnormal)) / 10,
        np.sign(normal) * root_max / 100,
    ]
    grad = np.choose(np.arange(param.size) % len(kinds), kinds)
    if param.size > len(kinds):
        grad[-1] = 100 * root_max
    with np.errstate(over="ignore"):
        return grad.astype(param.dtype).reshape(param.shape)


def as_parameter(name: str, array: np.ndarray, device: str) -> torch.nn.Parameter:
    """A copy of ``array``, laid out in memory as its name says."""
    tensor = torch.from_numpy(array.copy()).to(device)
    if name == "non_contiguous":
        tensor = tensor.t().contiguous().t()
    elif name == "channels_last":
        tensor = tensor.to(memory_format=torch.channels_last)
    return torch.nn.Parameter(tensor)
