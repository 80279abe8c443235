"""The rules of the diagnosis: each takes a run's history and gives a finding, or none.

Each threshold says how far the trainings of ``tests/tensorboard/zoo`` stay from it, the healthy
ones and those that are broken in this way: the nearest of 212 and of 191.
"""

from .evidence import Finding

__all__ = ["Finding"]
