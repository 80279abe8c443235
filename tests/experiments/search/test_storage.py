"""Where a study is kept, and that a killed process does not damage it."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.experiments.search.cases import (
    TINY,
    finish,
    journal_plan,
    plan_in,
    results_of,
    run_search,
    worth,
)
from torchopt_ref.errors import UserError
from torchopt_ref.experiments.search.worker import Worker


def test_two_machines_share_one_study(searched, tmp_path):
    """The first one's is that of ``searched``."""
    storage = tmp_path / "journal"
    shutil.copy(searched / "study.journal", storage)
    second = run_search(replace(TINY, storage=str(storage), out=tmp_path))
    assert results_of(second) == results_of(searched)
    assert len(replace(journal_plan(TINY), storage=str(storage)).open().trials) == 24
    assert len(list((second / "trials").iterdir())) == 24
    assert not (second / "study.journal").exists()


def test_a_database_serves_as_well(tmp_path):
    storage = f"sqlite:///{tmp_path}/study.db"
    workers = [Worker(plan_in(tmp_path, storage=storage), worth) for _ in range(2)]
    while not workers[0].finished():
        for worker in workers:
            worker.step()
    in_journal = Worker(plan_in(tmp_path), worth)
    finish(in_journal)
    assert workers[1].outcomes() == in_journal.outcomes()


@pytest.mark.parametrize("storage", ["no://where", "/proc/nothing/journal"])
def test_a_storage_that_does_not_open_is_a_users_error(tmp_path, storage):
    with pytest.raises(UserError, match=r"cannot open the study in .*--storage"):
        run_search(replace(TINY, storage=storage, out=tmp_path))


def test_a_line_cut_off_by_a_kill_does_not_spoil_the_journal(tmp_path):
    plan = plan_in(tmp_path)
    worker = Worker(plan, worth)
    worker.step()
    journal = Path(plan.storage)
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":5,"work')
    again = Worker(plan, worth)
    assert journal.read_bytes().startswith(whole + b'{"op_code":0,')
    finish(again)
    assert sorted(again.outcomes()) == list(range(6))
