"""Drop-in replacements for ``torch.optim``'s optimizers; each step equals the NumPy reference's.

An optimizer's file holds its rule (the update, once, as a pure function) and its class; ``rule``
says what a rule is, ``optimizer`` makes a ``torch.optim.Optimizer`` of it, ``batch`` groups the
parameters that are updated together, ``engines`` run the rule. ``book``, ``keras`` and ``optax``
have optimizers of the same names with the formulas of a textbook, of Keras and of Optax.
"""

from . import book, keras, optax
from .adagrad import AdaGrad, Adagrad
from .adam import Adam, AdamW
from .optimizer import Optimizer
from .param_groups import param_groups_weight_decay
from .rmsprop import RMSprop
from .rule import Rule
from .sgd import SGD, Momentum, Nesterov

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
    "book",
    "keras",
    "optax",
    "param_groups_weight_decay",
]
