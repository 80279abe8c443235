"""The optimizers of this project, each with its reference, its counterpart and option sets."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch

from numpy_ref import book, keras, optax, optimizers
from torchopt_ref import optim


def optimizer_name(cls: type[torch.optim.Optimizer]) -> str:
    """The name that tells a class from those of other dialects: "Adam", "book.Adam"."""
    dialect = cls.dialect if issubclass(cls, optim.Optimizer) else "torch"
    return cls.__name__ if dialect == "torch" else f"{dialect}.{cls.__name__}"


class Known(NamedTuple):
    """An optimizer in one dialect: our class, its reference in NumPy, its counterpart in torch.

    ``torchs`` makes ``torch.optim``'s optimizer of the same formula; None where it has none.
    ``option_sets`` are the options that parity is shown for.
    """

    ours: type[optim.Optimizer]
    reference: Callable[..., optimizers.Optimizer]
    torchs: Callable[..., torch.optim.Optimizer] | None
    option_sets: list[dict[str, Any]]

    @property
    def dialect(self) -> str:
        return self.ours.dialect

    @property
    def name(self) -> str:
        return optimizer_name(self.ours)


KNOWN = [
    Known(
        optim.SGD,
        optimizers.SGD,
        torch.optim.SGD,
        [
            {},
            {"weight_decay": 0.1},
            {"maximize": True},
            {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1},
        ],
    ),
    Known(
        optim.Momentum,
        optimizers.Momentum,
        partial(torch.optim.SGD, momentum=0.9),
        [{}, {"momentum": 0.5, "weight_decay": 0.1}, {"nesterov": True, "maximize": True}],
    ),
    Known(
        optim.Nesterov,
        optimizers.Nesterov,
        partial(torch.optim.SGD, momentum=0.9, nesterov=True),
        [{}, {"weight_decay": 0.1}],
    ),
    Known(
        optim.AdaGrad,
        optimizers.AdaGrad,
        torch.optim.Adagrad,
        [
            {},
            {"lr_decay": 0.01, "initial_accumulator_value": 0.1},
            {"weight_decay": 0.1, "maximize": True},
        ],
    ),
    Known(
        optim.RMSprop,
        optimizers.RMSprop,
        torch.optim.RMSprop,
        [
            {},
            {"momentum": 0.9, "weight_decay": 0.1},
            {"centered": True, "momentum": 0.9, "maximize": True},
            {"centered": True, "alpha": 0.1},
        ],
    ),
    Known(
        optim.Adam,
        optimizers.Adam,
        torch.optim.Adam,
        [
            {},
            {"amsgrad": True},
            {"weight_decay": 0.1, "maximize": True},
            {"betas": (0.0, 0.9), "eps": 1e-3},
            {"betas": (0.3, 0.0), "amsgrad": True},
        ],
    ),
    Known(
        optim.AdamW,
        optimizers.AdamW,
        torch.optim.AdamW,
        [{}, {"amsgrad": True, "weight_decay": 0.1}, {"maximize": True}],
    ),
    Known(optim.book.SGD, book.SGD, None, [{}]),
    Known(optim.book.Momentum, book.Momentum, None, [{}, {"lr": 0.1, "momentum": 0.5}]),
    Known(optim.book.Nesterov, book.Nesterov, None, [{}, {"lr": 0.1, "momentum": 0.5}]),
    Known(optim.book.AdaGrad, book.AdaGrad, None, [{}, {"lr": 1.5}]),
    Known(optim.book.RMSprop, book.RMSprop, None, [{}, {"alpha": 0.0}]),
    Known(optim.book.Adam, book.Adam, None, [{}, {"lr": 0.3, "betas": (0.0, 0.9)}]),
    Known(
        optim.keras.SGD,
        keras.SGD,
        None,
        [{}, {"weight_decay": 0.1}, {"momentum": 0.9}, {"momentum": 0.5, "nesterov": True}],
    ),
    Known(
        optim.keras.Adagrad,
        keras.Adagrad,
        None,
        [{}, {"initial_accumulator_value": 0.0, "eps": 1e-3, "weight_decay": 0.1}],
    ),
    Known(
        optim.keras.RMSprop,
        keras.RMSprop,
        None,
        [
            {},
            {"momentum": 0.9, "weight_decay": 0.1},
            {"centered": True, "momentum": 0.9},
            {"centered": True, "alpha": 0.1, "eps": 1.0},
        ],
    ),
    Known(
        optim.keras.Adam,
        keras.Adam,
        None,
        [{}, {"amsgrad": True}, {"betas": (0.0, 0.9), "eps": 1e-3, "weight_decay": 0.1}],
    ),
    Known(optim.keras.AdamW, keras.AdamW, None, [{}, {"amsgrad": True, "weight_decay": 0.1}]),
    Known(
        optim.optax.SGD,
        optax.SGD,
        None,
        [{}, {"momentum": 0.9}, {"momentum": 0.5, "nesterov": True}],
    ),
    Known(
        optim.optax.Adagrad,
        optax.Adagrad,
        None,
        [{}, {"initial_accumulator_value": 0.0, "eps": 1e-3}],
    ),
    Known(
        optim.optax.RMSprop,
        optax.RMSprop,
        None,
        [
            {},
            {"eps_in_sqrt": False, "initial_scale": 1.0},
            {"momentum": 0.9},
            {"momentum": 0.9, "nesterov": True, "bias_correction": True},
            {"centered": True, "eps": 1e-3, "bias_correction": True, "x64": True},
            {"centered": True, "eps_in_sqrt": False, "alpha": 0.1, "momentum": 0.9},
        ],
    ),
    Known(
        optim.optax.Adam,
        optax.Adam,
        None,
        [
            {},
            {"eps_root": 1e-8, "nesterov": True},
            {"betas": (0.0, 0.9), "eps": 1e-3},
            {"x64": True},
        ],
    ),
    Known(
        optim.optax.AdamW,
        optax.AdamW,
        None,
        [{}, {"weight_decay": 0.1, "nesterov": True, "x64": True}],
    ),
]
"""The one list of optimizers, read by all that proves, shows or times them."""

BY_NAME = {known.name: known for known in KNOWN}

ENGINES: dict[str, dict[str, Any]] = {"kernel": {}, "eager": {"foreach": False}}
"""The ways to run a step that parity is shown for, and the options that choose them."""


class Configuration(NamedTuple):
    """One optimizer with the options that differ from its defaults."""

    known: Known
    options: dict[str, Any]

    @property
    def name(self) -> str:
        return self.known.name

    @property
    def dialect(self) -> str:
        return self.known.dialect

    def __str__(self) -> str:
        options = ",".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name}({options})"

    def ours(self, params: Any, **engine: Any) -> optim.Optimizer:
        return self.known.ours(params, **self.options, **engine)

    def reference(self, dtype: str = "float32") -> optimizers.Optimizer:
        """The NumPy side; for ``dtype`` "bfloat16" it rounds what it stores to bfloat16."""
        made = self.known.reference(**self.options)
        made.storage = "bfloat16" if dtype == "bfloat16" else None
        return made

    def torchs(self, params: Any) -> torch.optim.Optimizer:
        """``torch.optim``'s optimizer of the same formula, on its per-tensor path."""
        assert self.known.torchs is not None
        return self.known.torchs(params, foreach=False, **self.options)


def configurations(names: Iterable[str] | None = None) -> Iterator[Configuration]:
    """Every configuration of the named optimizers, by default of all."""
    for known in KNOWN if names is None else map(BY_NAME.__getitem__, names):
        for options in known.option_sets:
            yield Configuration(known, options)
