"""Initial values.

``fill`` fills one tensor in place; ``model`` fills a whole model, each layer by what follows it.
"""

from .fill import (
    Fans,
    constant_,
    he_normal_,
    he_uniform_,
    layer_fans,
    normal_,
    shape_fans,
    xavier_normal_,
    xavier_uniform_,
    zeros_,
)
from .model import Initialized, InitTable, initialize

__all__ = [
    "Fans",
    "InitTable",
    "Initialized",
    "constant_",
    "he_normal_",
    "he_uniform_",
    "initialize",
    "layer_fans",
    "normal_",
    "shape_fans",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]
