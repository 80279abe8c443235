"""A generator of the user's own under activation checkpointing.

``torch.utils.checkpoint`` runs a region of the model once more in the backward pass. It puts
torch's own generators back to where they were. It does not know other generators, so the second run
would draw other masks than the first. Therefore the state of the generator is recorded at each draw
in a region, and the second run draws from copies in these states, in the same order. The generator
itself then continues as if nothing had been run twice.

Only Python's stack shows whether a call is in such a region, in which one, and whether for the
first time.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Iterator
from typing import Any

import torch
import torch.utils.checkpoint

_CHECKPOINT = torch.utils.checkpoint.__file__


class _Draws:
    """The states that the generator had at the draws of a region's first run, and the number of
    draws that the second run has repeated so far."""

    def __init__(self) -> None:
        self.states: list[torch.Generator] = []
        self.run: int | None = None
        self.position = 0

    def next(self) -> torch.Generator:
        run = torch._C._current_graph_task_id()  # a backward pass runs a region again once
        if run != self.run or self.position == len(self.states):
            self.run, self.position = run, 0
        if not self.states:
            raise _unknown()
        self.position += 1
        return self.states[self.position - 1]


_draws_of: weakref.WeakKeyDictionary[Any, _Draws] = weakref.WeakKeyDictionary()


def to_draw_from(generator: torch.Generator) -> torch.Generator:
    """``generator``; in a second run a copy, in the state that it had at the first run's draw.

    Raises ``RuntimeError`` in a backward pass that repeats a draw which was not seen.
    """
    state: torch.Generator | None = None
    first_runs = []
    for region, again in _regions_around():
        if again:
            state = _draws_of.setdefault(region, _Draws()).next()
            break  # the regions around it recorded this draw in their first run
        first_runs.append(region)
    if state is None and torch._C._current_graph_task_id() != -1:
        raise _unknown()
    if first_runs:
        written = generator.clone_state() if state is None else state
        for region in first_runs:
            _draws_of.setdefault(region, _Draws()).states.append(written)
    return generator if state is None else state.clone_state()


def _regions_around() -> Iterator[tuple[Any, bool]]:
    """The checkpointed regions being run, innermost first; and whether it is their second run."""
    frame = inspect.currentframe()
    while frame is not None:
        frame = frame.f_back
        if frame is None or frame.f_code.co_filename != _CHECKPOINT:
            continue
        name, variables = frame.f_code.co_name, frame.f_locals
        if name in ("forward", "backward") and "ctx" in variables:  # use_reentrant=True
            yield variables["ctx"], name == "backward"
        elif "gen" in variables:  # use_reentrant=False, whose region a suspended generator holds
            yield variables["gen"].gi_frame.f_locals["new_frame"], False
        elif name == "unpack_hook":
            yield variables["frame"], True


def _unknown() -> RuntimeError:
    return RuntimeError(
        "Dropout(generator=...) is run again in the backward pass, but its first run was not seen, "
        "so it would drop other units: use torch.utils.checkpoint.checkpoint, or no generator"
    )
