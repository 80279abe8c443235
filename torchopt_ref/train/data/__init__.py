"""The images of a training: where they come from, and the batches that each process gets.

``opening`` opens a data set: ``sources`` knows it by its name, ``image_folder`` reads folders of
image files, ``images`` is what all have in common. ``splits`` are its parts to train, to validate
and to test, ``batches`` their batches, ``workers`` the processes that load them.
"""

from .splits import Data
from .workers import LostWorker

__all__ = ["Data", "LostWorker"]
