"""One worker's share in a study: lost, failed and repeated trials."""

import os
import time

import pytest
from optuna.trial import TrialState

from tests.experiments.search.cases import RANGES, finish, plan_in, worth
from torchopt_ref.experiments.search.plan import ATTEMPTS, settled
from torchopt_ref.experiments.search.worker import LOST_AFTER, Worker


def test_a_trial_whose_process_died_is_repeated_with_the_same_parameters(tmp_path, dead):
    calm = Worker(plan_in(tmp_path / "calm"), worth)
    finish(calm)
    worker = Worker(plan_in(tmp_path), worth)
    worker.step()
    lost = worker.study.ask()
    lost.set_user_attr("owner", {**worker.owner, "pid": dead, "alive": time.time()})
    finish(worker)
    assert worker.outcomes() == calm.outcomes()
    trials = worker.study.trials
    assert [trial.state for trial in trials].count(TrialState.FAIL) == 1
    assert trials[lost.number].state == TrialState.FAIL
    assert len(trials) == 7


def test_a_trial_is_lost_if_its_owner_shows_no_life(tmp_path, dead):
    worker = Worker(plan_in(tmp_path), worth)
    trial = worker.study.ask()
    now = time.time()

    def lost(**owner):
        trial.set_user_attr("owner", {**worker.owner, "alive": now, **owner})
        return worker.lost(worker.study.trials[-1])

    assert not worker.lost(worker.study.trials[-1])  # it was asked for a moment ago
    assert not lost()
    assert lost(pid=dead)
    assert lost(id="an earlier search of this process")
    assert not lost(pid=os.getppid())
    assert not lost(pid=1)
    assert not lost(host="elsewhere", pid=dead, id="")
    assert lost(host="elsewhere", alive=now - LOST_AFTER - 1)
    assert not lost(host="elsewhere", alive=now - LOST_AFTER + 60)


def test_a_point_at_which_every_process_dies_is_given_up(tmp_path, dead):
    worker = Worker(plan_in(tmp_path, rounds=(2,)), worth)
    for _ in range(ATTEMPTS):
        trial = worker.study.ask()
        trial.set_user_attr("owner", {**worker.owner, "pid": dead, "alive": time.time()})
        worker.requeue_lost()
    finish(worker)
    first, second = worker.outcomes().values()
    assert first["state"] == "failed"
    assert first["failure"] == f"its process died {ATTEMPTS} times"
    assert second["state"] == "complete"


def test_a_process_that_dies_between_its_two_steps_of_putting_back_loses_nothing(tmp_path):
    worker = Worker(plan_in(tmp_path), worth)
    worker.study.tell(worker.study.ask(), state=TrialState.FAIL)
    finish(worker)
    assert [outcome["state"] for outcome in worker.outcomes().values()] == ["complete"] * 6


def test_a_trial_that_others_gave_up_and_repeat_does_not_count(tmp_path):
    def objective(lr, weight_decay, stop):
        if worker.study.trials[0].state == TrialState.RUNNING:
            other.study.tell(0, state=TrialState.FAIL)
            other.requeue_lost()
        return worth(lr, weight_decay, stop)

    worker, other = (Worker(plan_in(tmp_path), objective) for _ in range(2))
    finish(worker)
    assert len(worker.study.trials) == 7
    assert settled([worker.study.trials[0]]) is None
    assert worker.outcomes()[0]["state"] == "complete"


def test_a_trial_that_was_killed_before_its_value_was_told_does_not_count(tmp_path, dead):
    worker = Worker(plan_in(tmp_path), worth)
    trial = worker.study.ask()
    trial.set_user_attr("outcome", worth(1.0, 1.0, None))
    assert worker.settled() == {}
    trial.set_user_attr("owner", {**worker.owner, "pid": dead, "alive": time.time()})
    worker.requeue_lost()
    assert [trial.state for trial in worker.study.trials] == [TrialState.FAIL, TrialState.WAITING]
    calm = Worker(plan_in(tmp_path / "calm"), worth)
    finish(worker)
    finish(calm)
    assert worker.outcomes() == calm.outcomes()


def test_failures_are_recorded_and_the_search_goes_on(tmp_path):
    errors = iter([RuntimeError("CUDA out of memory"), MemoryError("no room"), None, None, None])

    def objective(lr, weight_decay, stop):
        error = next(errors)
        if error:
            raise error
        return worth(lr, weight_decay, stop)

    worker = Worker(plan_in(tmp_path, rounds=(3, 2)), objective)
    finish(worker)
    found = list(worker.outcomes().values())
    assert [outcome.get("failure") for outcome in found[:2]] == ["CUDA out of memory", "no room"]
    assert [outcome["state"] for outcome in found] == ["failed"] * 2 + ["complete"] * 3
    assert [trial.state for trial in worker.study.trials[:2]] == [TrialState.FAIL] * 2
    # One complete trial is too few to narrow the ranges.
    assert worker.ranges(1) == RANGES


def test_a_mistake_in_the_objective_is_not_taken_for_a_failed_trial(tmp_path):
    def objective(lr, weight_decay, stop):
        return {}["missing"]

    with pytest.raises(KeyError):
        finish(Worker(plan_in(tmp_path), objective))


def test_workers_that_take_a_point_too_many_leave_it(tmp_path):
    worker = Worker(plan_in(tmp_path), worth)
    finish(worker)
    worker.perform(worker.study.ask())
    assert worker.study.trials[-1].state == TrialState.FAIL
    assert sorted(worker.outcomes()) == list(range(6))
    worker.requeue_lost()
    assert len(worker.study.trials) == 7


def test_a_worker_that_is_ahead_of_its_round_repeats_lost_trials_meanwhile(tmp_path, dead):
    worker = Worker(plan_in(tmp_path), worth)
    for _ in range(3):
        worker.step()
    lost, ahead = worker.study.ask(), worker.study.ask()
    lost.set_user_attr("owner", {**worker.owner, "pid": dead, "alive": time.time()})
    worker.perform(ahead)
    calm = Worker(plan_in(tmp_path / "calm"), worth)
    finish(worker)
    finish(calm)
    assert worker.outcomes() == calm.outcomes()
