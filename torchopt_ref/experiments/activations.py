"""What the initial weights do to the activations of a deep network."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .figures import histogram_grid, over_layers
from .propagation import Stack, apart, measured, signals
from .results import Outcome, Results, Unit, Verdict, spread
from .settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "activations"
TITLE = "Activations of 5 layers by initial weights"
FUNCTIONS = ("sigmoid", "tanh", "relu")
SCHEMES: dict[str, str | float] = {"std=1": 1.0, "std=0.01": 0.01, "Xavier": "xavier", "He": "he"}


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


def of_sigmoid(results: Results, engine: str) -> list[tuple[str, bool, str]]:
    ends, center, inputs, back = (
        {s: results.curve(f"sigmoid-{s}", engine, tag) for s in SCHEMES}
        for tag in (
            *("activation/saturated", "activation/center", "activation/std_over_inputs"),
            "gradient/norm",
        )
    )
    factor = {s: curve[:, 0] / curve[:, -1] for s, curve in back.items()}
    differ = {s: spread(curve[:, -1]) for s, curve in inputs.items()}
    return [
        (
            "with std 1 sigmoid's activations gather at 0 and 1",
            (ends["std=1"] > 0.5).all(),
            f"Within 0.1 of 0 or 1 are {each(ends['std=1'])} of them in layers 1 to 5 "
            "(if evenly spread, 0.2).",
        ),
        (
            "with std 1 sigmoid's gradients vanish on the way back",
            (factor["std=1"] < 0.1).all(),
            "From layer 5's to layer 1's activations the norm of the gradient, of the sum of layer "
            "5's, changes by a factor of "
            + ", ".join(f"{spread(values)} ({scheme})" for scheme, values in factor.items())
            + ".",
        ),
        (
            "with std 0.01 sigmoid's activations gather at 0.5, which expresses little",
            (center["std=0.01"] > 0.9).all(),
            f"Within 0.1 of 0.5 are {each(center['std=0.01'])} of them; over the inputs a unit of "
            f"layer 5 has a standard deviation of {differ['std=0.01']}.",
        ),
        (
            "with Xavier's weights sigmoid's activations are spread in every layer, neither most "
            "of them at 0 and 1 nor nearly all at 0.5",
            (ends["Xavier"] < 0.5).all() and (center["Xavier"] < 0.9).all(),
            f"Within 0.1 of 0 or 1 are {each(ends['Xavier'])}, within 0.1 of 0.5 "
            f"{each(center['Xavier'])} of them. That counts how units differ; over the inputs a "
            f"unit of layer 5 has a standard deviation of {differ['Xavier']} ({differ['std=1']} "
            "with std 1).",
        ),
    ]


def of_tanh(results: Results, engine: str) -> tuple[str, bool, str]:
    offset = {}
    for function in ("tanh", "sigmoid"):
        mean, std = (
            results.curve(f"{function}-Xavier", engine, f"activation/{what}")
            for what in ("mean", "std")
        )
        offset[function] = np.abs(mean) / std
    return (
        "with Xavier's weights tanh's activations are symmetric about 0 where sigmoid's are not",
        (offset["tanh"] < 0.1).all() and (offset["sigmoid"] > 1).all(),
        f"The mean is off 0 by {each(offset['tanh'])} standard deviations with tanh, by "
        f"{each(offset['sigmoid'])} with sigmoid, in layers 1 to 5.",
    )


def of_relu(results: Results, engine: str) -> list[tuple[str, bool, str]]:
    curves = {s: results.curve(f"relu-{s}", engine, "activation/std") for s in SCHEMES}
    factor = {s: curve[:, -1] / curve[:, 0] for s, curve in curves.items()}
    return [
        (
            "with He's weights the spread of ReLU's activations stays level over the layers",
            (factor["He"] > 0.5).all() and (factor["He"] < 2).all(),
            "From layer 1 to layer 5 their standard deviation changes by a factor of "
            f"{spread(factor['He'])}.",
        ),
        (
            "with std 0.01 and with Xavier's weights the spread of ReLU's activations fades",
            all((factor[s] < 0.5).all() for s in ("std=0.01", "Xavier")),
            "From layer 1 to layer 5 their standard deviation changes by a factor of "
            f"{spread(factor['std=0.01'])} with std 0.01, {spread(factor['Xavier'])} with Xavier.",
        ),
    ]


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


def each(curve: np.ndarray) -> str:
    """The value of each layer, the mean over the seeds."""
    return ", ".join(f"{value:.2g}" for value in curve.mean(axis=0))


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
    engine = results.engines[-1]
    made = {}
    for function in FUNCTIONS:
        rows = {
            s: list(results.of(f"{function}-{s}")[0][engine]["histograms"].values())
            for s in SCHEMES
        }
        made[f"histograms_{function}"] = histogram_grid(rows, f"Activations of {function}")
    labels = {"std": "activation/std", "gradient": "gradient/norm"}
    for name, tag in labels.items():
        curves = {
            function: {s: results.curve(f"{function}-{s}", engine, tag) for s in SCHEMES}
            for function in FUNCTIONS
        }
        made[name] = over_layers(curves, tag)
    return made
