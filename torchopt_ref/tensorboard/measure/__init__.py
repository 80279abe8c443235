"""What is measured of a training: a file for each quantity.

``quantity`` has their one interface, the moments of a training of which they are told; ``chosen``
makes those that the user asked for. They see modules through ``hooks`` and ``layers``, know each
optimizer's ``steps``, and what ``log`` was ``given``.
"""

from .chosen import DEFAULT, QUANTITIES, chosen
from .health import NonFiniteError
from .quantity import Quantities, Quantity

__all__ = ["DEFAULT", "QUANTITIES", "NonFiniteError", "Quantities", "Quantity", "chosen"]
