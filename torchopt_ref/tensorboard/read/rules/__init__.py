"""The rules of the diagnosis: each takes a run's history and gives a finding, or none.

``steps`` asks whether steps are made, and how large they are; ``gradients`` whether gradients
arrive; ``layers`` whether layers are alive, and their weights of a usual size; ``data`` what goes
into the model and comes out; ``learning`` whether the loss falls, and that of validation, too.
``evidence`` is what they share.

A rule's thresholds are the constants at the top of its module. Each says how near the trainings of
``tests/tensorboard/zoo`` come to it: the nearest of 212 healthy ones, and the nearest of those that
are broken in this way, among 191 broken ones.
"""

from .evidence import Finding

__all__ = ["Finding"]
