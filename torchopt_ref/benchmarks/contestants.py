"""Who takes part: the optimizers of ``torch.optim``, and ours by each engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from torchopt_ref import optim

from .timing import Contestant, Run

Shapes = list[tuple[int, ...]]
Factory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]

THEIRS: dict[str, dict[str, Any]] = {"torch default": {}, "torch fused": {"fused": True}}

OURS: dict[str, tuple[dict[str, Any], str]] = {
    "ours": ({}, "torch default"),
    "ours fused": ({"fused": True}, "torch fused"),
    "ours flat": ({"flat": True}, "torch fused"),
}
"""The options of an engine, and whom it is measured against."""

NOT_FUSED_BY_TORCH = ("RMSprop",)
SLOTS = {"Adam": 2, "RMSprop": 1, "Adagrad": 1, "SGD": 1}

BEFORE = 3
"""Steps before the one that is checked."""


def contestants(
    name: str,
    make: Callable[[Factory], Run],
    *,
    bars: Mapping[str, float] | None = None,
    against: str | None = None,
    bytes_moved: int | None = None,
    **options: Any,
) -> list[Contestant]:
    """The optimizer ``name`` of torch and ours, by each engine; ``make`` sets it to work.

    ``against``: whom all are measured against, instead of torch's counterpart of the engine.
    """
    theirs = {
        label: flags
        for label, flags in THEIRS.items()
        if not (flags and name in NOT_FUSED_BY_TORCH)
    }

    def contestant(label: str, module: Any, flags: dict[str, Any], rival: str) -> Contestant:
        return Contestant(
            label,
            partial(make, partial(getattr(module, name), **flags, **options)),
            bar=(bars or {}).get(label),
            against=against or (rival if rival in theirs else "torch default"),
            bytes_moved=bytes_moved,
        )

    return [
        *(contestant(label, torch.optim, flags, "") for label, flags in theirs.items()),
        *(contestant(label, optim, flags, rival) for label, (flags, rival) in OURS.items()),
    ]


def bytes_of_a_step(name: str, shapes: Shapes) -> int:
    """What a step reads (parameter, gradient, slots) and writes (parameter, slots), in float32."""
    return 4 * (3 + 2 * SLOTS[name]) * elements(shapes)


def elements(shapes: Shapes) -> int:
    return sum(torch.Size(shape).numel() for shape in shapes)


def steps(shapes: Shapes, device: torch.device, factory: Factory) -> Run:
    """One step of an optimizer after the other, with the same gradients."""
    params = parameters(shapes, device)
    optimizer = factory(params)
    begin(optimizer, params)

    def run() -> Sequence[Tensor]:
        optimizer.step()
        return params

    return run


def graphed_steps(shapes: Shapes, device: torch.device, factory: Factory) -> Run:
    """The same as ``steps``, the step captured in a CUDA graph, which is replayed."""
    params = parameters(shapes, device)
    optimizer = factory(params)
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        begin(optimizer, params)
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    # The graph knows the memory of the state, not who owns it: the optimizer stays alive.
    return partial(_replay, graph, params, optimizer)


def _replay(
    graph: torch.cuda.CUDAGraph, params: Sequence[Tensor], optimizer: torch.optim.Optimizer
) -> Sequence[Tensor]:
    graph.replay()
    return params


def begin(optimizer: torch.optim.Optimizer, params: Sequence[Tensor]) -> None:
    """Steps with gradients that change: had they always been the same, no average would show.

    They are cleared and written as in a training, so that they lie where they do in one.
    """
    for _ in range(BEFORE):
        optimizer.step()
        grads = [param.grad * -2 for param in params if param.grad is not None]
        optimizer.zero_grad()
        for param, grad in zip(params, grads, strict=True):
            if param.grad is None:
                param.grad = grad
            else:
                param.grad.copy_(grad)


def parameters(shapes: Shapes, device: torch.device) -> list[nn.Parameter]:
    """The same values and gradients at every call.

    The values are about as large as a step, so that the check judges the step.
    """
    generator = torch.Generator().manual_seed(0)

    def normal(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    params = [nn.Parameter(1e-3 * normal(shape)) for shape in shapes]
    for param, shape in zip(params, shapes, strict=True):
        param.grad = normal(shape)
    return params
