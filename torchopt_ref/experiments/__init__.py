"""The laboratory: one file per experiment, over shared parts.

The module of an experiment defines what ``laboratory.Experiment`` lists and a ``Config`` dataclass
(``settings``), from which its command line is made; what is said of it stands in a module of
``reports``. Shared: ``laboratory`` (units of work, kept one by one), ``results`` (outcomes and
claims), ``words`` (a text in two languages), ``both`` (one training by both sides), ``lockstep``
and ``agreement`` (how far apart the sides are), ``series`` (many short trainings), ``propagation``
(signals without training), ``networks``, ``progress``; for what is shown ``digits`` (numbers),
``svg``, ``charts`` and ``figures`` (drawings), ``report`` (terminal and markdown), ``summary``
(``results.json``, read back), ``page`` and ``page_style`` (all on one page). A file whose name
starts with an experiment's is a part of it.
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
