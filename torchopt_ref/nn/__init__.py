"""Layers: drop-in for those of ``torch.nn``, with their derivatives written by hand."""

from .dropout import Dropout, dropout
from .mc_dropout import Prediction, mc_dropout

__all__ = [
    "Dropout",
    "Prediction",
    "dropout",
    "mc_dropout",
]
