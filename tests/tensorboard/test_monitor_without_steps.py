"""Losses that no step follows: counted, a finding, and no longer one as soon as steps go on."""

import pytest
import torch
from torch import nn

from tests.tensorboard.trainings import batches, mlp
from torchopt_ref.tensorboard import Monitor
from torchopt_ref.tensorboard.read.inspection import inspect

TAG = "losses since the last step"


class Loop:
    """A training, a loss at a time; ``found`` are the kinds of findings, as they come."""

    def __init__(self, folder, every=5, step=0):
        self.model, self.found = mlp(hidden=(5,)), []
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.monitor = Monitor(
            self.model,
            self.optimizer,
            folder,
            every=every,
            step=step,
            on_finding=lambda finding: self.found.append(finding.kind),
        )
        self.batches = batches(10_000, size=4)

    def losses(self, count, steps=True, every=1, logs_before=True):
        for i in range(count):
            x, y = next(self.batches)
            loss = nn.functional.cross_entropy(self.model(x), y)
            loss.backward()
            if logs_before:
                self.monitor.log(loss=loss)
            if steps and i % every == every - 1:
                self.optimizer.step()
                self.optimizer.zero_grad()
            if not logs_before:
                self.monitor.log(loss=loss)


def kinds(folder):
    return [each.kind for each in inspect(folder).findings]


@pytest.mark.parametrize("resumed_at", [0, 7])
def test_no_step_at_all(resumed_at, tmp_path, read):
    loop = Loop(tmp_path, step=resumed_at)
    with loop.monitor:
        loop.losses(30, steps=False)
        assert loop.found == []
    assert read(tmp_path)[TAG] == {resumed_at + 1: 30}
    assert kinds(tmp_path) == loop.found == ["no step was seen"]


def test_no_step_at_all_and_nothing_that_is_logged(tmp_path, read):
    """Passes are counted then, before the first step."""
    loop = Loop(tmp_path)
    with loop.monitor:
        for x, _ in batches(9):
            loop.model(x).sum().backward()
    assert read(tmp_path)[TAG] == {1: 9}
    assert kinds(tmp_path) == ["no step was seen"]


def test_no_step_is_said_while_the_training_runs_and_no_longer_once_there_are_steps(tmp_path, read):
    loop = Loop(tmp_path)
    with loop.monitor:
        loop.losses(199, steps=False)
        assert loop.found == []
        loop.losses(1, steps=False)
        assert loop.found == ["no step was seen"]
        loop.losses(1)
        loop.losses(29)
    assert read(tmp_path)[TAG] == {1: 0}
    assert "steps have stopped" not in loop.found
    assert not {"no step was seen", "steps have stopped"} & set(kinds(tmp_path))


@pytest.mark.parametrize("logs_before", [True, False])
def test_steps_that_stop(logs_before, tmp_path, read):
    """At the end, if it is more than ever was between two steps."""
    loop = Loop(tmp_path)
    with loop.monitor:
        loop.losses(12, logs_before=logs_before)
        loop.losses(40, steps=False, logs_before=logs_before)
    assert read(tmp_path)[TAG] == {12: 40 + (not logs_before)}
    assert kinds(tmp_path) == ["steps have stopped"]


def test_steps_that_stop_are_said_while_the_training_runs_until_they_go_on(tmp_path, read):
    loop = Loop(tmp_path)
    with loop.monitor:
        loop.losses(12)
        loop.losses(200, steps=False)
        assert loop.found == ["steps have stopped"]
        loop.losses(30)
    assert read(tmp_path)[TAG] == {12: 200, 13: 0}
    assert "steps have stopped" not in kinds(tmp_path)
    assert "steps have stopped" not in read(tmp_path).text("diagnosis")


@pytest.mark.parametrize("logs_before", [True, False])
@pytest.mark.parametrize("losses", [64 * 6, 64 * 6 + 63])
def test_accumulated_batches_have_a_step(losses, logs_before, tmp_path, read):
    loop = Loop(tmp_path)
    with loop.monitor:
        loop.losses(losses, every=64, logs_before=logs_before)
    assert TAG not in read(tmp_path).scalars
    assert not {"no step was seen", "steps have stopped"} & set(kinds(tmp_path))


@pytest.mark.parametrize("logs_before", [True, False])
@pytest.mark.parametrize("steps", [1, 2])
def test_a_short_training_has_its_steps(steps, logs_before, tmp_path, read):
    loop = Loop(tmp_path)
    with loop.monitor:
        loop.losses(steps, logs_before=logs_before)
    assert TAG not in read(tmp_path).scalars
    assert kinds(tmp_path) == []


def test_the_losses_of_an_evaluation_need_no_step(tmp_path, read):
    loop = Loop(tmp_path)
    with loop.monitor:
        loop.losses(12)
        with torch.no_grad():
            for x, y in batches(300, size=2):
                loop.monitor.log(loss=nn.functional.cross_entropy(loop.model(x), y))
    assert TAG not in read(tmp_path).scalars
