"""Whether the engines agree: units of work that measure it, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from .both import Training, batches, engines, fit
from .lockstep import apart, step_bound
from .results import Outcome, Results, Unit, Verdict
from .settings import Settings

LOSS_BOUND = 1e-9
"""The largest relative difference of the engines' losses in the first 100 float64 iterations."""


def agreement_units(trainings: dict[str, Training], settings: Settings) -> list[Unit]:
    """A unit for each training that measures how far the two engines are apart in float64."""
    if len(settings.engine_names) < 2:
        return []
    if settings.quick:
        trainings = dict(list(trainings.items())[:1])
    exact = replace(settings, dtype="float64", device="cpu")
    seed = settings.seed
    return [
        Unit(
            f"agreement-{variant}",
            seed,
            agreement,
            {"training": training, "settings": exact, "seed": seed},
        )
        for variant, training in trainings.items()
    ]


def agreement(training: Training, settings: Settings, seed: int) -> Outcome:
    """How far the engines are apart: in ``loss`` (relative) over 100 free iterations, and as
    ``apart`` of :func:`fit` over 30 in lockstep, with the ``bound`` of ``step ULP``."""
    free = replace(training, iterations=100, lockstep=False)
    made = engines(free, settings, seed)
    error = 0.0
    for x, t in batches(free, settings, seed):
        by_torch, by_numpy = made["torch"].step(x, t), made["numpy"].step(x, t)
        error = max(error, abs(by_torch - by_numpy) / abs(by_torch))
    _, locked = fit(replace(training, iterations=30, lockstep=True), settings, seed)
    bound = step_bound(training.optimizer)
    return {"agreement": {"loss": error, **locked["apart"], "bound": bound}}


def agreement_verdicts(results: Results) -> list[Verdict]:
    """That both engines compute the same, in the words of a verdict."""
    variants = [name for name in results.variants if name.startswith("agreement-")]
    if not variants:
        return []
    found = {name.removeprefix("agreement-"): results.of(name)[0]["agreement"] for name in variants}
    farthest = max(found, key=lambda name: found[name]["loss"])
    return [
        Verdict(
            "the engines' losses agree to 1e-9 over the first 100 iterations in float64",
            "both",
            found[farthest]["loss"] <= LOSS_BOUND,
            f"Largest relative difference {found[farthest]['loss']:.1e} ({farthest}).",
        ),
        steps_verdict("the first 30 steps", found),
    ]


def lockstep_verdicts(results: Results, optimizers: Sequence[str]) -> list[Verdict]:
    """The verdict on whole float64 trainings in lockstep, whose variants are the optimizers."""
    found = {
        name: {
            "bound": step_bound(name),
            **{key: worst(results, name, key) for key in ("step ULP", "step")},
        }
        for name in optimizers
    }
    return [steps_verdict("all steps of the trainings", found)]


def steps_verdict(steps: str, found: Mapping[str, Mapping[str, float]]) -> Verdict:
    """Whether each training's ``step ULP`` is within its ``bound``; ``step`` is the same absolute.

    The evidence names, of the trainings with the same bound, the one that is farthest apart.
    """
    farthest: dict[float, str] = {}
    for name in sorted(found, key=lambda name: found[name]["step ULP"]):
        farthest[found[name]["bound"]] = name
    evidence = ", ".join(
        f"{name} {found[name]['step ULP']:.4g} of at most {bound:.0f} ({found[name]['step']:.1e})"
        for bound, name in sorted(farthest.items())
    )
    return Verdict(
        f"{steps}, each from the same weights, agree to the stated ULP in float64",
        "both",
        all(part["step ULP"] <= part["bound"] for part in found.values()),
        f"Largest difference, in the last place of the largest weight of a layer: {evidence}.",
    )


def apart_columns(results: Results, optimizer: str) -> dict[str, str]:
    """The columns of a table on how far apart the engines are, the largest over the seeds.

    ``within`` is the part of the steps within the bound, which is one of float64.
    """
    found = results.of(optimizer)[0].get("apart", {})
    columns = {
        f"apart, {key}": f"{worst(results, optimizer, key):.0e}"
        for key in ("first 100", "ever")
        if key in found
    }
    if "step ULP" in found:
        bound = step_bound(optimizer)
        ulps = results.curve(optimizer, "numpy", "lockstep/max_ulp")
        columns |= {
            "step": f"{worst(results, optimizer, 'step'):.0e}",
            "step ULP": f"{worst(results, optimizer, 'step ULP'):.4g}",
            "bound": f"{bound:.0f}",
            "within": f"{(ulps <= bound).mean():.2%}",
        }
    return columns


def worst(results: Results, variant: str, key: str) -> float:
    """The largest value over the seeds of an entry of ``apart``."""
    return float(np.max([outcome["apart"][key] for outcome in results.of(variant)]))


def compare(forms: tuple[Training, Training], settings: Settings, seed: int, every: int) -> Outcome:
    """Train in two forms on the same mini-batches: how far their weights are apart.

    For each engine the curve ``weights/difference``, with a point for ``every`` so many
    iterations, and the number ``difference``, the largest of it. The losses are not compared: two
    forms of one update may count different penalties in them.
    """
    first, second = (engines(training, settings, seed) for training in forms)
    curves: dict[str, list] = {key: [] for key in first}
    for iteration, (x, t) in enumerate(batches(forms[0], settings, seed), start=1):
        for key in first:
            first[key].step(x, t)
            second[key].step(x, t)
            if iteration % every == 0:
                _, distance = apart(first[key].weights(), second[key].weights())
                curves[key].append([iteration, distance])
    return {
        key: {
            "curves": {"weights/difference": curve},
            "numbers": {"difference": max(distance for _, distance in curve)},
            "seconds": first[key].seconds + second[key].seconds,
        }
        for key, curve in curves.items()
    }
