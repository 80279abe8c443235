"""What the initial weights do to the activations of a deep network."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from .activations_claims import SCHEMES, each, of_relu, of_sigmoid, of_tanh
from .activations_figures import histograms, over_layers
from .propagation import Stack, apart, measured, signals
from .results import Outcome, Results, Unit, Verdict, spread
from .settings import Settings
from .svg import Figure

NAME = "activations"
TITLE = "Activations of 5 layers by initial weights"
FUNCTIONS = ("sigmoid", "tanh", "relu")


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


def verdicts(results: Results, config: Config) -> list[Verdict]:
    found = agreement(results)
    for engine in results.engines:
        claims = [*of_sigmoid(results, engine), of_tanh(results, engine), *of_relu(results, engine)]
        found += [
            Verdict(claim, engine, bool(holds), evidence) for claim, holds, evidence in claims
        ]
    return found


def agreement(results: Results) -> list[Verdict]:
    found = [outcome["apart"] for outcome in results.outcomes.values() if "apart" in outcome]
    if not found:
        return []
    worst = {what: np.max([part[what] for part in found]) for what in ("activations", "gradients")}
    return [
        Verdict(
            "the engines' activations agree to 1e-12 in float64",
            "both",
            bool(worst["activations"] <= 1e-12),
            f"Largest difference {worst['activations']:.1e}, relative to the largest activation "
            f"of the layer; {worst['gradients']:.1e} of gradients.",
        )
    ]


def table(results: Results, config: Config) -> list[dict[str, str]]:
    rows = []
    for variant in results.variants:
        for engine in results.engines:
            std = results.curve(variant, engine, "activation/std")
            gradient = results.numbers(variant, engine, "gradient/norm")
            mean, saturated, dead = (
                results.numbers(variant, engine, f"activation/{what}").mean()
                for what in ("mean", "saturated", "dead_units")
            )
            rows.append(
                {
                    "layers": variant,
                    "engine": engine,
                    "std, layers 1 to 5": each(std),
                    "mean, layer 5": f"{mean:.2g}",
                    "saturated": f"{saturated:.0%}",
                    "dead units": f"{dead:.0%}",
                    "gradient, layer 1": spread(gradient),
                }
            )
    return rows


def figures(results: Results, config: Config) -> dict[str, Figure]:
    made = {f"histograms_{function}": histograms(results, function) for function in FUNCTIONS}
    return made | {what: over_layers(results, FUNCTIONS, what) for what in ("std", "gradient")}
