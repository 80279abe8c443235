"""Layers, drop-in for those of ``torch.nn``, with their derivatives written by hand.

``fold_batchnorm`` and ``mc_dropout`` do more with trained models.
"""

from .batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from .dropout import Dropout, dropout
from .fold import fold_batchnorm
from .mc_dropout import Prediction, mc_dropout

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Dropout",
    "Prediction",
    "dropout",
    "fold_batchnorm",
    "mc_dropout",
]
