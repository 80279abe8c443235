"""The contestants: the optimizers of ``torch.optim`` and ours, and the steps that they make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn

from torchopt_ref.sides import BY_NAME

from .shapes import Shapes, elements
from .timing import Contestant, Run

Factory = Callable[[Iterable[Any]], torch.optim.Optimizer]
"""Makes the optimizer from parameters, or from groups of them."""

DEFAULT, LOOP, FOREACH, FUSED = "torch default", "torch eager", "torch foreach", "torch fused"
OURS, EAGER = "ours", "ours eager"

WHO: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    LOOP: {"foreach": False},
    FOREACH: {"foreach": True},
    FUSED: {"fused": True},
    OURS: {},
    EAGER: {"foreach": False},
}
"""The flags of each contestant. The class of the optimizer, torch's or ours, comes from
``BY_NAME``."""

SLOTS = {"Adam": 2, "RMSprop": 1, "AdaGrad": 1, "Adagrad": 1, "SGD": 1}
"""How many slots each optimizer has, in every dialect; SGD's is the momentum."""

ADD = "in-place add"

BEFORE = 3
"""How many steps are made before the one that is checked."""


def factory(label: str, optimizer: str, **options: Any) -> Factory:
    """The factory of our optimizer, such as "Adam" or "keras.Adam", or of torch's of the same name,
    as ``label`` says."""
    known = BY_NAME[optimizer]
    theirs = known.torchs or getattr(torch.optim, known.ours.__name__)
    return partial(known.ours if label in (OURS, EAGER) else theirs, **WHO[label], **options)


def contestants(
    optimizer: str,
    make: Callable[[Factory], Run],
    labels: Iterable[str],
    *,
    bar: float | None = None,
    bytes_moved: int | None = None,
    **options: Any,
) -> list[Contestant]:
    """The contestants of ``WHO`` with these labels; the bar is for the last.

    ``make`` makes the function to time from the optimizer's factory. If torch does not have the
    formula, its optimizer of the same name takes part as a yardstick.
    """
    *_, last = labels = [*labels]
    foreign = BY_NAME[optimizer].torchs is None
    return [
        Contestant(
            label,
            partial(make, factory(label, optimizer, **options)),
            bar=bar if label == last else None,
            bytes_moved=bytes_moved,
            yardstick=foreign and label not in (OURS, EAGER),
        )
        for label in labels
    ]


def in_place_add(size: int, device: torch.device, dtype: torch.dtype) -> Contestant:
    """``a.add_(b)`` of vectors of ``size`` elements, a yardstick for the memory's bandwidth."""

    def make() -> Run:
        a = torch.zeros(size, device=device, dtype=dtype)
        b = torch.ones_like(a)

        def run() -> Sequence[Tensor]:
            a.add_(b)
            return (a,)

        return run

    # a and b are read, a is written.
    return Contestant(ADD, make, bytes_moved=3 * size * dtype.itemsize, yardstick=True)


def bytes_of_a_step(optimizer: str, shapes: Shapes, dtype: torch.dtype = torch.float32) -> int:
    """What a step reads (parameter, gradient, slots) and writes (parameter, slots)."""
    slots = SLOTS[optimizer.rpartition(".")[2]]
    return (3 + 2 * slots) * elements(shapes) * dtype.itemsize


def steps(
    shapes: Shapes,
    device: torch.device,
    factory: Factory,
    *,
    dtype: torch.dtype = torch.float32,
    groups: int = 1,
    one_missing: bool = False,
    state_read: bool = False,
) -> Run:
    """A function that makes one step of an optimizer, always with the same gradients.

    ``groups`` is the number of param groups, which differ in their learning rate. ``one_missing``:
    at each step another gradient is missing, as when layers are dropped or experts are chosen.
    ``state_read``: the steps come after ``state_dict()``, as for a checkpoint.
    """
    params = parameters(shapes, device, dtype)
    optimizer = factory(params if groups == 1 else in_groups(params, groups))
    turns = cycle(params)

    def run() -> Sequence[Tensor]:
        optimizer.step()
        return params

    def run_without_one() -> Sequence[Tensor]:
        param = next(turns)
        grad, param.grad = param.grad, None
        optimizer.step()
        param.grad = grad
        return params

    chosen = run_without_one if one_missing else run
    begin(chosen, params)
    if state_read:
        optimizer.state_dict()
    return chosen


def graphed_steps(shapes: Shapes, device: torch.device, factory: Factory) -> Run:
    """The same as ``steps``, but a call replays a CUDA graph of the step."""
    params = parameters(shapes, device)
    optimizer = factory(params)
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        begin(optimizer.step, params)
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    # The graph writes into the memory of the state, which the optimizer has to keep alive.
    return partial(_replay, graph, params, optimizer)


def _replay(
    graph: torch.cuda.CUDAGraph, params: Sequence[Tensor], optimizer: torch.optim.Optimizer
) -> Sequence[Tensor]:
    graph.replay()
    return params


def begin(step: Callable[[], object], params: Sequence[Tensor]) -> None:
    """Make a few steps with changing gradients, so that the gradients' averages differ from the
    gradients."""
    for _ in range(BEFORE):
        step()
        for param in params:
            assert param.grad is not None
            param.grad *= 2


def in_groups(params: Sequence[Tensor], groups: int) -> list[dict[str, Any]]:
    return [{"params": params[i::groups], "lr": 1e-3 * (1 + i / groups)} for i in range(groups)]


def parameters(
    shapes: Shapes, device: torch.device, dtype: torch.dtype = torch.float32
) -> list[nn.Parameter]:
    """Parameters with gradients, the same ones at every call.

    The values are about as large as a step, so that the check of the results notices a wrong step.
    """
    generator = torch.Generator().manual_seed(0)

    def normal(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator)

    params = [nn.Parameter((1e-3 * normal(shape)).to(device, dtype)) for shape in shapes]
    for param, shape in zip(params, shapes, strict=True):
        param.grad = normal(shape).to(device, dtype)
    return params
