"""The processes of a search: what they find together, and what survives their death."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from optuna.trial import TrialState

from tests.experiments.search_cases import (
    TINY,
    found,
    journal_plan,
    plan_in,
    trials_of,
    without_curves,
)
from torchopt_ref.errors import UserError
from torchopt_ref.experiments import laboratory, search
from torchopt_ref.experiments.search_worker import Worker
from torchopt_ref.experiments.search_workers import run_study


def test_the_same_options_find_the_same_with_one_worker_or_two(searched, tmp_path):
    assert without_curves(found(TINY, tmp_path / "two", workers=2)) == trials_of(searched)


def test_a_killed_search_goes_on_and_finds_what_an_undisturbed_one_finds(tmp_path):
    config = replace(TINY, epochs=40, trials=8, rounds=2, workers=2, out=tmp_path / "killed")
    code = "from pathlib import *; from torchopt_ref.experiments import laboratory, search; "
    code += (
        f"from torchopt_ref.experiments.search import Config; laboratory.run(search, {config!r})"
    )
    script = tmp_path / "script.py"
    script.write_text(f"if __name__ == '__main__':\n    {code}\n")
    process = subprocess.Popen([sys.executable, script], stderr=subprocess.DEVNULL)
    plan = journal_plan(config)
    while True:
        assert process.poll() is None
        time.sleep(0.02)
        if Path(plan.storage).exists():
            # Not by ``open``: a reader of its own must not make the study before the search does.
            done = Path(plan.storage).read_text(encoding="utf-8").count('"outcome"')
            if done >= 3:
                break
    process.send_signal(signal.SIGKILL)
    process.wait()
    worker = Worker(plan, None)
    owners = {t.user_attrs["owner"]["pid"] for t in worker.study.trials if "owner" in t.user_attrs}
    deadline = time.monotonic() + 20
    while any(psutil.pid_exists(pid) for pid in owners):
        assert time.monotonic() < deadline, "the workers outlive their parent"
        time.sleep(0.05)
    before = worker.outcomes()
    assert 3 <= len(before) < 12

    folder = laboratory.run(search, replace(config, workers=1))
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


def test_the_death_of_all_workers_is_reported(tmp_path):
    plan = plan_in(tmp_path, rounds=(3,))
    with pytest.raises(UserError, match=r"exit statuses -9, -9.*--workers"):
        list(run_study(plan, Killing(), 2))
