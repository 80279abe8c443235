"""Kinds of trouble from outside: a dead loader, a second owner, a parent that has gone, no room."""

import contextlib
import os
import resource
import signal
import time
from threading import Timer

import psutil
import pytest
import torch

from tests.starter import COMMAND, of_torchrun, wait_for
from tests.train.test_train_processes import workers
from tests.train.training_cases import TINY, last_checkpoint, results
from torchopt_ref.train import Config
from torchopt_ref.train.data import LostWorker
from torchopt_ref.train.data.opening import open_data
from torchopt_ref.train.distributed import Processes

SOON = 60
"""Seconds: what waits for ever, or for torch's 600, takes longer."""
LONG = ["train", *TINY, "--epochs", "500"]


def last_line(starter, log):
    return (starter.folder / log).read_text().splitlines()[-1]


def has_checkpoints(folder):
    return lambda: list(folder.glob("run/checkpoints/step-*.pt"))


def lives(pid):
    """A zombie, which nobody has waited for yet, does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.mark.parametrize(
    ("number", "options", "line"),
    [
        (signal.SIGKILL, [], "which loaded images, ended by SIGKILL"),
        pytest.param(
            *(signal.SIGSEGV, ["--validation", "0"], "which loaded images, ended by SIGSEGV"),
            marks=pytest.mark.slow,
        ),
        (signal.SIGSTOP, ["--timeout", "1"], "no image was loaded in 1 seconds (--timeout)"),
    ],
    ids=["killed", "a fault", "stopped"],
)
def test_a_loader_that_gives_no_more_ends_the_training_and_all_loaders(
    starter, tmp_path, small_mnist, number, options, line
):
    arguments = [*LONG, *small_mnist, "--workers", "2", *options, "--out", str(tmp_path)]
    pid = starter.start([*arguments, "--name", "run"], log := f"loader-{number}")
    wait_for(has_checkpoints(tmp_path))
    loaders = workers(pid)
    os.kill(loaders[0], number)
    assert starter.wait(pid, SOON) == 1
    assert line in last_line(starter, log)
    assert "--resume goes on from the last checkpoint" in last_line(starter, log)
    assert len(loaders) >= 2
    assert not [loader for loader in loaders if lives(loader)]


def test_a_training_that_was_stopped_longer_than_the_timeout_goes_on(
    starter, tmp_path, small_mnist
):
    """By Ctrl-Z, with its loaders: nobody was silent."""
    arguments = [*LONG, *small_mnist, "--workers", "1", "--timeout", "1", "--out", str(tmp_path)]
    pid = starter.start([*arguments, "--name", "run"], "suspended")
    wait_for(has_checkpoints(tmp_path))
    everyone = [pid, *workers(pid)]
    for _ in range(2):  # the training waits for a loader at most moments, not at all
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for each in everyone:
                os.kill(each, number)
            time.sleep(1.1 if number == signal.SIGSTOP else 0.1)
    os.kill(pid, signal.SIGTERM)
    assert starter.wait(pid, SOON) == 143


def test_a_run_that_was_moved_is_not_written_to_where_another_may_be(train, monkeypatch, tmp_path):
    folder = tmp_path / "runs" / "run"
    monkeypatch.setenv("TROUBLE", f"13 {folder}")
    train("--optimizer", "troublemakers:Moving", status=2)
    assert f"the run {folder} was moved or deleted while it was written to" in train.err
    assert os.listdir(folder) == ["lock"]
    assert last_checkpoint(folder.with_name("run-old"))


@pytest.mark.slow
def test_a_loader_that_dies_ends_all_processes(starter, tmp_path, small_mnist):
    """Both halves are seen by default: a loader ends its process, and a process all others."""
    arguments = [*LONG, *small_mnist, "--workers", "1", "--out", str(tmp_path), "--name", "run"]
    pids = starter.start_many(2, arguments, "both")
    wait_for(has_checkpoints(tmp_path))
    os.kill(workers(pids[1])[0], signal.SIGKILL)
    assert [starter.wait(pid, SOON) for pid in pids] == [1, 1]
    assert "which loaded images, ended by SIGKILL" in (starter.folder / "both-1").read_text()


def test_a_loader_whose_death_is_told_late_is_named():
    """Its connection breaks before the system says that it died: that error is on its way then."""

    def lose_a_loader():
        with open_data(Config.of(workers=1), torch.device("cpu"), Processes()) as data:
            next(data.train.epoch())
            (loader,) = data.train.workers
            Timer(0, loader.kill).start()
            raise ConnectionResetError

    for _ in range(6):  # each finds torch's handler of the signal in the way with a chance of 1/3
        with pytest.raises(LostWorker, match="ended by SIGKILL"):
            lose_a_loader()


def test_a_run_has_one_training_at_a_time_and_a_dead_one_does_not_count(
    starter, tmp_path, small_mnist
):
    arguments = [*LONG, *small_mnist, "--workers", "1", "--out", str(tmp_path), "--resume"]
    owner = starter.start([*arguments, "--name", "run"], "owner")
    wait_for(has_checkpoints(tmp_path))
    assert starter.wait(starter.start([*arguments, "--name", "run"], "second")) == 2
    assert f"{tmp_path / 'run'} is in use by process {owner} on" in last_line(starter, "second")
    os.kill(owner, signal.SIGKILL)  # whose workers still live for a moment
    third = starter.start([*arguments, "--name", "run"], "third")
    log = starter.folder / "third"
    wait_for(lambda: log.exists() and "Resuming" in log.read_text())
    os.kill(third, signal.SIGTERM)
    assert starter.wait(third) == 143


IN_TORCHRUNS_PLACE = f"""
import os
orphan = os.fork()
if orphan == 0:
    {COMMAND}
print(orphan, flush=True)
os.wait()
"""


def test_a_process_whose_torchrun_was_killed_saves_and_stops(starter, tmp_path, small_mnist):
    arguments = [*LONG, *small_mnist, "--out", str(tmp_path), "--name", "run"]
    (place,) = of_torchrun(1)
    log = tmp_path / "log"
    job = starter.start(arguments, log, code=IN_TORCHRUNS_PLACE, **place)
    wait_for(has_checkpoints(tmp_path))
    orphan = workers(job)[0]
    try:
        os.kill(job, signal.SIGKILL)
        assert starter.wait(job) == -signal.SIGKILL
        wait_for(lambda: not lives(orphan))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(orphan, signal.SIGKILL)
    assert "torchopt-ref: stopped by SIGTERM; saved in" in log.read_text()


@contextlib.contextmanager
def no_file_above(size):
    """As on a full disk, for everyone who may run the tests."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize(
    ("size", "kept"),
    [(50_000, "results.json"), (10, "")],
    ids=["no weights", "nothing"],
)
def test_a_finished_training_that_cannot_be_saved_tells_its_result_and_is_resumed(
    train, monkeypatch, size, kept
):
    """With room for the result but not for the last weights; with room for neither."""
    whole = train(name="whole")
    monkeypatch.setenv("TROUBLE", f"{size} 12")  # the estimate of the memory makes a step, too
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    with no_file_above(resource.RLIM_INFINITY):
        folder = train("--optimizer", "troublemakers:NoRoom", "--quiet", status=2)
    last = train.err.splitlines()[-1]
    assert last.startswith("torchopt-ref: the training is finished, but not saved: [Errno 27]")
    assert f'"test accuracy": {results(whole)["test accuracy"]}' in last
    assert (folder / "results.json").exists() == bool(kept)
    monkeypatch.setenv("TROUBLE", "")
    train("--resume", tiny=[])
    assert results(folder) == results(whole)
    assert last_checkpoint(folder).name.split("-")[1] == "00000020"


def test_a_signal_that_comes_when_there_is_no_room_does_not_say_saved(train, monkeypatch):
    monkeypatch.setenv("TROUBLE", "10 5 TERM")
    with no_file_above(resource.RLIM_INFINITY):
        train("--optimizer", "troublemakers:NoRoom", "--no-monitor", status=143)
    assert "stopped by SIGTERM; NOT saved ([Errno 27] File too large) in" in train.err


def test_no_room_when_a_run_is_resumed_is_one_line_and_keeps_what_is_there(train):
    folder = train()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with no_file_above(10):
        train("--resume", status=2, tiny=[])
    assert train.err.count("\n") == 1
    assert f"cannot write {folder / 'config.json'}: File too large" in train.err
    before.pop(folder / "lock")
    assert before.items() <= {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}.items()


ON_A_FULL_DISK = f"""
import io, os, sys
os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
if os.environ["PYTHONUNBUFFERED"]:
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), write_through=True)
{COMMAND}
"""


@pytest.mark.parametrize(
    ("options", "unbuffered"), [(["--json-log"], ""), ([], "1")], ids=["JSON", "a table"]
)
def test_a_log_on_a_full_disk_is_one_warning(starter, tmp_path, small_mnist, options, unbuffered):
    """The log is where stdout goes; what is left in its buffer must not fail at exit either."""
    arguments = ["train", *TINY, *small_mnist, *options, "--out", str(tmp_path), "--name", "run"]
    log = tmp_path / "log"
    pid = starter.start(arguments, log, code=ON_A_FULL_DISK, PYTHONUNBUFFERED=unbuffered)
    assert starter.wait(pid) == 0, log.read_text()
    assert log.read_text().count("cannot print any more: No space left on device") == 1
    assert results(tmp_path / "run")["steps"] == 20
