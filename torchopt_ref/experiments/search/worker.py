"""The part of a search that one process does.

Several processes may work on one search, on one machine or on many. They do not talk to each other:
all they share is the study, which the storage keeps.
"""

from __future__ import annotations

import math
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import optuna
import psutil
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from ..lab.results import Outcome
from .plan import ATTEMPTS, Ranges, SearchPlan, attempts_by_point, narrowed, settled

BEAT = 30.0
"""Seconds between two signs of life of a trial."""
LOST_AFTER = 300.0
"""Seconds without a sign of life after which a trial counts as lost, on any machine."""
UNSIGNED = 10.0
"""Seconds after which a running trial counts as lost if no worker has signed as its owner."""
POLL = 0.05
"""Seconds to wait when there is no trial to run yet."""


class Worker:
    """Works on the study of a plan: call ``step`` until ``finished``."""

    def __init__(self, plan: SearchPlan, objective: Callable[..., Outcome]) -> None:
        self.plan: SearchPlan = plan
        self.objective: Callable[..., Outcome] = objective
        self.study = plan.open()
        self.owner = {"host": socket.gethostname(), "pid": os.getpid(), "id": uuid.uuid4().hex}

    def settled(self) -> dict[int, FrozenTrial]:
        """The trial that counts for each point that has one."""
        found = attempts_by_point(self.study.get_trials(deepcopy=False)).items()
        counting = {point: settled(tries) for point, tries in found if point < self.plan.total}
        return {point: trial for point, trial in counting.items() if trial is not None}

    def outcomes(self) -> dict[int, Outcome]:
        """The outcome of each point that has one, with its ``params`` and its ``round``."""
        died = {"state": "failed", "failure": f"its process died {ATTEMPTS} times"}
        return {
            point: {
                **trial.user_attrs.get("outcome", died),
                "params": trial.params,
                "round": self.plan.round_of(point) + 1,
            }
            for point, trial in self.settled().items()
        }

    def finished(self) -> bool:
        return len(self.settled()) == self.plan.total

    def ready(self, point: int) -> bool:
        """Whether all earlier rounds are finished: they decide the ranges of this point."""
        start = self.plan.start_of(self.plan.round_of(point))
        return sum(earlier < start for earlier in self.settled()) == start

    def step(self) -> None:
        """Run a trial if there is one to run, else wait a moment."""
        self.requeue_lost()
        trials = self.study.get_trials(deepcopy=False)
        fresh = len(attempts_by_point(trials))
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        if waiting or (fresh < self.plan.total and self.ready(fresh)):
            self.perform(self.study.ask())
        else:
            time.sleep(POLL)

    def perform(self, trial: optuna.Trial) -> None:
        """Run a trial and record what comes of it."""
        point = next(
            point
            for point, tries in attempts_by_point(self.study.get_trials(deepcopy=False)).items()
            if any(each.number == trial.number for each in tries)
        )
        if point >= self.plan.total:
            # Another worker took the last point between our look and our request.
            self.study.tell(trial, state=TrialState.FAIL)
            return
        alive = SignOfLife(trial, self.owner)
        try:
            alive()
            while not self.ready(point):
                self.step()
                alive()
            self.record(trial, self.outcome(trial, point, alive))
        except UpdateFinishedTrialError:
            # Another worker took this trial for lost and repeats its point: that result counts.
            return

    def outcome(self, trial: optuna.Trial, point: int, alive: Callable[[], None]) -> Outcome:
        self.study.sampler = self.plan.sampler_at(point)
        params = {
            name: trial.suggest_float(name, low, high, log=True)
            for name, (low, high) in self.ranges(self.plan.round_of(point)).items()
        }

        def stop(epoch: int, accuracy: float) -> bool:
            alive()
            if self.plan.pruner == "none":
                return False
            trial.report(accuracy, epoch)
            return trial.should_prune()

        try:
            return self.objective(**params, stop=stop)
        except UpdateFinishedTrialError:
            raise
        except (RuntimeError, MemoryError) as error:
            # Raised where memory runs out, on the CPU or on the device.
            return {"state": "failed", "failure": str(error)}

    def ranges(self, number: int) -> Ranges:
        """The ranges of a round: those of the best trials of all earlier rounds."""
        start = self.plan.start_of(number)
        if start == 0:
            return self.plan.ranges
        found = self.settled()
        return narrowed(self.plan.ranges, [found[point] for point in range(start)])

    def record(self, trial: optuna.Trial, outcome: Outcome) -> None:
        trial.set_user_attr("outcome", outcome)
        if outcome["state"] == "complete":
            self.study.tell(trial, outcome["torch"]["numbers"]["validation_accuracy"])
        else:
            state = TrialState.PRUNED if outcome["state"] == "pruned" else TrialState.FAIL
            self.study.tell(trial, state=state)

    def requeue_lost(self) -> None:
        """Put each point whose process died back into the queue.

        If two workers do this at once, both may repeat a point: then the first that finishes
        counts.
        """
        for point, tries in attempts_by_point(self.study.get_trials(deepcopy=False)).items():
            if point >= self.plan.total:
                continue
            if self.lost(tries[-1]):
                try:
                    self.study.tell(tries[-1].number, state=TrialState.FAIL)
                except (ValueError, UpdateFinishedTrialError):
                    continue  # just now it was finished, or put back by another worker
            elif tries[-1].state != TrialState.FAIL or settled(tries):
                continue
            if len(tries) < ATTEMPTS:
                self.study.enqueue_trial({}, user_attrs={"point": point})

    def lost(self, trial: FrozenTrial) -> bool:
        """Whether a trial that is marked as running has no living process."""
        if trial.state != TrialState.RUNNING:
            return False
        owner = trial.user_attrs.get("owner")
        if owner is None:
            assert trial.datetime_start is not None
            return time.time() - trial.datetime_start.timestamp() > UNSIGNED
        if time.time() - owner["alive"] > LOST_AFTER:
            return True
        return owner["host"] == self.owner["host"] and not self.lives(owner)

    def lives(self, owner: Mapping[str, Any]) -> bool:
        """Whether the owner, a process of this machine, is still at work."""
        if owner["pid"] == self.owner["pid"]:
            return owner["id"] == self.owner["id"]
        return psutil.pid_exists(owner["pid"])


class SignOfLife:
    """Called often, it tells the other workers every ``BEAT`` seconds that a trial goes on."""

    def __init__(self, trial: optuna.Trial, owner: Mapping[str, Any]) -> None:
        self.trial = trial
        self.owner: Mapping[str, Any] = owner
        self.latest: float = -math.inf

    def __call__(self) -> None:
        if time.monotonic() - self.latest >= BEAT:
            self.latest = time.monotonic()
            self.trial.set_user_attr("owner", {**self.owner, "alive": time.time()})
