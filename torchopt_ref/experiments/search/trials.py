"""What a search found: its best trials, and the figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from torchopt_ref.errors import UserError

from ..lab.results import Outcome, Results
from ..lab.svg import Figure
from .figures import PARAMS, importances, learning_curves, slices
from .plan import importance

if TYPE_CHECKING:
    from .config import Config

ERRORS = 2
"""Test and validation accuracy agree if so many standard errors of their difference cover it."""


def trials(results: Results) -> list[tuple[str, Outcome]]:
    """Name and outcome of each trial, in order."""
    return [
        (name.removeprefix("trial-"), results.of(name)[0])
        for name in results.variants
        if name != "chosen"
    ]


def accuracy(outcome: Outcome) -> float:
    return outcome["torch"]["numbers"]["validation_accuracy"]


def best_trials(results: Results) -> list[tuple[str, Outcome]]:
    """The complete trials, best first; of equally good ones the earlier first."""
    complete = [trial for trial in trials(results) if trial[1]["state"] == "complete"]
    if not complete:
        why = trials(results)[0][1].get("failure", "all were pruned")
        raise UserError(f"no trial was completed ({why}): try a smaller --lr-high")
    return sorted(complete, key=lambda trial: -accuracy(trial[1]))


def standard_errors(results: Results) -> np.ndarray:
    """Of test minus validation accuracy of the chosen setting in each seed, if both are the same
    in truth."""
    validation, tested, validation_images, test_images = (
        results.numbers("chosen", "torch", name)
        for name in ("validation_accuracy", "test_accuracy", "validation_images", "test_images")
    )
    p = (validation + tested) / 2
    return np.sqrt(p * (1 - p) * (1 / validation_images + 1 / test_images))


def figures(results: Results, config: Config) -> dict[str, Figure]:
    best = best_trials(results)
    first = [outcome for _, outcome in best if outcome["round"] == 1]
    made = {
        "best_trials": learning_curves({name: o["torch"]["curves"] for name, o in best[:20]}),
        "slices": slices(
            {name: column(best, name) for name in PARAMS},
            np.array([accuracy(outcome) for _, outcome in best]),
            np.array([outcome["round"] for _, outcome in best]),
        ),
    }
    if len(first) >= 10:
        settings = [outcome["params"] for outcome in first]
        shares = importance(settings, [accuracy(outcome) for outcome in first], config.ranges)
        made["importance"] = importances(shares)
    return made


def column(best: list[tuple[str, Outcome]], name: str) -> np.ndarray:
    return np.array([outcome["params"][name] for _, outcome in best])
