"""The processes of a search: what they find together, and what survives their death."""

import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from optuna.trial import TrialState

from tests.experiments.search.cases import (
    TINY,
    found,
    journal_plan,
    plan_in,
    run_search,
    trials_of,
    without_curves,
)
from tests.starter import wait_for
from tests.thinned import only
from torchopt_ref.errors import UserError
from torchopt_ref.experiments.search import study
from torchopt_ref.experiments.search.worker import Worker

FOUND = """
import json, multiprocessing, sys
from pathlib import Path
from tests.experiments.search.cases import TINY, found, without_curves
from torchopt_ref.experiments.search import study

method, folder = sys.argv[1:]
study.context = lambda: multiprocessing.get_context(method)
outcomes = without_curves(found(TINY, Path(folder, "two"), workers=2))
Path(folder, "found.json").write_text(json.dumps(outcomes))
"""


# The server that forks the workers imports torch first, which takes most of the time.
@pytest.mark.parametrize("method", only(["fork"], ["fork", "forkserver"]))
def test_the_same_options_find_the_same_with_one_worker_or_two(method, searched, starter, tmp_path):
    log = tmp_path / "log"
    assert starter.wait(starter.start([method, tmp_path], log, FOUND)) == 0, log.read_text()
    assert json.loads((tmp_path / "found.json").read_text()) == trials_of(searched)


# tests/experiments/search/test_worker.py has what a dead process leaves, of each kind.
@pytest.mark.slow
def test_a_killed_search_goes_on_and_finds_what_an_undisturbed_one_finds(starter, tmp_path):
    config = replace(TINY, epochs=40, trials=8, rounds=2, workers=2, out=tmp_path / "killed")
    code = (
        "from pathlib import *; from torchopt_ref.experiments import search; "
        "from torchopt_ref.experiments.lab.run import run_experiment; "
        "from torchopt_ref.experiments.reports import search as report; "
        "from torchopt_ref.experiments.search import Config; "
        f"run_experiment(search, report, {config!r})"
    )
    process = starter.start([], tmp_path / "log", code=code)
    plan = journal_plan(config)
    # Not by ``open``: a reader of its own must not make the study before the search does.
    journal = Path(plan.storage)
    wait_for(
        lambda: journal.exists() and journal.read_text(encoding="utf-8").count('"outcome"') >= 3
    )
    os.kill(process, signal.SIGKILL)
    assert starter.wait(process) == -signal.SIGKILL
    worker = Worker(plan, None)
    owners = {t.user_attrs["owner"]["pid"] for t in worker.study.trials if "owner" in t.user_attrs}
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in owners))
    before = worker.outcomes()
    assert 3 <= len(before) < 12

    folder = run_search(replace(config, workers=1))
    assert trials_of(folder) == without_curves(found(config, tmp_path / "undisturbed"))
    numbers = [trial.number for trial in worker.settled().values()]
    after = worker.outcomes()
    assert {point: after[point] for point in before} == before
    assert len(numbers) == 12
    # A worker may have left one trial behind, which was repeated; no trial is left running.
    states = [trial.state for trial in worker.study.trials]
    assert 12 <= len(states) <= 14
    assert states.count(TrialState.COMPLETE) == 12
    assert states.count(TrialState.FAIL) == len(states) - 12


class Killing:
    """An objective that kills its process."""

    def __call__(self, lr, weight_decay, stop):
        os.kill(os.getpid(), signal.SIGKILL)


def test_the_death_of_all_workers_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "context", lambda: multiprocessing.get_context("fork"))
    plan = plan_in(tmp_path, rounds=(3,))
    with pytest.raises(UserError, match=r"exit statuses -9, -9.*--workers"):
        list(study.run_study(plan, Killing(), 2))
