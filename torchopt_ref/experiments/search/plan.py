"""What a search tries, in rounds, and which trial of the study counts for what.

A trial's number, which the storage hands out, says which *point* of the search it is, and the point
says in which round it lies and with which seed it is sampled. So a search by random sampling finds
the same whatever process does what, and however often it is killed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from .storage import open_storage, opening

Ranges = dict[str, tuple[float, float]]

ATTEMPTS = 5
"""So many processes may die at one point before it counts as failed."""


@dataclass(frozen=True)
class Plan:
    """What is searched and where it is kept.

    ``storage`` is a database URL or the path of a journal; ``rounds`` are numbers of points;
    ``ranges`` are those of the first round. ``warmup`` epochs are never pruned.
    """

    storage: str
    name: str
    seed: int
    rounds: tuple[int, ...]
    ranges: Ranges
    sampler: str = "random"
    pruner: str = "none"
    warmup: int = 0

    @property
    def total(self) -> int:
        return sum(self.rounds)

    def round_of(self, point: int) -> int:
        """0 for the first round."""
        return int(np.searchsorted(np.cumsum(self.rounds), point, side="right"))

    def start_of(self, number: int) -> int:
        """The first point of a round."""
        return sum(self.rounds[:number])

    def sampler_at(self, point: int) -> optuna.samplers.BaseSampler:
        (seed,) = np.random.SeedSequence([self.seed, point]).generate_state(1)
        if self.sampler == "tpe":
            return optuna.samplers.TPESampler(seed=int(seed))
        return optuna.samplers.RandomSampler(seed=int(seed))

    def open(self) -> optuna.Study:
        """The study, made if it is not there. Raises ``UserError`` if its storage does not open."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        pruner = optuna.pruners.MedianPruner(n_warmup_steps=self.warmup)
        with opening(self.storage):
            return optuna.create_study(
                storage=open_storage(self.storage),
                study_name=self.name,
                direction="maximize",
                pruner=pruner if self.pruner == "median" else optuna.pruners.NopPruner(),
                load_if_exists=True,
            )

    def forget(self) -> None:
        """Delete the study, if it is there."""
        with opening(self.storage):
            storage = open_storage(self.storage)
            if self.name in optuna.get_all_study_names(storage):
                optuna.delete_study(study_name=self.name, storage=storage)


def attempts_by_point(trials: list[FrozenTrial]) -> dict[int, list[FrozenTrial]]:
    """The trials of each point. A trial that repeats a lost one names its point; the others are
    the points 0, 1, 2 ... in the order of their numbers."""
    found: dict[int, list[FrozenTrial]] = {}
    for trial in trials:
        found.setdefault(trial.user_attrs.get("point", len(found)), []).append(trial)
    return found


def settled(attempts: list[FrozenTrial]) -> FrozenTrial | None:
    """The trial that counts for a point; None if there is none yet."""
    for trial in attempts:
        outcome = trial.user_attrs.get("outcome", {"state": None})
        # One that was lost after its outcome and before its value was recorded has failed, too.
        lost = trial.state == TrialState.FAIL and outcome["state"] != "failed"
        if trial.state.is_finished() and not lost:
            return trial
    given_up = len(attempts) >= ATTEMPTS and all(trial.state.is_finished() for trial in attempts)
    return attempts[-1] if given_up else None


def narrowed(ranges: Ranges, trials: list[FrozenTrial]) -> Ranges:
    """The ranges of the best quarter of the complete trials (at least of two).

    Of equally good trials the earlier is the better one.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if len(complete) < 2:
        return ranges
    complete.sort(key=lambda trial: -(trial.value or 0))
    best = complete[: max(2, math.ceil(len(complete) / 4))]
    values = {name: [trial.params[name] for trial in best] for name in ranges}
    return {name: (min(found), max(found)) for name, found in values.items()}


def importance(
    params: list[dict[str, float]], accuracies: list[float], ranges: Ranges
) -> dict[str, float]:
    """Each hyper-parameter's share in what the best tenth has in common (PED-ANOVA).

    The trials are to be spread evenly over the ``ranges``. Source: Watanabe, Bansal, Hutter,
    "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces",
    arXiv:2304.10255.
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
