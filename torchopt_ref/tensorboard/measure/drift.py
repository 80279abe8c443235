"""Parity drift during training: the NumPy reference repeats the steps of a sample of parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from numpy_ref import optimizers
from torchopt_ref.sides import KNOWN, optimizer_name, ulp_distance

from ..write.record import Record
from .layers import evenly_spaced, trainable
from .quantity import Quantity
from .steps import Steps

REFERENCES: dict[type, Callable[..., optimizers.Optimizer]] = {
    cls: known.reference
    for known in KNOWN
    for cls in (known.ours, known.torchs)
    if isinstance(cls, type)
}
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
GROUPS, TENSORS, ELEMENTS = 4, 4, 64
"""The sample has at most this many param groups, tensors of each, and first elements of each
tensor."""


class Drift(Quantity):
    """How far an optimizer's parameters are from those of ``numpy_ref``, fed the same gradients.

    The sample is the first 64 elements of up to four tensors, all of one dtype, from each of up to
    four param groups. It is followed through the recorded step and the two before it. The reference
    starts from the optimizer's parameters and slots before these steps. The gradients are kept on
    the device; at the record the reference repeats the steps, once in the parameters' precision and
    once in float64. ``parity drift/NumPy`` and ``parity drift/float64`` are the distances from
    these two results after the last step, in ULP of the parameters' precision. Of each there is
    the largest and the median over the sample. The distance from the result in the parameters'
    precision shows the error of the implementation, the one from float64 that of rounding.

    If something else changed the parameters between two steps, the reference continues from the
    changed ones. Where nothing can be measured, a note in the record says why.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, name: str) -> None:
        self._optimizer = optimizer
        self._of = f" of {name}" if name else ""
        self._shadows: list[Shadow] | None = None
        self._why_not = ""
        if type(optimizer) not in REFERENCES:
            self._stop(f"{optimizer_name(type(optimizer))} has no NumPy reference")

    def before_step(self, steps: Steps) -> None:
        if not steps.record_is_near:
            return
        if self._shadows is None and not self._why_not:
            self._start()
        for shadow in self._shadows or ():
            shadow.before.append(gathered([param.detach() for param in shadow.params]))

    def after_step(self, steps: Steps) -> None:
        for shadow in self._shadows or ():
            grads = [param.grad for param in shadow.params if param.grad is not None]
            if len(grads) < len(shadow.params) or any(grad.is_sparse for grad in grads):
                self._stop("a sampled parameter had no dense gradient")
                return
            if getattr(self._optimizer, "found_inf", None) is not None:
                self._stop("a GradScaler decides inside the fused step whether the step is made")
                return
            shadow.grads.append(gathered(grads))
            shadow.after.append(gathered([param.detach() for param in shadow.params]))
            shadow.values.append({key: shadow.group[key] for key in shadow.known})

    def complete(self, record: Record) -> None:
        if record.optimizer is None:
            return
        if self._why_not:
            record.notes.append(f"Parity drift is not measured: {self._why_not}.")
        shadows, self._shadows = self._shadows or [], None
        distances: list[np.ndarray] = []
        for shadow in shadows:
            steps = shadow.values
            tensors = [*shadow.before, *shadow.grads, *shadow.after]

            def use(values: np.ndarray, shadow: Shadow = shadow, steps: list[Any] = steps) -> None:
                distances.append(shadow.replay(values.reshape(3, len(steps), -1), steps))
                if len(distances) == len(shadows):
                    both = np.concatenate(distances, axis=1)
                    for name, each in zip(("NumPy", "float64"), both, strict=True):
                        tag = f"parity drift/{name}"
                        record.scalars[f"{tag} largest{self._of}"] = float(each.max())
                        record.scalars[f"{tag} median{self._of}"] = float(np.median(each))

            record.later(tensors, use)

    def _start(self) -> None:
        self._shadows = []
        for group in evenly_spaced(self._optimizer.param_groups, GROUPS):
            params = [param for param in trainable([group]) if is_sampled(param)]
            # If there is no gradient at all, the step's closure is yet to compute them.
            params = [param for param in params if param.grad is not None] or params
            params = [param for param in params if param.dtype == params[0].dtype]
            if params:
                sampled = evenly_spaced(params, TENSORS)
                alike = [each for each in sampled if self._age(each) == self._age(sampled[0])]
                self._shadows.append(Shadow(self._optimizer, group, alike))
        if not self._shadows:
            self._shadows = None
        elif any(isinstance(group["lr"], Tensor) for group in self._optimizer.param_groups):
            self._stop("the learning rate is a tensor")

    def _age(self, param: nn.Parameter) -> tuple[set[str], int]:
        """Its slots and number of steps; a parameter whose first gradient came later has fewer."""
        state = self._optimizer.state.get(param, {})
        return {*state}, int(state.get("step", 0))

    def _stop(self, why: str) -> None:
        self._shadows, self._why_not = None, why


class Shadow:
    """The reference's copy of the sample of one param group."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, group: dict[str, Any], params: list[nn.Parameter]
    ) -> None:
        self.group, self.params = group, params
        reference = REFERENCES[type(optimizer)]
        self._sides = [reference(), reference()]
        usual = self._sides[0]
        self.known = [key for key in usual.hyper | usual.around if key in group]
        bfloat16 = params[0].dtype == torch.bfloat16
        usual.storage = "bfloat16" if bfloat16 else None
        own = "float32" if bfloat16 else str(params[0].dtype).removeprefix("torch.")
        self._dtypes = [np.dtype(own), np.dtype(np.float64)]
        for side, dtype in zip(self._sides, self._dtypes, strict=True):
            side.state["sample"] = slots(optimizer, params, dtype)
        self.before: list[Tensor] = []
        self.grads: list[Tensor] = []
        self.after: list[Tensor] = []
        self.values: list[Mapping[str, Any]] = []

    @np.errstate(all="ignore")
    def replay(self, tensors: np.ndarray, steps: list[Mapping[str, Any]]) -> np.ndarray:
        """The distances of the parameters from both results of the reference after the last step,
        in ULP."""
        dtype = self._dtypes[0]
        before, grads, after = tensors
        params: list[np.ndarray] = []
        for i, values in enumerate(steps):
            if not params or not np.array_equal(before[i], after[i - 1], equal_nan=True):
                params = [before[i].astype(each) for each in self._dtypes]
            for side, param, each in zip(self._sides, params, self._dtypes, strict=True):
                side.hyper.update({key: values[key] for key in side.hyper if key in values})
                # If a dialect's formula contains weight decay itself, none is applied around it.
                around = side.around.keys() & values.keys() - side.hyper.keys()
                side.around.update({key: values[key] for key in around})
                side.update({"sample": param}, {"sample": grads[i].astype(each)})
        theirs, bfloat16 = after[-1].astype(dtype), self._sides[0].storage == "bfloat16"
        ours = [self._sides[0].stored(now, dtype) for now in params]
        return np.stack([ulp_distance(theirs, now, bfloat16=bfloat16) for now in ours])


def is_sampled(param: nn.Parameter) -> bool:
    return param.dtype in DTYPES and param.is_contiguous()


def gathered(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1)[:ELEMENTS] for tensor in tensors])


def slots(
    optimizer: torch.optim.Optimizer, params: list[nn.Parameter], dtype: np.dtype
) -> dict[str, Any]:
    """The sample's part of the optimizer's state, as the reference keeps it."""
    found: dict[str, Any] = {}
    for name, value in optimizer.state.get(params[0], {}).items():
        if name == "step":
            found["step"] = int(value)
        elif isinstance(value, Tensor) and value.shape == params[0].shape:
            tensors = [optimizer.state[param][name].detach() for param in params]
            values = gathered(tensors).cpu()
            # NumPy has no bfloat16.
            values = values.float() if values.dtype == torch.bfloat16 else values
            found[name] = values.numpy().astype(dtype)
    return found
