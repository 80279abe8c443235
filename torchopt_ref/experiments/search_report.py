"""What a search found: its verdicts, table and figures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from torchopt_ref.errors import UserError

from .results import Outcome, Results, Verdict, spread
from .search_figures import importances, learning_curves, slices
from .search_plan import importance
from .svg import Figure

if TYPE_CHECKING:
    from .search import Config

PARAMS = {"lr": "learning rate", "weight_decay": "weight decay"}
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


def verdicts(results: Results, config: Config) -> list[Verdict]:
    by_round: dict[int, list[float]] = {}
    for _, outcome in sorted(best_trials(results), key=lambda trial: trial[1]["round"]):
        by_round.setdefault(outcome["round"], []).append(accuracy(outcome))
    found = []
    if 1 in by_round and len(by_round) > 1:
        later = max(max(values) for number, values in by_round.items() if number > 1)
        found.append(
            Verdict(
                "narrowing the ranges finds a better validation accuracy than the first round",
                "torch",
                later > max(by_round[1]),
                "Best of each round: "
                + ", ".join(
                    f"{number}: {max(values):.4g} (mean {np.mean(values):.4g}, "
                    f"{len(values)} trials)"
                    for number, values in by_round.items()
                )
                + ".",
            )
        )
    validation, tested = (
        results.numbers("chosen", "torch", f"{part}_accuracy") for part in ("validation", "test")
    )
    pairs = zip(results.of("chosen"), validation, tested, strict=True)
    bounds = [standard_error(outcome["torch"]["numbers"], (v + t) / 2) for outcome, v, t in pairs]
    settings = ", ".join(
        f"{label} {results.of('chosen')[0]['params'][name]:.3g}" for name, label in PARAMS.items()
    )
    found.append(
        Verdict(
            f"the test accuracy of the chosen setting is within {ERRORS} standard errors of its "
            "validation accuracy",
            "torch",
            bool((np.abs(tested - validation) <= ERRORS * np.array(bounds)).all()),
            f"{settings[0].upper()}{settings[1:]}: test {spread(tested)}, validation "
            f"{spread(validation)}; {ERRORS} standard errors are {ERRORS * max(bounds):.2g}.",
        )
    )
    return found


def standard_error(numbers: dict[str, float], p: float) -> float:
    """Of the difference of two fractions, both p in truth, of the validation and test images."""
    return math.sqrt(p * (1 - p) * (1 / numbers["validation_images"] + 1 / numbers["test_images"]))


def table(results: Results, config: Config) -> list[dict[str, str]]:
    """The best ten."""
    return [
        {
            "trial": name,
            "round": str(outcome["round"]),
            **{label: f"{outcome['params'][param]:.3g}" for param, label in PARAMS.items()},
            "validation": f"{accuracy(outcome):.4f}",
            "train": f"{outcome['torch']['numbers']['train_accuracy']:.4f}",
        }
        for name, outcome in best_trials(results)[:10]
    ]


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
