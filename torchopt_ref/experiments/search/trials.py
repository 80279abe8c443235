"""What a search found: its best trials, and figures of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution

from torchopt_ref.errors import UserError

from ..lab.charts import Bars, Lines, Points
from ..lab.panels import ACCURACY, EPOCH, TRAINING, curves
from ..lab.results import Outcome, Results
from ..lab.svg import HALF, NOTHING, Axis, Figure
from ..lab.words import Words, percent
from .config import Config
from .plan import PARAMS, Ranges


def trials(results: Results) -> list[tuple[str, Outcome]]:
    """The name and the outcome of each trial, in the order of their points."""
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


def figures(results: Results, config: Config) -> dict[str, Figure]:
    best = best_trials(results)
    first = [outcome for _, outcome in best if outcome["round"] == 1]
    made = {
        "best_trials": learning_curves({name: o["torch"]["curves"] for name, o in best[:20]}),
        "slices": slices_figure(
            {name: column(best, name) for name in PARAMS},
            np.array([accuracy(outcome) for _, outcome in best]),
            np.array([outcome["round"] for _, outcome in best]),
        ),
    }
    if len(first) >= 10:
        settings = [outcome["params"] for outcome in first]
        shares = importance(settings, [accuracy(outcome) for outcome in first], config.ranges)
        made["importance"] = importance_figure(shares)
    return made


VALIDATION = Words("validation", "验证数据")


def learning_curves(trials: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """A panel for each named trial: its accuracy per epoch on training and validation images."""
    panels = [
        Lines(
            Words(f"trial {name}", f"试验 {name}"),
            EPOCH,
            ACCURACY,
            curves(
                {
                    VALIDATION: np.array([found["accuracy/validation"]], dtype=float),
                    TRAINING: np.array([found["accuracy/train"]], dtype=float),
                }
            ),
            size=HALF,
        )
        for name, found in trials.items()
    ]
    return Figure(
        Words(f"The {len(trials)} best trials", f"最好的 {len(trials)} 次试验"),
        panels,
        Words(
            "Best first, by the last accuracy on the validation images.",
            "按最后在验证数据上的识别精度从高到低排列。",
        ),
        [curve.key for curve in panels[0].curves],
    )


def slices_figure(
    settings: Mapping[str, np.ndarray], values: np.ndarray, rounds: np.ndarray
) -> Figure:
    """The validation accuracy over each hyper-parameter, with a sign for each round."""
    y = ACCURACY._replace(name=Words("validation accuracy", "验证数据的识别精度"))
    panels = [
        Points(
            PARAMS[name],
            Axis(PARAMS[name], log=True),
            y,
            {
                Words(f"round {number}", f"第 {number} 轮"): (
                    chosen[rounds == number],
                    values[rounds == number],
                )
                for number in np.unique(rounds)
            },
        )
        for name, chosen in settings.items()
    ]
    return Figure(
        Words("What each hyper-parameter does", "每个超参数的影响"),
        panels,
        Words(
            "Each sign is a trial. Later rounds search in the ranges of the best so far.",
            "每个点是一次试验，后面的轮次在目前最好的范围内搜索。",
        ),
        panels[0].keys,
    )


def column(best: list[tuple[str, Outcome]], name: str) -> np.ndarray:
    return np.array([outcome["params"][name] for _, outcome in best])


def importance_figure(shares: Mapping[str, Any]) -> Figure:
    """A bar for each hyper-parameter's share."""
    bars = Bars(
        NOTHING,
        [PARAMS[name] for name in shares],
        Axis(Words("hyper-parameter", "超参数")),
        Axis(
            Words("share of the differences it explains", "对差异的贡献"),
            limits=(0.0, 1.1),
            write=percent,
            ticks=(0, 0.5, 1),
        ),
        {Words("share", "贡献"): list(shares.values())},
    )
    return Figure(
        Words("Which hyper-parameter matters", "哪个超参数更重要"),
        [bars],
        Words("Of the first, random round; by PED-ANOVA.", "由第一轮随机搜索按 PED-ANOVA 计算。"),
    )


def importance(
    params: list[dict[str, float]], accuracies: list[float], ranges: Ranges
) -> dict[str, float]:
    """How much each hyper-parameter decides whether a trial is among the best tenth (PED-ANOVA).

    The shares add up to 1. The trials must have been sampled log-uniformly from the ``ranges``.
    Source: Watanabe, Bansal, Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance
    in Arbitrary Subspaces", arXiv:2304.10255.
    """
    distributions: dict[str, BaseDistribution] = {
        name: FloatDistribution(low, high, log=True) for name, (low, high) in ranges.items()
    }
    study = optuna.create_study(direction="maximize")
    for setting, accuracy in zip(params, accuracies, strict=True):
        study.add_trial(
            optuna.trial.create_trial(params=setting, distributions=distributions, value=accuracy)
        )
    return optuna.importance.get_param_importances(study)
