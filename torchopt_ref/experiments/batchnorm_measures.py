"""What batch normalisation is judged by: the trainings compared, the measures."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from numpy_ref.network import Normalised

from .results import Results

PLACES: dict[str, Normalised] = {"none": False, "before": "before", "after": "after"}
SCALES = {f"scale-{scale:.3g}": float(scale) for scale in np.logspace(0, -4, 16)}
RATES = {f"lr-{rate:.3g}": float(rate) for rate in np.logspace(-2, 1, 5)}
LEARNT, WELL = 0.5, 0.8
"""Training accuracies at which a network has learnt something, and has learnt well."""
MEASURES = ("epochs", "largest lr", "scales learnt", "range over scales", "gap")


def ends(results: Results, place: str, engine: str, tag: str, names: Iterable[str]) -> np.ndarray:
    """A number of each named training, of shape (seeds, names)."""
    return np.stack([results.numbers(place, engine, f"{tag}/{name}") for name in names], axis=1)


def measures(results: Results, engine: str) -> dict[str, dict[str, np.ndarray]]:
    """For each of ``MEASURES`` and each place, a value for each seed."""
    by_rate = {p: ends(results, p, engine, "train_accuracy", RATES) for p in PLACES}
    both_well = (by_rate["none"] >= WELL) & (by_rate["before"] >= WELL)
    found: dict[str, dict[str, np.ndarray]] = {name: {} for name in MEASURES}
    for place in PLACES:
        well = results.curve(place, engine, "accuracy/train/lr-0.01") >= WELL
        by_scale = ends(results, place, engine, "train_accuracy", SCALES)
        gap = by_rate[place] - ends(results, place, engine, "test_accuracy", RATES)
        # A column behind the last epoch is where a network ends up that never learns well.
        found["epochs"][place] = np.pad(well, ((0, 0), (0, 1)), constant_values=True).argmax(1) + 1
        found["largest lr"][place] = ((by_rate[place] > LEARNT) * [*RATES.values()]).max(axis=1)
        found["scales learnt"][place] = (by_scale > LEARNT).sum(axis=1)
        found["range over scales"][place] = np.ptp(by_scale, axis=1)
        found["gap"][place] = np.ma.array(gap, mask=~both_well).mean(axis=1).filled(np.nan)
    return found
