"""What the initial weights do to the activations of a deep network, without any training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from numpy_ref.init import Scheme
from numpy_ref.network import Activation, MultiLayerNet
from torchopt_ref.sides import Twin

from .lab.charts import Histograms, Lines
from .lab.panels import LAYER, curves, initial_weights, note
from .lab.results import Outcome, Results, Unit
from .lab.settings import Settings
from .lab.svg import COLORS, Axis, Figure
from .lab.words import Words, percent, sentences

NAME = "activations"
FUNCTIONS: tuple[Activation, ...] = ("sigmoid", "tanh", "relu")
SCHEMES: dict[str, Scheme | float] = {
    "std=1": 1.0,
    "std=0.01": 0.01,
    "Xavier": "xavier",
    "He": "he",
}
"""The kinds of initial weights."""
Layers = list[np.ndarray]
NEAR = 0.1
"""An activation is counted as being at a bound of its function, or at sigmoid's 0.5, if it is this
close to it."""
BEYOND = 3.0
"""ReLU's activations above this are counted in the last bin of a histogram. Some weights make them
grow without bound; a range that held them all would squeeze the other layers into one bin."""


@dataclass
class Config(Settings):
    """Send 1,000 standard normal inputs of 100 values through 5 layers of 100 units, no training.

    Then the gradient of the sum of layer 5's activations with respect to each layer's is computed.

    Claim: sigmoids gather at 0 and 1 with std 1, so that gradients vanish, and at 0.5 with std
    0.01, which expresses little; Xavier's weights keep them spread; tanh is symmetric about 0
    where sigmoid is not; ReLU keeps its spread from layer to layer with He's weights only.
    """

    samples: int = 1000
    """how many inputs"""


def units(config: Config) -> list[Unit]:
    return [
        Unit(
            f"{function}-{scheme}",
            seed,
            propagate,
            {"stack": Stack(function, std, seed, config.samples), "settings": config},
        )
        for function in FUNCTIONS
        for scheme, std in SCHEMES.items()
        for seed in config.all_seeds
    ]


def propagate(stack: Stack, settings: Settings) -> Outcome:
    """What each chosen side measures and, where both run, how far they differ in float64."""
    outcome: Outcome = {}
    for side in settings.side_names:
        start = time.perf_counter()
        outputs, gradients = signals(stack, side, settings.dtype, settings.device)
        seconds = time.perf_counter() - start
        found = measured(stack.activation, outputs, gradients)
        numbers = {tag: curve[-1] for tag, curve in found["curves"].items() if "activation" in tag}
        numbers["gradient/norm"] = found["curves"]["gradient/norm"][0]
        outcome[side] = found | {"numbers": numbers, "seconds": seconds}
    if len(settings.side_names) == 2:
        (a, da), (b, db) = (signals(stack, side, "float64") for side in settings.side_names)
        outcome["apart"] = {
            "activations": largest_difference(a, b),
            "gradients": largest_difference(da, db),
        }
    return outcome


@dataclass(frozen=True)
class Stack:
    """Equally wide layers of Affine and activation, and ``samples`` standard normal inputs.

    ``activation`` and ``weight_init`` are those of ``numpy_ref.network.MultiLayerNet``. Weights and
    inputs follow from ``seed``.
    """

    activation: Activation
    weight_init: Scheme | float
    seed: int
    samples: int = 1000
    width: int = 100
    depth: int = 5


def signals(stack: Stack, side: str, dtype: str, device: str = "cpu") -> tuple[Layers, Layers]:
    """Each layer's activations, and the gradient of the last layer's sum with respect to them."""
    network = MultiLayerNet(
        stack.width,
        (stack.width,) * stack.depth,
        1,
        activation=stack.activation,
        weight_init=stack.weight_init,
        rng=np.random.default_rng(stack.seed),
        dtype=dtype,
    )
    inputs = np.random.default_rng([stack.seed, 1]).standard_normal((stack.samples, stack.width))
    x = inputs.astype(dtype)
    if side == "torch":
        return by_torch(network, torch.from_numpy(x).to(device))
    return by_numpy(network, x)


def by_numpy(network: MultiLayerNet, x: np.ndarray) -> tuple[Layers, Layers]:
    hidden = list(network.layers.values())[:-1]
    outputs: Layers = []
    for affine, activation in zip(hidden[::2], hidden[1::2], strict=True):
        x = activation.forward(affine.forward(x))
        outputs.append(x)
    gradients: Layers = []
    dout = np.ones_like(x)
    for activation, affine in zip(hidden[::-2], hidden[-2::-2], strict=True):
        gradients.append(dout)
        dout = affine.backward(activation.backward(dout))
    return outputs, gradients[::-1]


def by_torch(network: MultiLayerNet, x: torch.Tensor) -> tuple[Layers, Layers]:
    hidden = list(Twin(network, device=str(x.device)))[:-1]
    outputs = []
    for affine, activation in zip(hidden[::2], hidden[1::2], strict=True):
        x = activation(affine(x))
        outputs.append(x)
    gradients = torch.autograd.grad(x.sum(), outputs)
    return [y.detach().cpu().numpy() for y in outputs], [g.cpu().numpy() for g in gradients]


def measured(function: str, outputs: Layers, gradients: Layers) -> dict[str, Any]:
    """Curves over the layers, and a histogram of each layer in a range that all layers share."""
    outputs = [y.astype(np.float64) for y in outputs]
    low = -1.0 if function == "tanh" else 0.0
    high = BEYOND if function == "relu" else 1.0
    curves = {
        "activation/mean": [y.mean() for y in outputs],
        "activation/std": [y.std() for y in outputs],
        "activation/std_over_inputs": [np.sqrt(y.var(axis=0).mean()) for y in outputs],
        "activation/saturated": [saturated(function, y) for y in outputs],
        "activation/center": [(np.abs(y - 0.5) < NEAR).mean() for y in outputs],
        "activation/dead_units": [(y == 0).all(axis=0).mean() for y in outputs],
        "gradient/norm": [np.linalg.norm(g.astype(np.float64)) for g in gradients],
    }
    histograms = {
        f"activation/layer{i}": {
            "range": [low, high],
            "counts": np.histogram(np.minimum(y, high), 30, (low, high))[0].tolist(),
        }
        for i, y in enumerate(outputs, start=1)
    }
    return {
        "curves": {tag: [float(value) for value in curve] for tag, curve in curves.items()},
        "histograms": histograms,
    }


def saturated(function: str, y: np.ndarray) -> float:
    """The fraction within 0.1 of a bound of sigmoid or tanh, or at ReLU's 0."""
    if function == "relu":
        return (y == 0).mean()
    low = -1 if function == "tanh" else 0
    return ((y < low + NEAR) | (y > 1 - NEAR)).mean()


def largest_difference(a: Layers, b: Layers) -> float:
    """The largest difference in any layer, relative to the largest value of the layer."""
    return float(np.max([np.abs(p - q).max() / np.abs(p).max() for p, q in zip(a, b, strict=True)]))


BACK = Axis(Words("layer, from the last back to the first", "层（从最后一层向前）"))
TITLES = {
    "std": Words("Spread of the activations", "激活值的离散程度"),
    "gradient": Words("Gradients on their way back", "反向传播中的梯度"),
}
MEASURES = {
    "std": (
        "activation/std",
        Words("standard deviation, logarithmic", "标准差（对数刻度）"),
    ),
    "gradient": (
        "gradient/norm",
        Words("norm of the gradient, logarithmic", "梯度的范数（对数刻度）"),
    ),
}


def figures(results: Results, config: Config) -> dict[str, Figure]:
    made = {f"histograms_{function}": histograms(results, function) for function in FUNCTIONS}
    return made | {what: over_layers(results, FUNCTIONS, what) for what in ("std", "gradient")}


def histograms(results: Results, function: str) -> Figure:
    """A panel for each kind of initial weights: the first seed's histogram of each layer."""
    side = results.sides[-1]
    x = Axis(Words("activation", "激活值"))
    y = Axis(
        Words("share of the layer's activations", "占该层激活值的比例"),
        write=percent,
    )
    panels = [
        Histograms(
            name,
            x,
            y,
            list(results.of(f"{function}-{scheme}")[0][side]["histograms"].values()),
            color,
        )
        for (scheme, name), color in zip(
            scheme_names(results, function).items(), COLORS, strict=False
        )
    ]
    explained = [
        Words(
            "Each panel: one kind of initial weights. Numbers: the tallest bar; ↑: it is cut.",
            "每幅图是一种权重初始值。数字是最高一条的比例，↑ 表示该条被截断。",
        )
    ]
    if function == "relu":
        high = panels[0].layers[0]["range"][1]
        explained.append(
            Words(
                f"Activations above {high:g} are in the last bar.",
                f"大于 {high:g} 的值都算在最后一条中。",
            )
        )
    shown = function_name(function)
    return Figure(
        Words(f"Activations of {shown}, layer by layer", f"各层激活值的分布：{shown}"),
        panels,
        sentences(explained),
    )


def over_layers(results: Results, functions: Sequence[str], what: str) -> Figure:
    """A panel for each activation function, with a curve for each kind of initial weights."""
    tag, name = MEASURES[what]
    backwards = what == "gradient"
    panels = []
    for function in functions:
        found: dict[Words, np.ndarray] = {
            words: results.curve(f"{function}-{scheme}", results.sides[-1], tag)
            for scheme, words in scheme_names(results, function).items()
        }
        x = range(1, 1 + next(iter(found.values())).shape[1])
        layer = LAYER._replace(ticks=x, limits=(x[0] - 0.2, x[-1] + 0.2))
        drawn = curves(found, x)
        if backwards:
            layer = BACK._replace(ticks=x, limits=(x[-1] + 0.2, x[0] - 0.2))
            drawn = [replace(c, x=c.x[::-1], values=c.values[:, ::-1]) for c in drawn]
        shown = function_name(function)
        panels.append(Lines(Words(shown, shown), layer, Axis(name, log=True), drawn, dots=True))
    return Figure(TITLES[what], panels, note(results, f"{functions[0]}-He"))


def scheme_names(results: Results, function: str) -> dict[str, Words]:
    """What a figure calls each kind of initial weights that ran with this activation function."""
    schemes = [v.removeprefix(f"{function}-") for v in results.variants if v.startswith(function)]
    return {scheme: initial_weights(scheme) for scheme in schemes}


def function_name(function: str) -> str:
    return {"relu": "ReLU"}.get(function, function)
