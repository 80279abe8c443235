"""The laboratory: one file per experiment, over shared parts.

An experiment's module has a ``Config`` dataclass, from which its command line is made, and
``run(config)``. Shared: ``networks`` (the same network in both engines), ``progress``, ``figures``.
"""

import importlib
from types import ModuleType

from torchopt_ref.errors import unknown

EXPERIMENTS = {
    "optimizers": "SGD, Momentum, AdaGrad, RMSprop and Adam on a valley and on MNIST",
}


def experiment(name: str) -> ModuleType:
    """The module of an experiment; ``UserError`` with near matches for an unknown name."""
    if name not in EXPERIMENTS:
        raise unknown("experiment", name, EXPERIMENTS)
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
