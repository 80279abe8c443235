"""Parameters that step together, arranged for an engine."""

from collections.abc import Iterable, Mapping
from itertools import chain
from operator import is_
from typing import Any

import torch
from torch import Tensor

from .engines import SMALL, Table, Vectors, as_vector
from .places import Places

Grads = list[Any]
"""The gradient of each parameter of a group, or None."""

States = Mapping[Tensor, dict[str, Any]]


class Team:
    """Parameters of one device, dtype and step, and what a step needs of them.

    A subclass says how they become ``Vectors``; the steps of all lie one after the other in memory.
    """

    def __init__(
        self,
        positions: list[int],
        params: list[Tensor],
        slots: list[str],
        state: States,
        counts: bool,
    ) -> None:
        self.positions = positions
        self.alone = len(positions) == len(params)
        self.params = [params[position] for position in positions]
        self.entries = [state.get(param, {}) for param in self.params]
        self.slots = tuple(slots)
        self.steps: Tensor | None = None
        self.count: float = 0
        if counts:
            self.steps = arrange([entry["step"] for entry in self.entries])
            self.count = self.steps[0].item()
        self.prepare()
        self.known = list(chain.from_iterable(map(dict.values, self.entries)))
        names = (*slots, *["step"] * counts)
        kept = [entry[name] for entry in self.entries for name in names]
        self.layout = layout(self.params)
        self.places = Places(self.params)
        self.kept_places = Places(kept)

    def prepare(self) -> None:
        raise NotImplementedError

    def vectors(self, grads: Grads, scalars: dict[str, Any]) -> Vectors:
        """The team as vectors, to be followed by ``finish`` when they have been written."""
        raise NotImplementedError

    def finish(self) -> None:
        raise NotImplementedError

    def params_hold(self) -> bool:
        """Whether the parameters lie in memory as they did."""
        return self.places.hold() and layout(self.params) == self.layout

    def state_holds(self, state: States) -> bool:
        """Whether nobody has exchanged a slot or its memory, or written a step."""
        known = list(chain.from_iterable(map(dict.values, self.entries)))
        return (
            (not self.entries[0] or same(map(state.get, self.params), self.entries))
            and len(known) == len(self.known)
            and same(known, self.known)
            and self.kept_places.hold()
            and (self.steps is None or bool((self.steps == self.count).all()))
        )

    def next_step(self) -> float:
        """Count the step that is now taken."""
        if self.steps is not None:
            self.steps += 1
        self.count += 1
        return self.count


class Joined(Team):
    """Each large parameter a vector, and all small ones together another.

    Slots of small parameters lie one after the other in memory; each is still a tensor with a
    storage of its own size. The small parameters themselves are not moved: their values are copied
    to ``scratch`` before a step, and back after it.
    """

    def __init__(self, positions: list[int], params: list[Tensor], *rest: Any) -> None:
        small = [position for position in positions if params[position].numel() < SMALL]
        large = [position for position in positions if params[position].numel() >= SMALL]
        self.small, self.large = (small, large) if len(small) > 1 else ([], positions)
        super().__init__(self.small + self.large, params, *rest)

    def prepare(self) -> None:
        parts = len(self.small)
        vectors = [param.detach().view(-1) for param in self.params]
        self.large_vectors = [
            (vector, [entry[name].view(-1) for name in self.slots])
            for vector, entry in zip(vectors[parts:], self.entries[parts:], strict=True)
        ]
        if self.small:
            self.small_vectors = vectors[:parts]
            self.scratch = torch.cat(self.small_vectors)
            self.scratch_vectors = self.scratch.split([v.numel() for v in self.small_vectors])
            self.small_slots = [
                arrange([entry[name] for entry in self.entries[:parts]]) for name in self.slots
            ]

    def vectors(self, grads: Grads, scalars: dict[str, Any]) -> Vectors:
        pieces = [
            [vector, as_vector(grads[position]), *slots]
            for position, (vector, slots) in zip(self.large, self.large_vectors, strict=True)
        ]
        if self.small:
            torch.cat(self.small_vectors, out=self.scratch)
            grad = as_vector(torch._C._nn.flatten_dense_tensors([grads[i] for i in self.small]))
            pieces.append([self.scratch, grad, *self.small_slots])
        return Vectors(pieces, self.slots, scalars)

    def finish(self) -> None:
        if self.small:
            torch._foreach_copy_(self.small_vectors, self.scratch_vectors)


class Apart(Team):
    """Every parameter a vector of its own, and nothing is copied."""

    def prepare(self) -> None:
        self.pieces = []
        for param, entry in zip(self.params, self.entries, strict=True):
            vector = param.detach().view(-1)
            self.pieces.append([vector, vector, *(entry[name].view(-1) for name in self.slots)])
        self.table: Table | None = None

    def own(self, grads: Grads) -> Grads:
        """The gradients of the team's parameters."""
        return grads if self.alone else [grads[position] for position in self.positions]

    def vectors(self, grads: Grads, scalars: dict[str, Any]) -> Vectors:
        own = plain(self.own(grads))
        for piece, grad in zip(self.pieces, own, strict=True):
            piece[1] = grad
        if self.table is None:
            self.table = Table(self.pieces)
        return Vectors(self.pieces, self.slots, scalars, self.table.with_gradients(own))

    def finish(self) -> None:
        # A gradient that the user lets go must not be kept.
        for piece in self.pieces:
            piece[1] = piece[0]


def plain(grads: list[Tensor]) -> list[Tensor]:
    """Gradients whose elements lie in memory as they count, in whatever shape."""
    if all(map(Tensor.is_contiguous, grads)) and not any(map(Tensor.is_neg, grads)):
        return grads
    return list(map(as_vector, grads))


def arrange(tensors: list[Tensor], multiple: int = 1) -> Tensor:
    """Move the tensors' memory to one vector, which is returned: each begins at a multiple of so
    many elements, zeros are in between."""
    sizes = [-(-tensor.numel() // multiple) * multiple for tensor in tensors]
    whole = torch.zeros(sum(sizes), dtype=tensors[0].dtype, device=tensors[0].device)
    for tensor, part in zip(tensors, parts(whole, tensors, multiple), strict=True):
        part.copy_(tensor)
        tensor.data = part
    return whole


def parts(whole: Tensor, tensors: list[Tensor], multiple: int = 1) -> list[Tensor]:
    """Tensors of the same shapes in the vector's memory, as ``arrange`` lays them out.

    By way of DLPack each has a storage of its own: saving it does not save the whole.
    """
    sizes = [-(-tensor.numel() // multiple) * multiple for tensor in tensors]
    return [
        torch.from_dlpack(room[: tensor.numel()]).view(tensor.shape)
        for tensor, room in zip(tensors, whole.split(sizes), strict=True)
    ]


def is_shared(tensor: Tensor) -> bool:
    """Whether other processes see it, so that it cannot be moved. (CUDA memory always says so.)"""
    return tensor.device.type == "cpu" and tensor.is_shared()


def layout(params: list[Tensor]) -> list[Any]:
    return [*map(Tensor.numel, params), *map(Tensor.is_contiguous, params)]


def same(some: Iterable[Any], others: Iterable[Any]) -> bool:
    """Whether the two, of one length, hold the same objects."""
    return all(map(is_, some, others))
