"""Checkpoints: whole or not there, the last ones and the best, damage found out."""

import os
import resource
import signal
import sys

import pytest
import torch

from torchopt_ref.errors import UserError
from torchopt_ref.train.checkpoints import Checkpoints
from torchopt_ref.train.checkpoints.files import digest_of
from torchopt_ref.train.distributed import Processes


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoints", 2, Processes(), {"seed": 0})


def state(number):
    return {"weights": torch.full((100, 100), float(number)), "number": number}


def save(checkpoints, number, step=None, best=False):
    checkpoints.save(state(number), step or number, best)
    return checkpoints.latest()


def numbers(checkpoints, kind):
    files = sorted(checkpoints.folder.glob(f"{kind}-*.pt"))
    return [torch.load(file, weights_only=True)["number"] for file in files]


def test_the_last_ones_and_the_best_are_kept(checkpoints):
    assert checkpoints.latest() is None
    for step in range(5):
        checkpoints.save(state(step), step, best=step in (0, 1))
        assert torch.load(checkpoints.latest(), weights_only=True)["number"] == step
    assert numbers(checkpoints, "step") == [3, 4]
    assert numbers(checkpoints, "best") == [1]
    assert len(list(checkpoints.folder.iterdir())) == 3


def test_equal_states_have_equal_names(checkpoints):
    first = save(checkpoints, 1, step=7)
    assert save(checkpoints, 1, step=7) == first
    assert save(checkpoints, 2, step=7) != first


def test_a_step_has_one(checkpoints):
    checkpoints.save(state(1), 1, best=True)
    checkpoints.save(state(2), 2, best=False)
    checkpoints.save(state(3), 2, best=True)
    assert numbers(checkpoints, "step") == [1, 3]
    assert numbers(checkpoints, "best") == [3]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "unreadable"])
def test_a_damaged_one_is_named_and_the_one_before_is_taken(checkpoints, damage, capsys):
    good, bad = (save(checkpoints, step) for step in (1, 2))
    content = bytearray(bad.read_bytes())
    if damage == "cut":
        bad.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        bad.write_bytes(content)
    elif damage == "empty":
        bad.write_bytes(b"")
    else:
        bad.unlink()
        bad.mkdir()
    assert checkpoints.latest() == good
    err = capsys.readouterr().err
    assert f"the checkpoint {bad} is damaged" in err
    assert err.count("\n") == 1


def test_damage_of_all_is_an_error(checkpoints, capsys):
    save(checkpoints, 1, best=True).write_bytes(b"")
    with pytest.raises(UserError, match=f"all checkpoints in {checkpoints.folder} are damaged"):
        checkpoints.latest()


def test_a_full_disk_leaves_the_old_ones_and_says_so(checkpoints, capsys):
    """The system refuses to let a file grow, as on a full disk."""
    good = save(checkpoints, 1, best=True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        checkpoints.save(state(2), 2, best=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "no checkpoint of step 2: [Errno 27] File too large" in capsys.readouterr().err
    assert checkpoints.latest() == good
    assert numbers(checkpoints, "step") == numbers(checkpoints, "best") == [1]
    assert len(list(checkpoints.folder.iterdir())) == 2


def test_what_a_killed_writer_left_is_not_taken(checkpoints):
    good = save(checkpoints, 1)
    (checkpoints.folder / "partial").write_bytes(good.read_bytes()[:50])
    assert checkpoints.latest() == good
    checkpoints.save(state(2), 2, best=False)
    assert numbers(checkpoints, "step") == [1, 2]
    assert len(list(checkpoints.folder.iterdir())) == 2


def save_killed_at(checkpoints, number, operation):
    """Save in a process that is killed before its ``operation``-th one on files; whether it was."""
    pid = os.fork()
    if pid == 0:
        count = 0

        def hook(event, arguments):
            nonlocal count
            if event in ("open", "os.link", "os.rename", "os.remove", "os.mkdir"):
                count += 1
                if count == operation:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        checkpoints.save({"number": number}, number, best=True)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.mark.filterwarnings("ignore:.*fork")
@pytest.mark.parametrize("number", [1, 2])
def test_a_save_that_is_killed_at_any_point_harms_no_checkpoint_and_no_later_save(tmp_path, number):
    """Another one, or the same again: at every moment there is one to go on from, and a best."""
    for operation in range(1, 100):
        checkpoints = Checkpoints(tmp_path / str(operation), 1, Processes(), {})
        checkpoints.save({"number": 1}, 1, best=True)
        killed = save_killed_at(checkpoints, number, operation)
        last = torch.load(checkpoints.latest(), weights_only=True)["number"]
        assert last in (1, number)
        assert list(checkpoints.folder.glob("best-*"))
        checkpoints.save({"number": 3}, 3, best=False)
        for file in checkpoints.folder.glob("*.pt"):
            assert digest_of(file) in file.name
        assert torch.load(checkpoints.latest(), weights_only=True)["number"] == 3
        if not killed:
            break
    assert 5 < operation < 99


def test_saving_the_same_again_needs_no_moment_without_it(tmp_path):
    checkpoints = Checkpoints(tmp_path, 1, Processes(), {})
    checkpoints.save({"number": 1}, 1, best=False)
    inode = checkpoints.latest().stat().st_ino
    checkpoints.save({"number": 1}, 1, best=False)
    assert checkpoints.latest().stat().st_ino == inode
