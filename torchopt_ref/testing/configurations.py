"""The optimizers, conventions and options that parity is shown for."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

import numpy_ref.optimizers as reference
from torchopt_ref import optim

OPTIONS: dict[str, dict[str, list[dict[str, Any]]]] = {
    "SGD": {
        "torch": [
            {},
            {"weight_decay": 0.1},
            {"maximize": True},
            {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1},
        ],
        "book": [{}],
    },
    "Momentum": {
        "torch": [{}, {"momentum": 0.5, "weight_decay": 0.1}, {"nesterov": True, "maximize": True}],
        "book": [{}, {"lr": 0.1, "momentum": 0.5}],
    },
    "Nesterov": {
        "torch": [{}, {"weight_decay": 0.1}],
        "book": [{}, {"lr": 0.1, "momentum": 0.5}],
    },
    "AdaGrad": {
        "torch": [
            {},
            {"lr_decay": 0.01, "initial_accumulator_value": 0.1},
            {"weight_decay": 0.1, "maximize": True},
        ],
        "book": [{}, {"lr": 1.5}],
    },
    "RMSprop": {
        "torch": [
            {},
            {"centered": True},
            {"momentum": 0.9, "weight_decay": 0.1},
            {"centered": True, "momentum": 0.9, "maximize": True},
        ],
        "book": [{}, {"alpha": 0.9}],
    },
    "Adam": {
        "torch": [
            {},
            {"amsgrad": True},
            {"weight_decay": 0.1, "maximize": True},
            {"betas": (0.5, 0.9), "eps": 1e-3},
        ],
        "book": [{}, {"lr": 0.3, "betas": (0.5, 0.9)}],
    },
    "AdamW": {"torch": [{}, {"amsgrad": True, "weight_decay": 0.1}, {"maximize": True}]},
}

ENGINES: dict[str, dict[str, Any]] = {
    "per-tensor": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "flat": {"flat": True},
}
"""The ways to run a step that parity is shown for, and the options that choose them."""

TORCH_NAMES = {"Momentum": "SGD", "Nesterov": "SGD", "AdaGrad": "Adagrad"}


class Configuration(NamedTuple):
    """One optimizer in one convention with the options that differ from its defaults."""

    optimizer: str
    convention: str
    options: dict[str, Any]

    def ours(self, params: Any, **engine: Any) -> torch.optim.Optimizer:
        cls = getattr(optim, self.optimizer)
        return cls(params, convention=self.convention, **self.options, **engine)

    def reference(self) -> reference.Optimizer:
        return getattr(reference, self.optimizer)(convention=self.convention, **self.options)

    def torchs(self, params: Any) -> torch.optim.Optimizer:
        """``torch.optim``'s optimizer of the same formula, on its per-tensor path."""
        options = self.options
        if self.optimizer in ("Momentum", "Nesterov"):
            options = {"momentum": 0.9} | options
        if self.optimizer == "Nesterov":
            options = {"nesterov": True} | options
        cls = getattr(torch.optim, TORCH_NAMES.get(self.optimizer, self.optimizer))
        return cls(params, foreach=False, **options)


def configurations(optimizers: list[str] | None = None) -> Iterator[Configuration]:
    """Every configuration of the named optimizers, by default of all."""
    for name in optimizers or OPTIONS:
        for convention, option_sets in OPTIONS[name].items():
            for options in option_sets:
                yield Configuration(name, convention, options)
