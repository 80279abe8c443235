"""A run's folder has one owner at a time; a dead one is none."""

import os
import signal

import pytest

from torchopt_ref.errors import UserError
from torchopt_ref.tensorboard.run_lock import locked


@pytest.fixture
def owner(tmp_path):
    """Another process that has the lock."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with locked(tmp_path):
            os.write(write, b"!")
            signal.pause()
    os.read(read, 1)
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_the_second_one_is_told_who_the_first_is(tmp_path, owner):
    with pytest.raises(UserError, match=f"in use by process {owner} on "), locked(tmp_path, 0.2):
        pass


def test_a_dead_owner_has_none_and_a_child_does_not_inherit_it(tmp_path):
    pid = os.fork()
    if pid == 0:
        with locked(tmp_path):
            if os.fork() == 0:
                signal.alarm(5)
                signal.pause()
            os._exit(0)
    os.waitpid(pid, 0)
    with locked(tmp_path):
        assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()} on ")


def test_one_that_cannot_be_written_is_a_users_error(tmp_path):
    (tmp_path / "lock").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*lock: Is a directory"), locked(tmp_path):
        pass
