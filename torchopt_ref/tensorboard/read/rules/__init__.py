"""The rules of the diagnosis: each takes a run's history and gives a finding, or none.

``steps`` asks whether steps are made, and how large they are; ``gradients`` whether gradients
arrive; ``layers`` whether layers are alive, and their weights of a usual size; ``data`` what goes
into the model and comes out; ``learning`` whether the losses of training and validation fall.
``evidence`` is what they share.

A threshold stands in its rule, or, if it needs words, as a constant at the top of the module. Where
trainings of ``tests/tensorboard/zoo`` come near it, the constant says how near: the nearest of 212
healthy ones, and the nearest of those that are broken in this way, among 191 broken ones.
"""

from .evidence import Finding

__all__ = ["Finding"]
