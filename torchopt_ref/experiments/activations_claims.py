"""What is claimed of sigmoid, tanh and ReLU: each claim, whether it holds, and the evidence."""

from __future__ import annotations

import numpy as np

from .results import Results, spread

SCHEMES: dict[str, str | float] = {"std=1": 1.0, "std=0.01": 0.01, "Xavier": "xavier", "He": "he"}
"""The kinds of initial weights."""


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


def each(curve: np.ndarray) -> str:
    """The value of each layer, the mean over the seeds."""
    return ", ".join(f"{value:.2g}" for value in curve.mean(axis=0))
