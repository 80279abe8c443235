"""Parameters, gradients and slots in one piece of memory each."""

from typing import Any

import torch
from torch import Tensor

from .engines import Table, Vectors
from .places import Places
from .team import Apart, Grads, arrange, is_shared, parts, same

ALIGNMENT = 64
"""Bytes at a multiple of which a parameter begins, as torch allocates it."""


class Arena(Apart):
    """Parameters, their gradients and each of their slots lie in one vector, an *arena*.

    The tensors that the user knows are the same objects as before; their memory has moved. Each has
    a storage of its own size there. After ``clear`` every ``grad`` is such a view, too. A gradient
    is *touched* when autograd or the user has written it since.

    Where all gradients of a step are these views, the whole is one vector; otherwise each parameter
    is a vector of its own, with the gradient that the user gave it.
    """

    def prepare(self) -> None:
        multiple = ALIGNMENT // self.params[0].element_size()
        param = arrange(self.params, multiple)
        slots = [arrange([entry[name] for entry in self.entries], multiple) for name in self.slots]
        self.grad = torch.zeros_like(param)
        self.views = parts(self.grad, self.params, multiple)
        self.view_places = Places(self.views)
        size = self.grad.element_size()
        places = [
            (address - self.grad.data_ptr()) // size for address in self.view_places.addresses
        ]
        self.starts = torch.tensor(places, device="cpu")
        self.versions: list[int] = []
        self.whole = [param, self.grad, *slots]
        self.whole_table = Table([self.whole])
        self.as_whole = False
        self.matrices = [param for param in self.params if param.ndim > 1]
        super().prepare()

    def params_hold(self) -> bool:
        # Of a vector or a scalar no other view begins at its address and takes its gradient.
        return self.places.hold() and all(map(Tensor.is_contiguous, self.matrices))

    def look(self, grads: Grads) -> bool:
        """Whether all gradients of the team are the views, so that its next step is one."""
        self.as_whole = same(self.own(grads), self.views) and self.view_places.hold()
        return self.as_whole

    def vectors(self, grads: Grads, scalars: dict[str, Any]) -> Vectors:
        if not self.as_whole:
            return super().vectors(grads, scalars)
        return Vectors([self.whole], self.slots, scalars, self.whole_table)

    def finish(self) -> None:
        if not self.as_whole:
            return super().finish()
        # Autograd has not seen the writes: it must notice that a saved parameter has changed.
        torch.autograd.graph.increment_version(self.params)
        return None

    def clear(self) -> None:
        """Make every gradient a view of zeros that is not touched."""
        if not self.view_places.hold():
            self.views = parts(self.grad, self.params, ALIGNMENT // self.grad.element_size())
            self.view_places = Places(self.views)
        self.grad.zero_()
        torch.autograd.graph.increment_version(self.views)
        for param, view in zip(self.params, self.views, strict=True):
            if param.grad is not view:
                param.grad = view
        self.versions = [view._version for view in self.views]

    def untouched(self) -> list[int]:
        """Which of the team's parameters have a gradient that nobody has touched."""
        if not self.versions:
            return []
        on_cpu = self.grad.device.type == "cpu"
        suspects = list(range(len(self.views)))
        if on_cpu:
            first = self.grad.take(self.starts)
            suspects = [] if first.all() else (first == 0).nonzero().flatten().tolist()
        return [
            index
            for index in suspects
            if self.params[index].grad is self.views[index]
            and self.views[index]._version == self.versions[index]
            # Written by way of an alias with a count of its own, such as ``grad.data``.
            and not (on_cpu and self.views[index].any())
        ]

    def keep_untouched(self, indices: list[int]) -> None:
        """Call these gradients untouched, whatever has been written until now."""
        for index in indices:
            self.versions[index] = self.views[index]._version

    def release(self) -> None:
        """Leave gradients as ``torch.optim`` does: where nothing was touched, there is none."""
        for index in self.untouched():
            self.params[index].grad = None


def is_movable(param: Tensor, slots: list[Tensor]) -> bool:
    """Whether a parameter and its slots can be of an arena: nobody else sees their memory."""
    tensors = [param, *slots]
    return (
        param.numel() > 0 and not any(map(has_alias, tensors)) and not any(map(is_shared, tensors))
    )


def has_alias(tensor: Tensor) -> bool:
    # Besides the tensor itself, the storage that is asked for here is one.
    return torch._C._storage_Use_Count(tensor.untyped_storage()._cdata) > 2
