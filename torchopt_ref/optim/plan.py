"""The parameters of a group arranged for speed, for as long as nothing about them changes."""

from collections.abc import Iterable, Mapping
from itertools import chain
from operator import is_
from typing import Any

import torch
from torch import Tensor

from .engines import PLAIN, SMALL, Table, Vectors, as_vector, overlapping

Grads = list[Any]
"""The gradient of each parameter of a group, or None."""

States = Mapping[Tensor, dict[str, Any]]


class Plan:
    """How the parameters of a group that have a gradient step together.

    ``joined``: small ones as one vector; otherwise each as its own.

    Those of one device, dtype and step are a ``Team``; ``others``, by position, need a look at each
    step. A plan is a cache: it says itself whether it still ``holds``, and without it a step takes
    longer and computes the same.
    """

    def __init__(
        self,
        params: list[Tensor],
        grads: Grads,
        slots: Iterable[str],
        state: States,
        counts: bool,
        joined: bool,
    ) -> None:
        self.joined = joined
        self.params = list(params)
        self.pattern = pattern(grads)
        self.slots = list(slots)
        self.others: list[int] = []
        kinds: dict[Any, list[int]] = {}
        pairs = list(zip(params, grads, strict=True))
        tied = overlapping([param for param, grad in pairs if grad is not None])
        for position, (param, grad) in enumerate(pairs):
            if grad is None:
                continue
            kind = None
            if not grad.is_sparse and param.data_ptr() not in tied:
                kind = kind_of(param, grad, state.get(param, {}), self.slots, counts)
            members = self.others if kind is None else kinds.setdefault(kind, [])
            members.append(position)
        self.teams = [
            Team(positions, params, self.slots, state, counts, joined)
            for positions in kinds.values()
        ]

    def holds(
        self,
        params: list[Tensor],
        now: list[Any],
        slots: Iterable[str],
        state: States,
        joined: bool,
    ) -> bool:
        """Whether the gradients are of the same ``pattern`` and nobody has exchanged a tensor or
        its memory."""
        return (
            now == self.pattern
            and joined == self.joined
            and list(slots) == self.slots
            and same(params, self.params)
            and all(team.holds(state) for team in self.teams)
        )


def pattern(grads: Grads) -> list[Any]:
    """Which gradients are missing (None), and what the others are."""
    return [None if grad is None else (grad.is_sparse, grad.dtype) for grad in grads]


def kind_of(
    param: Tensor, grad: Tensor, entry: dict[str, Any], slots: list[str], counts: bool
) -> Any:
    """What parameters of one team have in common; None for one that is in no team."""
    if any(entry.get(name) is None for name in slots):
        return None
    tensors = [param, *(entry[name] for name in slots)]
    if not all(is_simple(tensor) and tensor.shape == param.shape for tensor in tensors):
        return None
    if any(is_shared(tensor) for tensor in tensors[1:]):
        return None
    kind = (param.device, grad.dtype, *(tensor.dtype for tensor in tensors))
    if not counts:
        return kind
    step = entry.get("step")
    if not isinstance(step, Tensor) or step.device.type != "cpu" or is_shared(step):
        return None
    return (*kind, step.item(), step.dtype)


def is_shared(tensor: Tensor) -> bool:
    """Whether other processes see it, so that it cannot be moved. (CUDA memory always says so.)"""
    return tensor.device.type == "cpu" and tensor.is_shared()


def is_simple(tensor: Tensor) -> bool:
    return (
        type(tensor) in PLAIN
        and tensor.layout is torch.strided
        and tensor.is_contiguous()
        and tensor.is_floating_point()
        and not tensor.is_inference()
    )


class Team:
    """Parameters that step as a few vectors: each large one, and all small ones joined.

    Slots of small parameters lie one after the other in memory, so do the steps of all; each is
    still a tensor with a storage of its own size. The small parameters themselves are not moved:
    their values are copied to ``scratch`` before a step, and back after it. Not ``joined``, every
    parameter is a piece of its own, and nothing is copied.
    """

    def __init__(
        self,
        positions: list[int],
        params: list[Tensor],
        slots: list[str],
        state: States,
        counts: bool,
        joined: bool,
    ) -> None:
        small = [position for position in positions if params[position].numel() < SMALL]
        large = [position for position in positions if params[position].numel() >= SMALL]
        if not joined or len(small) == 1:
            small, large = [], positions
        self.joined, self.small, self.large = joined, small, large
        self.params = [params[position] for position in self.small + self.large]
        self.entries = [state.get(param, {}) for param in self.params]
        self.steps: Tensor | None = None
        self.count: float = 0
        if counts:
            self.steps = arrange(self.entries, "step")
            self.count = self.steps[0].item()
        parts = len(self.small)
        vectors = [param.detach().view(-1) for param in self.params]
        self.large_vectors = [
            (vector, [entry[name].view(-1) for name in slots])
            for vector, entry in zip(vectors[parts:], self.entries[parts:], strict=True)
        ]
        self.pieces = [] if joined else [[v, v, *others] for v, others in self.large_vectors]
        if self.small:
            self.small_vectors = vectors[:parts]
            self.scratch = torch.cat(self.small_vectors)
            self.scratch_vectors = self.scratch.split([v.numel() for v in self.small_vectors])
            self.small_slots = [arrange(self.entries[:parts], name) for name in slots]
        self.slots = tuple(slots)
        self.known = list(chain.from_iterable(map(dict.values, self.entries)))
        names = (*slots, *["step"] * counts)
        self.tensors = [*self.params, *(entry[name] for entry in self.entries for name in names)]
        self.arranged = self.memory()
        self.table: Table | None = None

    def memory(self) -> list[Any]:
        """Where the tensors lie, and how parameters lie there, which a user may exchange."""
        return [
            *map(Tensor.data_ptr, self.tensors),
            *map(Tensor.numel, self.params),
            *map(Tensor.is_contiguous, self.params),
        ]

    def holds(self, state: States) -> bool:
        known = list(chain.from_iterable(map(dict.values, self.entries)))
        return (
            (not self.entries[0] or same(map(state.get, self.params), self.entries))
            and len(known) == len(self.known)
            and same(known, self.known)
            and self.memory() == self.arranged
            and (self.steps is None or bool((self.steps == self.count).all()))
        )

    def next_step(self) -> float:
        """Count the step that is now taken."""
        if self.steps is not None:
            self.steps += 1
        self.count += 1
        return self.count

    def vectors(self, grads: Grads, scalars: dict[str, Any]) -> Vectors:
        """The team as vectors, to be followed by ``finish`` when they have been written."""
        if not self.joined:
            own = plain([grads[position] for position in self.large])
            for piece, grad in zip(self.pieces, own, strict=True):
                piece[1] = grad
            if self.table is None:
                self.table = Table(self.pieces)
            return Vectors(self.pieces, self.slots, scalars, self.table.with_gradients(own))
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
        # A gradient that the user lets go must not be kept.
        for piece in self.pieces:
            piece[1] = piece[0]
        if self.small:
            torch._foreach_copy_(self.small_vectors, self.scratch_vectors)


def plain(grads: list[Tensor]) -> list[Tensor]:
    """Gradients whose elements lie in memory as they count, in whatever shape."""
    if all(map(Tensor.is_contiguous, grads)) and not any(map(Tensor.is_neg, grads)):
        return grads
    return list(map(as_vector, grads))


def arrange(entries: list[dict[str, Any]], name: str) -> Tensor:
    """Put the tensors of that name one after the other; the vector that they now are parts of."""
    tensors = [entry[name] for entry in entries]
    whole = torch.cat([tensor.reshape(-1) for tensor in tensors])
    parts = whole.split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        # By way of DLPack it has a storage of its own: saving it does not save the whole.
        tensor.data = torch.from_dlpack(part).view(tensor.shape)
    return whole


def same(some: Iterable[Any], others: Iterable[Any]) -> bool:
    """Whether the two, of one length, hold the same objects."""
    return all(map(is_, some, others))
