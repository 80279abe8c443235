"""One optimizer step: ours by each engine against those of ``torch.optim``, in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torchopt_ref import optim

from .timing import Case, Contestant, Run

Shapes = list[tuple[int, ...]]


def cases() -> Iterator[Case]:
    yield case("Adam", "1,000 x 64", [(64,)] * 1000, {"ours": 1 / 5, "ours fused": 1 / 3})
    for name, shapes in models():
        yield case("Adam", name, shapes, {"ours": 1 / 0.95, "ours fused": 1 / 0.97})
    resnet = dict(models())["ResNet-18"]
    yield case("RMSprop", "ResNet-18", resnet, {"ours fused": 1 / 3})
    yield case("Adagrad", "ResNet-18", resnet, {"ours fused": 1 / 0.97})
    yield case("SGD", "ResNet-18", resnet, {"ours fused": 1 / 0.97}, momentum=0.9)


def models() -> Iterator[tuple[str, Shapes]]:
    """The shapes of the parameters of the main job's network and of some that people train."""
    import torchvision.models as vision

    sizes = [784, 100, 100, 100, 100, 10]
    makers: dict[str, Callable[[], nn.Module]] = {
        "MLP": lambda: nn.Sequential(*map(nn.Linear, sizes, sizes[1:])),
        "ResNet-18": vision.resnet18,
        "ResNet-50": vision.resnet50,
        "MobileNetV3": vision.mobilenet_v3_large,
        "ViT-B/16": vision.vit_b_16,
    }
    for name, make in makers.items():
        with torch.device("meta"):
            model = make()
        yield name, [tuple(param.shape) for param in model.parameters()]


def case(name: str, model: str, shapes: Shapes, bars: dict[str, float], **options: Any) -> Case:
    theirs, ours = getattr(torch.optim, name), getattr(optim, name)
    makers = {"torch default": (theirs, {}), "torch fused": (theirs, {"fused": True})}
    if name == "RMSprop":
        del makers["torch fused"]
    mine = [("ours", {}, "torch default"), ("ours fused", {"fused": True}, [*makers][-1])]
    return Case(
        f"{name}, {model}: {len(shapes)} tensors",
        [
            *(
                Contestant(label, steps(cls, shapes, options | flags))
                for label, (cls, flags) in makers.items()
            ),
            *(
                Contestant(label, steps(ours, shapes, options | flags), bars.get(label), against)
                for label, flags, against in mine
            ),
        ],
    )


def steps(cls: Any, shapes: Shapes, options: dict[str, Any]) -> Run:
    generator = torch.Generator().manual_seed(0)
    params = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator)
    optimizer = cls(params, **options)

    def run() -> Sequence[Tensor]:
        optimizer.step()
        return params

    return run
