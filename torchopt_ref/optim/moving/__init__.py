"""Trainings that move from Keras and Optax to the optimizers here, and back: arrays in, arrays out.

``keras`` and ``optax`` each move a training for one package. They use ``arrays``, which turns the
package's arrays into tensors and the reverse. Everything is read, checked and laid out anew before
anything is written.
``KERAS_SLOTS`` and ``OPTAX_SLOTS`` say where the packages keep the slots that are known here.
"""

from .keras import KERAS_SLOTS, from_keras, to_keras
from .optax import OPTAX_SLOTS, from_optax, to_optax

__all__ = ["KERAS_SLOTS", "OPTAX_SLOTS", "from_keras", "from_optax", "to_keras", "to_optax"]
