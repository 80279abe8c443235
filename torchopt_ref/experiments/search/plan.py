"""What a search tries, in rounds, and which trial of the study counts for each point.

A search consists of numbered *points*; a point's number decides its round and the seed by which its
hyper-parameters are sampled. A point is tried once, and again where the process that tried it died;
each attempt is a trial of the study. So a search by random sampling finds the same however its
points are shared among processes, and however often it is killed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from ..lab.words import Words
from .storage import open_storage, opening

PARAMS = {
    "lr": Words("learning rate", "学习率"),
    "weight_decay": Words("weight decay", "权值衰减系数"),
}
"""The hyper-parameters that are searched, and what reports call them."""
Ranges = dict[str, tuple[float, float]]

ATTEMPTS = 5
"""A point at which this many processes have died counts as failed."""


@dataclass(frozen=True)
class SearchPlan:
    """What is searched and where it is kept.

    ``storage`` is a database URL or the path of a journal; ``rounds`` has the number of points of
    each round; the first round samples from ``ranges``. No trial is pruned before the end
    of its epoch ``warmup``.
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
        """The number of a point's round, counted from 0."""
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
    """The trials of each point, in the order of their numbers.

    A trial that repeats a point has it as its attribute ``point``. The others are the first trials
    of the points 0, 1, 2 ... in this order.
    """
    found: dict[int, list[FrozenTrial]] = {}
    for trial in trials:
        found.setdefault(trial.user_attrs.get("point", len(found)), []).append(trial)
    return found


def settled(attempts: list[FrozenTrial]) -> FrozenTrial | None:
    """The trial that counts for a point; None if there is none yet."""
    for trial in attempts:
        outcome = trial.user_attrs.get("outcome", {"state": None})
        # A process may die after it has written the outcome and before the trial's value. Then
        # another one marks the trial as failed, though its outcome is no failure: try again.
        lost = trial.state == TrialState.FAIL and outcome["state"] != "failed"
        if trial.state.is_finished() and not lost:
            return trial
    given_up = len(attempts) >= ATTEMPTS and all(trial.state.is_finished() for trial in attempts)
    return attempts[-1] if given_up else None


def narrowed(ranges: Ranges, trials: list[FrozenTrial]) -> Ranges:
    """The ranges that the best complete trials cover: a quarter of them, but at least two.

    Of equally good trials the earlier counts as better.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if len(complete) < 2:
        return ranges
    complete.sort(key=lambda trial: -(trial.value or 0))
    best = complete[: max(2, math.ceil(len(complete) / 4))]
    values = {name: [trial.params[name] for trial in best] for name in ranges}
    return {name: (min(found), max(found)) for name, found in values.items()}
