"""Parameters and gradients that are hard on an optimizer."""

import functools
from collections.abc import Callable, Iterator

import numpy as np
import torch

from numpy_ref.bfloat16 import to_bfloat16
from torchopt_ref.sides import Arrays, NumpySide, Reference, TorchSide

OptimizerFactory = Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]

SHAPES = {
    "scalar": (),
    "empty": (0, 3),
    "matrix": (16, 9),
    "non_contiguous": (7, 5),
    "channels_last": (2, 3, 4, 5),
}

KINDS = (
    *("normal", "alternating", "of any magnitude", "zero", "often zero"),
    *("denormal", "tiny", "huge"),
)
"""The kinds of gradients: an element has that of its position modulo 8."""


def parameters(dtype: str, seed: int = 0) -> Arrays:
    """Normal values in the shapes of ``SHAPES``, which include a scalar and an empty tensor.

    With ``dtype`` "bfloat16" they are bfloat16 values in float32 arrays.
    """
    rng = np.random.default_rng(seed)
    return {
        name: rounded(np.asarray(rng.standard_normal(shape)), dtype)
        for name, shape in SHAPES.items()
    }


def rounded(array: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        return to_bfloat16(array) if dtype == "bfloat16" else array.astype(dtype)


def gradients(
    params: Arrays, steps: int, seed: int = 0, dtype: str | None = None
) -> Iterator[Arrays]:
    """Gradients for ``steps`` steps; each element keeps its kind, that of its position modulo 8.

    Normal; alternating in sign; of any magnitude between tiny and huge; zero; zero with
    probability 0.9; denormal; tiny (its square underflows); huge (its square is near overflow).
    The last element of an array of more than 8 overflows when squared. ``dtype`` is that of the
    arrays, or "bfloat16".
    """
    rng = np.random.default_rng(seed + 1)
    for step in range(steps):
        yield {name: extreme(rng, param, step, dtype) for name, param in params.items()}


@functools.lru_cache(maxsize=4)
def standard_gradients(dtype: str, steps: int, seed: int = 0) -> list[Arrays]:
    """``gradients`` for ``parameters``, as a list, cached: drawing them costs as much as a step."""
    return list(gradients(parameters(dtype, seed), steps, seed, dtype))


def extreme(
    rng: np.random.Generator, param: np.ndarray, step: int, dtype: str | None = None
) -> np.ndarray:
    dtype = dtype or param.dtype.name
    info = torch.finfo(getattr(torch, dtype))
    root_max = float(np.sqrt(info.max))
    smallest = info.smallest_normal * info.eps
    normal = rng.standard_normal(param.size)
    exponent = rng.uniform(-1, 1, param.size) * np.log(root_max)
    kinds = [
        normal,
        np.abs(normal) * (-1) ** step,
        normal * np.exp(exponent * 0.9),
        0 * normal,
        normal * (rng.random(param.size) < 0.1),
        normal * smallest * 100,
        normal * float(np.sqrt(smallest)) / 10,
        np.sign(normal) * root_max / 100,
    ]
    grad = np.choose(np.arange(param.size) % len(KINDS), kinds)
    if param.size > len(KINDS):
        grad[-1] = 100 * root_max
    return rounded(grad, dtype).reshape(param.shape)


def kind_of(place: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """The kind of gradient that the element at this index gets."""
    position = int(np.ravel_multi_index(place, shape)) if shape else 0
    last = position + 1 == np.prod(shape) > len(KINDS)
    return "overflowing when squared" if last else KINDS[position % len(KINDS)]


def as_parameter(
    name: str, array: np.ndarray, device: str, dtype: torch.dtype | None = None
) -> torch.nn.Parameter:
    """A copy of ``array`` in the memory layout that ``name`` says, in ``dtype`` if given."""
    tensor = torch.from_numpy(array.copy()).to(device, dtype)
    if name == "non_contiguous":
        tensor = tensor.t().contiguous().t()
    elif name == "channels_last":
        tensor = tensor.to(memory_format=torch.channels_last)
    return torch.nn.Parameter(tensor)


def torch_side(
    factory: OptimizerFactory, params: Arrays, device: str = "cpu", dtype: str | None = None
) -> TorchSide:
    """torch's side, with copies of the arrays; in bfloat16 if that is the ``dtype``."""
    stored = torch.bfloat16 if dtype == "bfloat16" else None
    made = {name: as_parameter(name, array, device, stored) for name, array in params.items()}
    return TorchSide(made, factory([*made.values()]))


def numpy_side(optimizer: Reference, params: Arrays) -> NumpySide:
    """NumPy's side, with copies of the arrays."""
    return NumpySide({name: array.copy() for name, array in params.items()}, optimizer)
