"""Trainings that move from Keras and Optax to the optimizers here, and back: arrays in, arrays out.

``keras`` and ``optax`` each do it for one package, over ``arrays``, which turns their arrays into
tensors and the reverse. All is read, checked and laid out anew before anything is written.
"""

from .keras import from_keras, to_keras
from .optax import from_optax, to_optax

__all__ = ["from_keras", "from_optax", "to_keras", "to_optax"]
