"""How exact BatchNorm is: against the NumPy reference, float64, and numerical derivatives."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import torchopt_ref.nn
from numpy_ref.layers import BatchNormalization
from torchopt_ref.nn import BatchNorm1d, BatchNorm2d

# The two sides differ in the order of their sums, and in that torch multiplies by weight * invstd
# where the reference divides by std and then multiplies. The bounds are in units in the last place
# of the largest magnitude that takes part in a channel: the largest |y| for y,
# max|dy| * weight / std for dx, the sum of |dy * xhat| for dweight, of |dy| for dbias, momentum
# times the mean of |x| for running_mean, running_var itself for running_var. In brackets the worst
# that 20 seeds (2 for the two large shapes) showed on x86 with AVX-512; the bounds leave room for
# vectors of another width.
#   shape                             y        dx       dweight    dbias      r_mean   r_var
BOUNDS = {
    (2, 7): (3, 3, 5, 1, 4, 2),
    (128, 100): (8, 9, 5, 4, 4, 5),
}
