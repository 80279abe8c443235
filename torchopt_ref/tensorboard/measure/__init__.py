"""What is measured of a training: a file for each quantity.

``quantity`` has their common interface, a method for each moment of a training; ``chosen`` makes
the quantities that the user asked for. They see modules through ``hooks`` and ``layers``, an
optimizer's steps through ``steps``, and the arguments of ``log`` through ``given``.
"""

from .chosen import DEFAULT, QUANTITIES, chosen
from .health import NonFiniteError
from .quantity import Quantities, Quantity

__all__ = ["DEFAULT", "QUANTITIES", "NonFiniteError", "Quantities", "Quantity", "chosen"]
