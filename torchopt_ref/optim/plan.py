"""The parameters of a group arranged for speed, for as long as nothing about them changes."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .arena import Arena, is_movable
from .engines import PLAIN, overlapping
from .team import Apart, Grads, States, Team, is_shared, same


class Plan:
    """How the parameters of a group that have a gradient step together.

    Those of one device, dtype and step are a ``team`` of that class; ``others``, by position, need
    a look at each step. A plan is a cache: it says itself whether it still ``holds``, and without
    it a step takes longer and computes the same.
    """

    def __init__(
        self,
        team: type[Team],
        params: list[Tensor],
        grads: Grads,
        slots: Iterable[str],
        state: States,
        counts: bool,
    ) -> None:
        self.team = team
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
            if kind is None:
                self.others.append(position)
                continue
            own = team
            if team is Arena:
                entry = state.get(param, {})
                own = Arena if is_movable(param, [entry[n] for n in self.slots]) else Apart
            kinds.setdefault((own, kind), []).append(position)
        self.teams = [
            own(positions, params, self.slots, state, counts)
            for (own, _), positions in kinds.items()
        ]

    @property
    def arenas(self) -> list[Arena]:
        return [team for team in self.teams if isinstance(team, Arena)]

    def release(self) -> None:
        for arena in self.arenas:
            arena.release()

    def pattern_of(self, grads: Grads) -> list[Any]:
        """``pattern``, known without a look at each where all lie in one arena."""
        if len(grads) != len(self.params):
            return pattern(grads)
        whole = [arena.look(grads) and arena.alone for arena in self.arenas]
        return self.pattern if any(whole) else pattern(grads)

    def holds(
        self,
        team: type[Team],
        params: list[Tensor],
        now: list[Any],
        slots: Iterable[str],
        state: States | None,
    ) -> bool:
        """Whether the gradients are of the same ``pattern`` and nobody has exchanged a tensor or
        its memory. ``state`` is None where nobody can have."""
        return (
            now == self.pattern
            and team is self.team
            and list(slots) == self.slots
            and same(params, self.params)
            and all(team.params_hold() for team in self.teams)
            and (state is None or all(team.state_holds(state) for team in self.teams))
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


def is_simple(tensor: Tensor) -> bool:
    return (
        type(tensor) in PLAIN
        and tensor.layout is torch.strided
        and tensor.is_contiguous()
        and tensor.is_floating_point()
        and not tensor.is_inference()
    )
