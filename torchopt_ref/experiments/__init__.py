"""The laboratory: experiments on what makes training work, a file for each.

An experiment's module defines ``NAME``, its options as a ``Config``, its ``units`` of work and its
``figures``. Its module in ``reports`` says in words what was found. ``lab`` has what the
experiments share; ``search`` is the one experiment that is a package.
"""

import importlib
from types import ModuleType

from torchopt_ref.errors import unknown

EXPERIMENTS = {
    "optimizers": "SGD, Momentum, AdaGrad, RMSprop and Adam in a valley and on MNIST",
    "zero-init": "equal initial weights against random ones",
    "activations": "what passes through five layers from four kinds of initial weights",
    "weight-init": "std 0.01, Xavier and He in a deep ReLU network",
    "batchnorm": "batch normalisation: speed, learning rates, initial scales",
    "overfit": "a deep network on 300 images",
    "weight-decay": "the same with weight decay: L2 in two forms, and decoupled",
    "dropout": "the same with dropout in both scalings, and as an ensemble",
    "search": "a search for learning rate and weight decay with a validation set",
}


def experiment(name: str) -> ModuleType:
    """The module of an experiment; ``UserError`` with near matches for an unknown name."""
    if name not in EXPERIMENTS:
        raise unknown("experiment", name, EXPERIMENTS)
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
