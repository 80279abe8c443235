"""Drop-in optimizers for ``torch.optim``, every step equal to NumPy's.

An optimizer's file holds its rule (the update, once, as a pure function) and its class; ``rule``
says what a rule is, ``base`` makes a ``torch.optim.Optimizer`` of it, ``engines`` run it.
"""

from .adagrad import AdaGrad, Adagrad
from .adam import Adam, AdamW
from .base import Optimizer, by_convention
from .momentum import Momentum, Nesterov
from .param_groups import param_groups_weight_decay
from .rmsprop import RMSprop
from .rule import Rule
from .sgd import SGD

__all__ = [
    "SGD",
    "AdaGrad",
    "Adagrad",
    "Adam",
    "AdamW",
    "Momentum",
    "Nesterov",
    "Optimizer",
    "RMSprop",
    "Rule",
    "by_convention",
    "param_groups_weight_decay",
]
