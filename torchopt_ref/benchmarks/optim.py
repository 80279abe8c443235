"""One optimizer step: ours by each engine against those of ``torch.optim``, in float32."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from torchopt_ref import optim

from .contestants import Shapes, bytes_of_a_step, contestants, graphed_steps, steps
from .timing import Case, Contestant

THIRD_PARTY: dict[str, tuple[str, str, dict[str, Any]]] = {
    "torch-optimi": ("optimi", "Adam", {"lr": 1e-3, "betas": (0.9, 0.999)}),
    # The package's Adam is that of torch. Its own PAdam is Adam if the exponent is one half.
    "pytorch-optimizer PAdam": ("pytorch_optimizer", "PAdam", {"lr": 1e-3, "partial": 0.5}),
}
"""Adam of other packages, which take part where they are installed: module, class, options."""

EPS = 1e-16
"""Of every Adam: PAdam adds it before the bias correction, the others after it. So small, it makes
no difference to the result, and to the time it makes none anyway."""


TINY = {"ours": 1 / 5, "ours fused": 1 / 3, "ours flat": 1 / 15}
MODEL = {"ours": 1 / 0.95, "ours fused": 1 / 0.97, "ours flat": 1.0}
RMSPROP = {"ours fused": 1 / 3}
OTHERS = {"ours fused": 1 / 0.97}
"""The bars of our engines: the ratio to stay under."""


def cases(device: torch.device) -> Iterator[Case]:
    yield case("Adam", "1,000 x 64", [(64,)] * 1000, device, TINY)
    for name, shapes in models():
        yield case("Adam", name, shapes, device, MODEL)
    resnet = dict(models())["ResNet-18"]
    yield case("RMSprop", "ResNet-18", resnet, device, RMSPROP)
    yield case("Adagrad", "ResNet-18", resnet, device, OTHERS)
    yield case("SGD", "ResNet-18", resnet, device, OTHERS, momentum=0.9)


def models() -> Iterator[tuple[str, Shapes]]:
    """The shapes of the parameters of the main job's network and of some that people train."""
    import torchvision.models as vision

    makers: dict[str, Callable[[], nn.Module]] = {
        "MLP": mlp,
        "ResNet-18": vision.resnet18,
        "ResNet-50": vision.resnet50,
        "MobileNetV3": vision.mobilenet_v3_large,
        "ViT-B/16": vision.vit_b_16,
    }
    for name, make in makers.items():
        with torch.device("meta"):
            model = make()
        yield name, [tuple(param.shape) for param in model.parameters()]


def mlp() -> nn.Module:
    """The main job's network: 784-100-100-100-100-10."""
    sizes = [784, 100, 100, 100, 100, 10]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def case(
    name: str,
    model: str,
    shapes: Shapes,
    device: torch.device,
    bars: dict[str, float],
    **options: Any,
) -> Case:
    moved = bytes_of_a_step(name, shapes)
    if name == "Adam":
        options = {"eps": EPS, **options}
    make = partial(steps, shapes, device)
    entered = contestants(name, make, bars=bars, bytes_moved=moved, **options)
    if name == "Adam" and device.type == "cuda":
        capture = partial(graphed_steps, shapes, device)
        options_of_a_graph = {"fused": True, "capturable": True, **options}
        entered += [
            Contestant(
                f"{whose} graph",
                partial(capture, partial(module.Adam, **options_of_a_graph)),
                against="torch graph",
                bytes_moved=moved,
            )
            for whose, module in (("torch", torch.optim), ("ours", optim))
        ]
    if name == "Adam":
        entered += [
            Contestant(label, partial(make, partial(adam, **options)), bytes_moved=moved)
            for label, adam in third_party()
        ]
    return Case(f"{name}, {model}: {len(shapes)} tensors", entered)


def third_party() -> Iterator[tuple[str, Callable[..., torch.optim.Optimizer]]]:
    for label, (module, name, options) in THIRD_PARTY.items():
        if importlib.util.find_spec(module):
            yield label, partial(getattr(importlib.import_module(module), name), **options)
