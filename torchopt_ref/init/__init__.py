"""Initial values: ``torch.nn.init``, and what it lacks.

This module is torch's dialect: every name of ``torch.nn.init`` is torch's own function, so that one
seed gives the same bits; ``he_normal_`` and ``he_uniform_`` are its ``kaiming_normal_`` and
``kaiming_uniform_`` by the other name. ``book`` is the textbook's dialect, with another Xavier and
other defaults. ``initialize`` fills a whole model, each layer by what follows it; ``layer_fans``
and ``shape_fans`` count the inputs and outputs that a weight connects.
"""

from torch.nn.init import (
    _calculate_correct_fan,  # noqa: F401  not public, but what many layers are written with
    _calculate_fan_in_and_fan_out,  # noqa: F401
    calculate_gain,
    constant,
    constant_,
    dirac,
    dirac_,
    eye,
    eye_,
    kaiming_normal,
    kaiming_normal_,
    kaiming_uniform,
    kaiming_uniform_,
    normal,
    normal_,
    ones_,
    orthogonal,
    orthogonal_,
    sparse,
    sparse_,
    trunc_normal_,
    uniform,
    uniform_,
    xavier_normal,
    xavier_normal_,
    xavier_uniform,
    xavier_uniform_,
    zeros_,
)
from torch.nn.init import kaiming_normal_ as he_normal_
from torch.nn.init import kaiming_uniform_ as he_uniform_

from . import book
from .fans import Fans, layer_fans, shape_fans
from .model import Initialized, InitTable, initialize

__all__ = [
    "Fans",
    "InitTable",
    "Initialized",
    "book",
    "calculate_gain",
    "constant",
    "constant_",
    "dirac",
    "dirac_",
    "eye",
    "eye_",
    "he_normal_",
    "he_uniform_",
    "initialize",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "layer_fans",
    "normal",
    "normal_",
    "ones_",
    "orthogonal",
    "orthogonal_",
    "shape_fans",
    "sparse",
    "sparse_",
    "trunc_normal_",
    "uniform",
    "uniform_",
    "xavier_normal",
    "xavier_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros_",
]
