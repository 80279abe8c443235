"""The layers of ``torchopt_ref.nn`` against those of ``torch.nn``, on the CPU, in float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

import torchopt_ref.nn

from .timing import Case, Contestant, Run

SMALL, LARGE, CHANNELS_LAST = (128, 100), (32, 64, 56, 56), (8, 256, 28, 28)


def cases() -> Iterator[Case]:
    for shape, fused_bar in ((SMALL, 1.5), (LARGE, 1.15), (CHANNELS_LAST, 1.15)):
        kind = "BatchNorm1d" if len(shape) == 2 else "BatchNorm2d"
        x = _normal(shape)
        theirs = getattr(nn, kind)(shape[1])
        ours = getattr(torchopt_ref.nn, kind)(shape[1])
        fused = getattr(torchopt_ref.nn, kind)(shape[1], fused=True)
        for step, bars in ((_forward, (None, None)), (_forward_backward, (3.0, fused_bar))):
            yield Case(
                _title(kind, shape, step),
                [
                    Contestant("torch.nn", step(theirs, x)),
                    Contestant("hand-written", step(ours, x), bars[0]),
                    Contestant("fused=True", step(fused, x), bars[1]),
                ],
            )
    for shape, steps in (
        (LARGE, ((_forward, 1 / 5), (_forward_backward, 1 / 4))),
        (SMALL, ((_forward, 1.0), (_forward_backward, 1.0))),
    ):
        x = _normal(shape)
        for step, bar in steps:
            yield Case(
                _title("Dropout", shape, step),
                [
                    Contestant("torch.nn", step(nn.Dropout(), x)),
                    Contestant("ours", step(torchopt_ref.nn.Dropout(), x), bar),
                ],
                check=_assert_same_but_for_the_mask,
            )


def _normal(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x.to(memory_format=torch.channels_last) if shape == CHANNELS_LAST else x


def _forward(layer: nn.Module, x: Tensor) -> Run:
    return lambda: (layer(x),)


def _forward_backward(layer: nn.Module, x: Tensor) -> Run:
    x = x.detach().requires_grad_()
    dy = _normal(tuple(x.shape), seed=1)

    def run() -> Sequence[Tensor]:
        y = layer(x)
        return y, *torch.autograd.grad(y, (x, *layer.parameters()), dy)

    return run


def _title(kind: str, shape: tuple[int, ...], step: object) -> str:
    layout = " channels last" if shape == CHANNELS_LAST else ""
    passes = "forward" if step is _forward else "forward + backward"
    return f"{kind} {shape}{layout}, {passes}"


def _assert_same_but_for_the_mask(expected: Sequence[Tensor], actual: Sequence[Tensor]) -> None:
    """Each drops about half, and what both keep is equal."""
    for e, a in zip(expected, actual, strict=True):
        kept = (e != 0) & (a != 0)
        torch.testing.assert_close(a[kept], e[kept])
        for result in (e, a):
            share = (result != 0).double().mean().item()
            # Six standard deviations of the share of n fair coins.
            assert abs(share - 0.5) < 3 / result.numel() ** 0.5, share
