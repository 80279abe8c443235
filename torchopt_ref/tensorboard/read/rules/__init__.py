"""The rules of the diagnosis: each takes a run's history and gives a finding, or none.

``steps`` asks whether steps are made, and how large they are; ``gradients`` whether they come;
``layers`` whether they are alive, and their weights of a usual size; ``data`` what goes into the
model and comes out; ``learning`` whether the loss falls, and validation follows. ``evidence`` is
what they share.

A rule's thresholds are the constants at the top of its module. Each says how far the trainings of
``tests/tensorboard/zoo`` stay from it, the healthy ones and those that are broken in this way: the
nearest of 212 and of 191.
"""

from .evidence import Finding

__all__ = ["Finding"]
