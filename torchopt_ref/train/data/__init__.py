"""The images of a training: where they come from, and the batches that each process gets.

``splits`` opens a data set and draws its batches, ``sources`` knows the data sets,
``image_folder`` reads folders of image files.
"""

from .splits import Data, LostWorker, open_data

__all__ = ["Data", "LostWorker", "open_data"]
