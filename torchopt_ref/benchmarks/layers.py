"""The layers of ``torchopt_ref.nn`` against those of ``torch.nn``, in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

import torchopt_ref.nn

from .timing import Case, Contestant, Run

SMALL, LARGE, CHANNELS_LAST = (128, 100), (32, 64, 56, 56), (8, 256, 28, 28)

Layer = Callable[[], nn.Module]


def cases(device: torch.device) -> Iterator[Case]:
    for shape, fused_bar in ((SMALL, 1.5), (LARGE, 1.15), (CHANNELS_LAST, 1.15)):
        kind = "BatchNorm1d" if len(shape) == 2 else "BatchNorm2d"
        theirs = partial(getattr(nn, kind), shape[1])
        ours = partial(getattr(torchopt_ref.nn, kind), shape[1])
        fused = partial(ours, fused=True)
        for step, bars in ((_forward, (None, None)), (_forward_backward, (3.0, fused_bar))):
            yield Case(
                _title(kind, shape, step),
                [
                    Contestant("torch.nn", partial(step, theirs, shape, device)),
                    Contestant("hand-written", partial(step, ours, shape, device), bars[0]),
                    Contestant("fused=True", partial(step, fused, shape, device), bars[1]),
                ],
            )
    for shape, steps in (
        (LARGE, ((_forward, 1 / 5), (_forward_backward, 1 / 4))),
        (SMALL, ((_forward, 1.0), (_forward_backward, 1.0))),
    ):
        for step, bar in steps:
            yield Case(
                _title("Dropout", shape, step),
                [
                    Contestant("torch.nn", partial(step, nn.Dropout, shape, device)),
                    Contestant("ours", partial(step, torchopt_ref.nn.Dropout, shape, device), bar),
                ],
                check=_assert_same_but_for_the_mask,
            )


def _normal(shape: tuple[int, ...], device: torch.device, seed: int = 0) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)
    return x.to(memory_format=torch.channels_last) if shape == CHANNELS_LAST else x


def _forward(make: Layer, shape: tuple[int, ...], device: torch.device) -> Run:
    layer, x = make().to(device), _normal(shape, device)
    return lambda: (layer(x),)


def _forward_backward(make: Layer, shape: tuple[int, ...], device: torch.device) -> Run:
    layer, x = make().to(device), _normal(shape, device).requires_grad_()
    dy = _normal(shape, device, seed=1)

    def run() -> Sequence[Tensor]:
        y = layer(x)
        return y, *torch.autograd.grad(y, (x, *layer.parameters()), dy)

    return run


def _title(kind: str, shape: tuple[int, ...], step: object) -> str:
    layout = " channels last" if shape == CHANNELS_LAST else ""
    passes = "forward" if step is _forward else "forward + backward"
    return f"{kind} {shape}{layout}, {passes}"


def _assert_same_but_for_the_mask(expected: Sequence[Tensor], actual: Sequence[Tensor]) -> None:
    """Each of the two drops about half of the elements, and those that both keep are equal."""
    for e, a in zip(expected, actual, strict=True):
        kept = (e != 0) & (a != 0)
        torch.testing.assert_close(a[kept], e[kept])
        for result in (e, a):
            share = (result != 0).double().mean().item()
            # Six standard deviations of the share of n fair coins.
            assert abs(share - 0.5) < 3 / result.numel() ** 0.5, share
