"""The rules of the diagnosis: each takes a run's history and gives a finding, or none.

Each threshold says from which trainings it comes: those of ``tests/tensorboard/zoo`` on which no
rule is judged, where the smallest or largest value of the healthy ones was read off.
"""

from .evidence import Finding

__all__ = ["Finding"]
