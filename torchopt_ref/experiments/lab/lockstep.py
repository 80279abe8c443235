"""How far the two sides of one training are apart, and how far they may be after one step."""

from __future__ import annotations

import math
from string import ascii_letters

import numpy as np

from torchopt_ref.sides import Configuration

from .trainers import Arrays, NumpyTrainer, TorchTrainer, Trainer

STEP_ULP = 4.0
"""The bound for SGD and Momentum: how far apart, in the ULP of :func:`weight_difference`, one
float64 step from the same weights may set the sides.

The sides' gradients differ, because each side sums the products over a mini-batch in its own order.
The difference times the learning rate is less than the ULP of the weights. What remains is a weight
that one side rounds up and the other down. Measured over 30 seeds: 1.25.
"""
ADAPTIVE_STEP_ULP = 2.0**18
"""The same bound for optimizers that divide a gradient by its own size.

Where a gradient g is near 0, ``lr g / (sqrt(h) + eps)`` magnifies a difference of g by lr / eps: by
1e5, about 2^17, with the textbook's hyper-parameters. The bound allows the gradients to differ by 2
ULP of the weights. Measured over 30 seeds: 22,988 (RMSprop). A dialect with a smaller eps has a
larger bound: see :func:`step_bound`.
"""


def differences(
    trainers: dict[str, Trainer], curves: dict[str, dict[str, list]], lockstep: bool
) -> dict[str, float]:
    """How far the sides are apart after a step. In lockstep NumPy then takes over torch's state."""
    by_numpy, by_torch = (curves[side]["loss/train"][-1] for side in ("numpy", "torch"))
    found = {"sides/loss_difference": abs(by_numpy - by_torch)}
    if lockstep:
        follower, leader = trainers["numpy"], trainers["torch"]
        assert isinstance(follower, NumpyTrainer)
        assert isinstance(leader, TorchTrainer)
        ulp, distance = weight_difference(follower.weights(), leader.weights())
        found |= {"lockstep/max_ulp": ulp, "lockstep/max_abs": distance}
        follower.copy_from(leader)
    return found


def largest_differences(curves: dict[str, list]) -> dict[str, float]:
    """The maxima of the curves of :func:`differences`; NaN if there is one."""
    loss = curves["sides/loss_difference"]
    largest = {"first 100": np.max(loss[:100]), "ever": np.max(loss)}
    if "lockstep/max_ulp" in curves:
        largest["step ULP"] = np.max(curves["lockstep/max_ulp"])
        largest["step"] = np.max(curves["lockstep/max_abs"])
    return {key: float(value) for key, value in largest.items()}


def bound_of(configuration: Configuration) -> float:
    """The bound for a step of an optimizer with these options, in ULP."""
    hyper = configuration.reference().hyper
    return step_bound(configuration.name, hyper["lr"] / hyper["eps"] if "eps" in hyper else 1.0)


def step_bound(optimizer: str, magnified: float = 1e5) -> float:
    """The bound for a step of an optimizer that magnifies differences of gradients near 0.

    ``magnified`` is the factor lr / eps. The bound is the first power of two from ``2 lr / eps``
    on, but at least ``ADAPTIVE_STEP_ULP``. An optimizer with eps inside the root magnifies less, by
    lr / sqrt(eps), and so keeps the bound, too.
    """
    if optimizer.rpartition(".")[2] in ("SGD", "Momentum", "Nesterov"):
        return STEP_ULP
    return max(ADAPTIVE_STEP_ULP, 2.0 ** math.ceil(math.log2(2 * magnified)))


def weight_difference(a: Arrays, b: Arrays) -> tuple[float, float]:
    """The largest difference between two sets of weights, in ULP and absolute.

    The unit is that in the last place of the largest value in the layer; ``W1``, ``b1`` and
    ``gamma1`` are of one layer. Counted in units of each value, a difference would have no bound
    where values pass zero. Counted in units of each tensor, it would have none for the biases
    before a batch normalisation, which are nothing but rounding. The result is NaN if a weight is.
    """
    largest: dict[str, float] = {}
    for name, array in b.items():
        layer = name.lstrip(ascii_letters)
        largest[layer] = np.maximum(largest.get(layer, 0), np.abs(array).max())
    distances = {name: np.abs(a[name] - b[name]).max() for name in a}
    ulps = [d / np.spacing(largest[name.lstrip(ascii_letters)]) for name, d in distances.items()]
    return float(np.max(ulps)), float(np.max([*distances.values()]))
