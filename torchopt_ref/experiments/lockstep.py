"""What sets the two engines apart in one training."""

from __future__ import annotations

import numpy as np

from torchopt_ref.testing import ulp_distance

from .networks import Arrays, Engine, NumpyEngine, TorchEngine


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
    largest = {"first 100": max(loss[:100]), "ever": max(loss)}
    if "lockstep/max_ulp" in curves:
        largest["step ULP"] = max(curves["lockstep/max_ulp"])
        largest["step"] = max(curves["lockstep/max_abs"])
    return largest


def apart(a: Arrays, b: Arrays) -> tuple[int, float]:
    """The largest difference between two sets of weights, in ULP and absolute."""
    return (
        max(int(ulp_distance(a[name], b[name]).max()) for name in a),
        max(float(np.abs(a[name] - b[name]).max()) for name in a),
    )
