"""What is unlike Linux on macOS and Windows, as far as Linux can play it."""

import errno
import fcntl
import functools
import importlib.util
import multiprocessing.forkserver
import os
import pickle
import runpy
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.train.training_cases import TINY, last_checkpoint, write_small_mnist
from torchopt_ref import cli, written
from torchopt_ref.errors import UserError
from torchopt_ref.experiments import weight_init
from torchopt_ref.experiments.lab import processes
from torchopt_ref.experiments.lab.run import run_experiment
from torchopt_ref.experiments.reports import weight_init as report
from torchopt_ref.tensorboard import run_lock
from torchopt_ref.train import Config
from torchopt_ref.train.checkpoints import Checkpoints
from torchopt_ref.train.data import workers
from torchopt_ref.train.data.opening import open_data
from torchopt_ref.train.distributed import Processes

CPU = torch.device("cpu")


@pytest.fixture
def on_windows(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")


def test_cores_are_counted_where_no_process_is_bound_to_some(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert weight_init.Config().processes == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)  # the system does not say
    assert weight_init.Config().processes == 1


@pytest.fixture
def no_forks(monkeypatch):
    monkeypatch.setattr(processes.multiprocessing, "get_all_start_methods", lambda: ["spawn"])


def test_processes_are_forked_from_a_server_that_imports_what_there_is():
    context = processes.context()
    assert context.get_start_method() == "forkserver"
    preloaded = multiprocessing.forkserver._forkserver._preload_modules
    assert preloaded
    assert all(importlib.util.find_spec(name) for name in preloaded)


def test_processes_are_spawned_where_none_can_be_forked(no_forks):
    assert processes.context().get_start_method() == "spawn"


@pytest.mark.slow
def test_an_experiment_has_its_processes_where_none_can_be_forked(tmp_path, no_forks):
    config = weight_init.Config(iterations=2, jobs=2, seeds=1, sides="torch", out=tmp_path)
    folder = run_experiment(weight_init, report, config)
    assert (folder / "results.json").exists()


TRAIN = """
import multiprocessing, sys
from torchopt_ref.cli import main

multiprocessing.set_forkserver_preload(["torchopt_ref.train.command"])  # once, not in each loader
multiprocessing.set_start_method(sys.argv[1])
sys.exit(main(["train", *sys.argv[2:]]))
"""


@pytest.fixture(scope="module")
def trained(starter, tmp_path_factory):
    """``trained(METHOD)``: the last checkpoint of a training whose loaders are started that way."""
    folder = tmp_path_factory.mktemp("started")
    root = write_small_mnist(folder)

    @functools.cache
    def train(method: str) -> str:
        options = [*TINY, "--no-monitor", "--workers", "1", "--data-root", root, "--name", method]
        log = folder / f"{method}.log"
        pid = starter.start([method, *options, "--out", folder], log, TRAIN)
        assert starter.wait(pid) == 0, log.read_text()
        return last_checkpoint(folder / method).name

    return train


def test_what_a_loader_is_given_can_be_sent_to_a_process_that_is_no_fork():
    for option in (True, False):
        data = open_data(Config.of(model="mlp", augment=option, workers=1), CPU, Processes())
        loader = data.train._loader
        sent = pickle.dumps((loader.dataset, loader.worker_init_fn, loader.collate_fn))
        share = next(iter(loader.sampler))
        for here, there in zip(loader.dataset[share], pickle.loads(sent)[0][share], strict=True):
            assert torch.equal(here, there)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_loaders_may_be_started_in_any_way(trained, method):
    """Forked on Linux before Python 3.14, by a server since then, spawned on macOS and Windows."""
    assert trained(method) == trained("fork")


def test_checkpoints_are_pruned_where_no_folder_can_be_opened(tmp_path, monkeypatch, on_windows):
    def no_folder(path, flags, *rest, really=os.open):
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return really(path, flags, *rest)

    monkeypatch.setattr(os, "open", no_folder)
    checkpoints = Checkpoints(tmp_path / "checkpoints", 2, Processes(), {})
    for step in range(4):
        checkpoints.save({"weight": torch.tensor(step)}, step, best=step == 0)
        assert not checkpoints.failure
    names = sorted(path.name[:13] for path in checkpoints.folder.iterdir())
    assert names == ["best-00000000", "step-00000002", "step-00000003"]


def test_nothing_is_renamed_over_what_is_there(tmp_path, monkeypatch):
    """Windows refuses ``rename`` there; a damaged checkpoint is replaced all the same."""

    def rename(source, target, really=os.rename):
        if os.path.exists(target):
            raise FileExistsError(errno.EEXIST, "File exists", str(target))
        really(source, target)

    monkeypatch.setattr(os, "rename", rename)
    checkpoints = Checkpoints(tmp_path / "checkpoints", 2, Processes(), {})
    checkpoints.save({"weight": torch.tensor(1)}, 1, best=False)
    latest = checkpoints.latest()
    latest.write_bytes(b"damaged")
    checkpoints.save({"weight": torch.tensor(1)}, 1, best=False)
    assert checkpoints.latest() == latest


def test_a_run_is_locked_on_windows(tmp_path, monkeypatch, on_windows):
    """The byte that is locked, which no other process can then read, is behind the owner's name."""
    places = []

    def locking(descriptor, mode, count):
        place = os.lseek(descriptor, 0, os.SEEK_CUR)
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, count, place)
        places.append(place)

    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    monkeypatch.setitem(sys.modules, "fcntl", None)
    locked = runpy.run_path(run_lock.__file__)["locked"]
    pid = os.fork()
    if pid == 0:  # the system would give its own process the lock twice
        try:
            with pytest.raises(UserError, match=f"in use by process {os.getppid()} on "):
                wait_for_lock(tmp_path / "go", locked(tmp_path))
            os._exit(0)
        finally:
            os._exit(1)
    with locked(tmp_path):
        (tmp_path / "go").touch()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with locked(tmp_path):
        assert places[-1] > len((tmp_path / "lock").read_bytes())


def wait_for_lock(sign, lock):
    while not sign.exists():
        pass
    with lock:
        pass


def test_a_reader_that_goes_away_ends_a_command_where_no_pipe_can_be_asked(
    monkeypatch, on_windows, capfd
):
    monkeypatch.delattr(cli.select, "poll")

    def broken(name, arguments):
        raise BrokenPipeError

    monkeypatch.setattr(cli, "command", broken)
    assert cli.main(["list"]) == 141
    assert capfd.readouterr().err == ""


def test_a_dead_loader_is_no_signal_on_windows(monkeypatch, on_windows):
    monkeypatch.delattr(signal, "SIGCHLD")
    with workers.without_errors_of_torch():
        pass


def test_commands_are_pasted_into_the_shell_that_is_there(on_windows):
    command = written.pasted("inspect", Path("my runs") / "a&b")
    assert command == 'torchopt-ref inspect "my runs/a&b"'
