"""What the initial weights do to the activations of a deep network."""

from __future__ import annotations

import time
from dataclasses import dataclass

from numpy_ref.init import Scheme
from numpy_ref.network import Activation

from .activations_figures import histograms, over_layers
from .propagation import Stack, apart, measured, signals
from .results import Outcome, Results, Unit
from .settings import Settings
from .svg import Figure

NAME = "activations"
FUNCTIONS: tuple[Activation, ...] = ("sigmoid", "tanh", "relu")
SCHEMES: dict[str, Scheme | float] = {
    "std=1": 1.0,
    "std=0.01": 0.01,
    "Xavier": "xavier",
    "He": "he",
}
"""The kinds of initial weights."""


@dataclass
class Config(Settings):
    """Send 1,000 standard normal inputs of 100 values through 5 layers of 100 units, no training.

    Back comes the gradient of the sum of layer 5's activations, in the activations of each layer.

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
    """What the chosen engines measure; with both, also how far they are apart in float64."""
    outcome: Outcome = {}
    for engine in settings.engine_names:
        start = time.perf_counter()
        outputs, gradients = signals(stack, engine, settings.dtype, settings.device)
        seconds = time.perf_counter() - start
        found = measured(stack.activation, outputs, gradients)
        numbers = {tag: curve[-1] for tag, curve in found["curves"].items() if "activation" in tag}
        numbers["gradient/norm"] = found["curves"]["gradient/norm"][0]
        outcome[engine] = found | {"numbers": numbers, "seconds": seconds}
    if len(settings.engine_names) == 2:
        (a, da), (b, db) = (signals(stack, e, "float64") for e in settings.engine_names)
        outcome["apart"] = {"activations": apart(a, b), "gradients": apart(da, db)}
    return outcome


def figures(results: Results, config: Config) -> dict[str, Figure]:
    made = {f"histograms_{function}": histograms(results, function) for function in FUNCTIONS}
    return made | {what: over_layers(results, FUNCTIONS, what) for what in ("std", "gradient")}
