"""What sets the two engines apart in one training."""

from __future__ import annotations

import math
from string import ascii_letters

import numpy as np

from torchopt_ref.sides import Configuration

from .networks import Arrays, Engine, NumpyEngine, TorchEngine

STEP_ULP = 4.0
"""The most that a float64 step from the same weights may set the engines apart, in ULP of
:func:`apart`, by SGD and Momentum.

The engines' gradients differ, since each sums the products over a mini-batch in an order of its
own. Times the learning rate that is less than the ULP of the weights, so what remains is one weight
rounded up by one engine and down by the other. Measured, over 30 seeds: 1.25.
"""
ADAPTIVE_STEP_ULP = 2.0**18
"""The same by the optimizers that divide a gradient by its own size.

Where a gradient g is near 0, ``lr g / (sqrt(h) + eps)`` magnifies its difference by lr / eps, which
is 1e5, about 2^17, with the textbook's hyper-parameters. The bound allows the gradients to differ
by 2 ULP of the weights. Measured, over 30 seeds: 22,988 (RMSprop). A dialect with a smaller eps has
a larger bound: see :func:`step_bound`.
"""


def differences(
    made: dict[str, Engine], curves: dict[str, dict[str, list]], lockstep: bool
) -> dict[str, float]:
    """What sets the engines apart after a step; in lockstep the NumPy engine then follows."""
    by_numpy, by_torch = (curves[key]["loss/train"][-1] for key in ("numpy", "torch"))
    found = {"engines/loss_difference": abs(by_numpy - by_torch)}
    if lockstep:
        follower, leader = made["numpy"], made["torch"]
        assert isinstance(follower, NumpyEngine)
        assert isinstance(leader, TorchEngine)
        ulp, distance = apart(follower.weights(), leader.weights())
        found |= {"lockstep/max_ulp": ulp, "lockstep/max_abs": distance}
        follower.copy_from(leader)
    return found


def largest_differences(curves: dict[str, list]) -> dict[str, float]:
    loss = curves["engines/loss_difference"]
    largest = {"first 100": np.max(loss[:100]), "ever": np.max(loss)}
    if "lockstep/max_ulp" in curves:
        largest["step ULP"] = np.max(curves["lockstep/max_ulp"])
        largest["step"] = np.max(curves["lockstep/max_abs"])
    return {key: float(value) for key, value in largest.items()}


def bound_of(configuration: Configuration) -> float:
    """The most that a step may set the engines apart by an optimizer with these options."""
    hyper = configuration.reference().hyper
    return step_bound(configuration.name, hyper["lr"] / hyper["eps"] if "eps" in hyper else 1.0)


def step_bound(optimizer: str, magnified: float = 1e5) -> float:
    """The same by its name, and lr / eps, by which it magnifies a difference of gradients near 0.

    It is at least ``ADAPTIVE_STEP_ULP``, else the power of two from ``2 lr / eps`` on. With eps
    inside the root less is magnified, lr / sqrt(eps).
    """
    if optimizer.rpartition(".")[2] in ("SGD", "Momentum", "Nesterov"):
        return STEP_ULP
    return max(ADAPTIVE_STEP_ULP, 2.0 ** math.ceil(math.log2(2 * magnified)))


def apart(a: Arrays, b: Arrays) -> tuple[float, float]:
    """The largest difference between two sets of weights, in ULP and absolute.

    A difference counts in units in the last place of the largest value of its layer (``W1``, ``b1``
    and ``gamma1`` are of one layer). In those of the value itself it would have no bound where
    values pass zero; in those of the tensor none where a whole tensor is rounding, as the biases
    before a batch normalisation, whose gradient is zero but for rounding. NaN if there is one.
    """
    largest: dict[str, float] = {}
    for name, array in b.items():
        layer = name.lstrip(ascii_letters)
        largest[layer] = np.maximum(largest.get(layer, 0), np.abs(array).max())
    distances = {name: np.abs(a[name] - b[name]).max() for name in a}
    ulps = [d / np.spacing(largest[name.lstrip(ascii_letters)]) for name, d in distances.items()]
    return float(np.max(ulps)), float(np.max([*distances.values()]))
