"""One parameter after the other, in eager mode."""

import torch
from torch import Tensor

from ..rule import Rule
from .bucket import Bucket


def per_tensor(rule: Rule, bucket: Bucket) -> None:
    """Run ``rule`` on each parameter, whatever its layout or kind.

    Complex tensors are computed as pairs of reals; float16 and bfloat16 in float32, rounded once
    to nearest even when stored. Where autograd records the step, the rule reads copies, since
    what it reads is written at the end.
    """
    for position, param in enumerate(bucket.params):
        slots = {name: some[position] for name, some in bucket.slots.items()}
        new_param, new_slots = rule(
            readable(param),
            readable(bucket.grads[position]),
            {name: readable(slot) for name, slot in slots.items()},
            **bucket.scalars,
        )
        as_real(param).copy_(new_param)
        for name, slot in slots.items():
            as_real(slot).copy_(new_slots[name])


def readable(tensor: Tensor) -> Tensor:
    real = widened(as_real(tensor))
    return real.clone() if torch.is_grad_enabled() else real


def as_real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
