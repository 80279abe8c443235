"""Gradients that name the elements they touch: gather, rule, scatter."""

from ..rule import Rule
from .bucket import Bucket
from .per_tensor import as_real, widened


def sparse(rule: Rule, bucket: Bucket) -> None:
    """Run ``rule`` on the elements that a sparse (COO) gradient names; the others stay as they are.

    Equal to a dense step for a rule that leaves an element with a zero gradient alone.
    """
    for position, (param, grad) in enumerate(zip(bucket.params, bucket.grads, strict=True)):
        grad = grad.coalesce()
        touched = tuple(grad.indices())
        slots = {name: as_real(some[position]) for name, some in bucket.slots.items()}
        new_param, new_slots = rule(
            widened(as_real(param)[touched]),
            widened(as_real(grad.values())),
            {name: widened(slot[touched]) for name, slot in slots.items()},
            **bucket.scalars,
        )
        as_real(param)[touched] = new_param.to(as_real(param).dtype)
        for name, slot in slots.items():
            slot[touched] = new_slots[name].to(slot.dtype)
