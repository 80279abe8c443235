"""Whether the engines agree: units of work that measure it, and the verdict."""

from __future__ import annotations

from dataclasses import replace

from .both import Training, batches, engines, fit
from .lockstep import apart
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
    ``apart`` of :func:`fit` over 30 in lockstep."""
    free = replace(training, iterations=100, lockstep=False)
    made = engines(free, settings, seed)
    error = 0.0
    for x, t in batches(free, settings, seed):
        by_torch, by_numpy = made["torch"].step(x, t), made["numpy"].step(x, t)
        error = max(error, abs(by_torch - by_numpy) / abs(by_torch))
    _, locked = fit(replace(training, iterations=30, lockstep=True), settings, seed)
    return {"agreement": {"loss": error, **locked["apart"]}}


def agreement_verdicts(results: Results) -> list[Verdict]:
    """That both engines compute the same, in the words of a verdict."""
    variants = [name for name in results.variants if name.startswith("agreement-")]
    if not variants:
        return []
    found = {name: results.of(name)[0]["agreement"] for name in variants}
    worst = max(found, key=lambda name: found[name]["loss"])
    return [
        Verdict(
            "the engines' losses agree to 1e-9 over the first 100 iterations in float64",
            "both",
            found[worst]["loss"] <= LOSS_BOUND,
            f"Largest relative difference {found[worst]['loss']:.1e} "
            f"({worst.removeprefix('agreement-')}); single steps from the same weights differ "
            f"by at most {max(f['step'] for f in found.values()):.1e} in any weight.",
        )
    ]


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
