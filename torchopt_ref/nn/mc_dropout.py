"""Dropout as an ensemble of networks."""

from typing import NamedTuple

import torch
from torch.nn.modules.dropout import _DropoutNd


class Prediction(NamedTuple):
    """Mean and variance over the networks of an ensemble, each shaped like the model's output."""

    mean: torch.Tensor
    variance: torch.Tensor


@torch.no_grad()
def mc_dropout(model: torch.nn.Module, x: torch.Tensor, passes: int) -> Prediction:
    """Predict with the dropout layers left on, and see how far the predictions spread.

    ``mean = 1/T sum y_t`` and ``variance = 1/T sum (y_t - mean)^2`` over ``T = passes`` outputs
    ``y_t = model(x)``, each with other masks. Only dropout layers, those of this package and those
    of ``torch.nn``, are in training mode meanwhile; so batch normalisation uses its running
    statistics and leaves them alone. Afterwards every module is in the mode in which it was, also
    when the model raises. No gradient is recorded. Dropout inside a function or a layer that has
    no dropout module of its own (``torch.nn.MultiheadAttention``, ``torch.nn.LSTM``) stays off.

    Y. Gal, Z. Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016.

    Args:
        model: its output is one tensor.
        x: what the model takes.
        passes: the number of outputs; with one the variance is 0.

    Raises:
        ValueError: ``passes`` is less than 1, or the model has no dropout layer.
    """
    if passes < 1:
        raise ValueError(f"passes must be at least 1, got {passes}")
    modes = {module: module.training for module in model.modules()}
    if not any(isinstance(module, _DropoutNd) for module in modes):
        raise ValueError(f"{type(model).__name__} has no dropout layer: every pass is the same")
    try:
        for module in modes:
            module.training = isinstance(module, _DropoutNd)
        outputs = torch.stack([model(x) for _ in range(passes)])
    finally:
        for module, training in modes.items():
            module.training = training
    return Prediction(outputs.mean(0), outputs.var(0, correction=0))
