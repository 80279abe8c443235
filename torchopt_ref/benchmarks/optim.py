"""One optimizer step: ours, nearly always with default flags, against those of ``torch.optim``."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch

from torchopt_ref.sides import BY_NAME

from . import first_step
from .contestants import (
    DEFAULT,
    EAGER,
    FOREACH,
    FUSED,
    LOOP,
    OURS,
    bytes_of_a_step,
    contestants,
    factory,
    graphed_steps,
    in_place_add,
    steps,
)
from .shapes import SMALL, Shapes, cnn, elements, mlp, shapes_of, transformer, vision
from .timing import Case, Contestant, Run

AS_FAST = 1.03
"""The bar of a step that should be as fast as torch's: 3 % is noise."""

LARGE = 10**7
"""From this many elements on, a step is compared with the bandwidth of the memory, too."""

HUGE = 5 * 10**7
"""From this many elements on, ten rounds are enough."""

THIRD_PARTY: dict[str, tuple[str, str, dict[str, Any]]] = {
    "torch-optimi": ("optimi", "Adam", {"lr": 1e-3, "betas": (0.9, 0.999)}),
    # The Adam of this package is torch's. Its own PAdam equals Adam if the exponent is one half.
    "pytorch-optimizer PAdam": ("pytorch_optimizer", "PAdam", {"lr": 1e-3, "partial": 0.5}),
}
"""Adam of other packages, which take part where they are installed: module, class, options."""

EPS = 1e-16
"""The eps of torch's dialect of Adam in the cases below. PAdam adds it before the bias correction,
the others after it; this value is so small that the results agree."""


def cases(device: torch.device) -> Iterator[Case]:
    yield from cuda_cases(device) if device.type == "cuda" else cpu_cases(device)


def cpu_cases(device: torch.device) -> Iterator[Case]:
    resnet18, resnet50 = vision("resnet18"), vision("resnet50")
    for model, shapes in (
        ("ResNet-18", resnet18),
        ("ResNet-50", resnet50),
        ("MobileNetV3", vision("mobilenet_v3_large")),
        ("ViT-B/16", vision("vit_b_16")),
    ):
        yield case("Adam", model, shapes, device, bar=AS_FAST, packages=True)
    yield case("AdaGrad", "ResNet-18", resnet18, device, bar=1.0)
    yield case("SGD", "ResNet-18", resnet18, device, bar=1.0, momentum=0.9)
    # torch has no fused RMSprop.
    yield case("RMSprop", "ResNet-18", resnet18, device, (DEFAULT, FOREACH), bar=0.37)
    for optimizer, best in (("RMSprop", (DEFAULT, FOREACH)), ("Adam", (DEFAULT, FOREACH, FUSED))):
        yield case(
            *(optimizer, "ResNet-50, bfloat16", resnet50, device, best),
            bar=0.6,
            dtype=torch.bfloat16,
        )
    for model, make in (("MLP", mlp), ("small CNN", cnn)):
        for optimizer in ("Adam", "SGD"):
            yield case(optimizer, model, shapes_of(make), device, (DEFAULT, FUSED), bar=1.05)
    yield from small_tensors(device, (FUSED,), bars=(0.55, 0.65))
    yield case("Adam", "1,000 x 64, foreach=False", SMALL, device, (LOOP,), ours=EAGER, bar=1.0)
    for dialect in ("keras", "optax"):
        yield from of_dialect(dialect, device)
    yield first_step.case()


def of_dialect(dialect: str, device: torch.device) -> Iterator[Case]:
    """Formulas that torch does not have, compared with torch's optimizers of the same names."""
    resnet18 = vision("resnet18")
    yield case(f"{dialect}.Adam", "ResNet-18", resnet18, device, bar=AS_FAST)
    yield case(f"{dialect}.Adagrad", "ResNet-18", resnet18, device, bar=AS_FAST)
    yield case(f"{dialect}.SGD", "ResNet-18", resnet18, device, bar=AS_FAST, momentum=0.9)
    yield case(f"{dialect}.RMSprop", "ResNet-18", resnet18, device, (DEFAULT, FOREACH), bar=0.37)
    yield case(f"{dialect}.Adam", "MLP", shapes_of(mlp), device, (DEFAULT, FUSED), bar=1.05)


def cuda_cases(device: torch.device) -> Iterator[Case]:
    resnet50 = vision("resnet50")
    best = FOREACH, FUSED
    for model, shapes in (
        ("ResNet-50", resnet50),
        ("ViT-B/16", vision("vit_b_16")),
        ("transformer of a billion", transformer()),
    ):
        yield case("Adam", model, shapes, device, best)
    yield case("Adam", "ResNet-50, bfloat16", resnet50, device, best, dtype=torch.bfloat16)
    yield case("AdaGrad", "ResNet-50", resnet50, device, best)
    yield case("SGD", "ResNet-50", resnet50, device, best, momentum=0.9)
    yield case("RMSprop", "ResNet-50", resnet50, device, (FOREACH,))
    yield from small_tensors(device, best)
    make = partial(graphed_steps, SMALL, device)
    yield Case(
        "Adam, 1,000 x 64, in a CUDA graph",
        [
            Contestant(name, partial(make, factory(label, "Adam", capturable=True)))
            for name, label in (("torch fused, graph", FUSED), ("ours, graph", OURS))
        ],
    )


def small_tensors(
    device: torch.device,
    against: Sequence[str],
    bars: tuple[float, float] | tuple[None, None] = (None, None),
) -> Iterator[Case]:
    """1,000 tensors of 64 elements, in the plainest training and in three others, which should take
    no longer.

    The first bar is for the plainest, the second for the others.
    """
    plain, other = bars
    yield case("Adam", "1,000 x 64", SMALL, device, against, bar=plain, packages=True)
    for what, make in (
        ("a gradient missing, another each step", partial(steps, one_missing=True)),
        ("after a checkpoint", partial(steps, state_read=True)),
        ("10 groups", partial(steps, groups=10)),
    ):
        yield case("Adam", f"1,000 x 64, {what}", SMALL, device, against, bar=other, make=make)


def case(
    optimizer: str,
    model: str,
    shapes: Shapes,
    device: torch.device,
    against: Sequence[str] = (FUSED,),
    *,
    ours: str = OURS,
    bar: float | None = None,
    dtype: torch.dtype = torch.float32,
    make: Callable[..., Run] = steps,
    packages: bool = False,
    **options: Any,
) -> Case:
    """Ours against the fastest of ``against``; torch's default takes part, too.

    If torch does not have the formula, our results are checked against our eager engine.
    ``packages``: other packages take part, too.
    """
    size = elements(shapes)
    moved = bytes_of_a_step(optimizer, shapes, dtype) if size >= LARGE else None
    if optimizer == "Adam":
        options = {"eps": EPS, **options}
    work = partial(make, shapes, device, dtype=dtype)
    # On CUDA torch's default is foreach.
    theirs = against if device.type == "cuda" else dict.fromkeys((DEFAULT, *against))
    first = [EAGER] if BY_NAME[optimizer].torchs is None else []
    labels = [*first, *theirs, ours]
    entered = contestants(optimizer, work, labels, bar=bar, bytes_moved=moved, **options)
    if packages:
        entered += [
            Contestant(label, partial(work, partial(adam, **options)), bytes_moved=moved)
            for label, adam in third_party()
        ]
    if moved is not None:
        entered.append(in_place_add(size, device, dtype))
    return Case(
        f"{optimizer}, {model}: {len(shapes):,} tensors",
        entered,
        against=against,
        rounds=10 if size >= HUGE else None,
    )


def third_party() -> Iterator[tuple[str, Callable[..., torch.optim.Optimizer]]]:
    for label, (module, name, options) in THIRD_PARTY.items():
        if importlib.util.find_spec(module):
            yield label, partial(getattr(importlib.import_module(module), name), **options)
