"""``Monitor(on_finding=)``: gets each new kind of finding; what it raises ends a training."""

import warnings

import pytest
import torch
from torch import nn

from tests.tensorboard.trainings import UNDRAWN, batches, hooks, mlp, train
from torchopt_ref.errors import UserError
from torchopt_ref.tensorboard import Monitor
from torchopt_ref.tensorboard.read.inspection import inspect


class StopError(Exception):
    pass


def watched(folder, on_finding, steps=40, step=0, lr=0.01, every=4, **broken):
    torch.manual_seed(0)
    model = mlp(hidden=(20,))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    options = {"every": every, "step": step, "on_finding": on_finding, "record": UNDRAWN}
    with Monitor(model, optimizer, folder, **options) as monitor:
        train(model, optimizer, monitor, steps=steps, **broken)
    assert hooks(model, optimizer) == []
    return model


def test_each_kind_is_told_once_while_the_training_goes_on(tmp_path):
    told = []
    with pytest.warns(RuntimeWarning, match="not finite"):
        watched(tmp_path, told.append, zero_grad=False, poison=30)
    kinds = [finding.kind for finding in told]
    assert kinds[0] == "gradients are never zeroed"
    assert "not finite" in kinds
    assert len(kinds) == len(set(kinds))
    assert {each.kind for each in inspect(tmp_path).findings} <= set(kinds)


@pytest.mark.parametrize("steps", [1, 40])
def test_of_a_healthy_training_nothing_is_told(steps, tmp_path):
    told = []
    watched(tmp_path, told.append, steps=steps, lr=0.1)
    assert told == []


def test_what_it_raises_ends_the_training_at_once(tmp_path):
    steps = []

    def stop(finding):
        raise StopError(finding.kind)

    model = mlp(hidden=(20,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def loop():
        with Monitor(model, optimizer, tmp_path, every=4, on_finding=stop) as monitor:
            for x, y in batches(40):
                loss = nn.functional.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
                steps.append(monitor.step)
                monitor.log(loss=loss)

    with pytest.raises(StopError, match="gradients are never zeroed"):
        loop()
    assert 0 < len(steps) < 10
    assert hooks(model, optimizer) == []
    assert "gradients are never zeroed" in [each.kind for each in inspect(tmp_path).findings]


def test_it_ends_the_training_before_a_step_by_values_that_are_not_finite(tmp_path):
    def stop(finding):
        raise StopError

    model = mlp(hidden=(20,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.warns(RuntimeWarning, match="not finite at step 3"),
        pytest.raises(StopError),
        Monitor(model, optimizer, tmp_path, record=UNDRAWN, on_finding=stop) as monitor,
    ):
        train(model, optimizer, monitor, poison=3)
    assert monitor.step == 2
    assert all(param.isfinite().all() for param in model.parameters())


def test_it_is_told_before_nonfinite_raises(tmp_path):
    told = []
    model = mlp(hidden=(20,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    options = {"nonfinite": "raise", "on_finding": told.append, "record": UNDRAWN}
    with Monitor(model, optimizer, tmp_path, **options) as monitor:
        with pytest.raises(FloatingPointError):
            train(model, optimizer, monitor, poison=3)
        assert [each.kind for each in told] == ["not finite"]


def test_what_ended_the_training_is_not_hidden_by_what_it_raises_on_leaving(tmp_path):
    def stop(finding):
        raise StopError

    def loop(end):
        model = mlp(hidden=(5,))
        optimizer = torch.optim.SGD(model.parameters(), lr=torch.inf)
        with Monitor(model, optimizer, tmp_path, on_finding=stop):
            for x, y in batches(1):
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
            if end:
                raise end

    for end, raised in ((KeyboardInterrupt, KeyboardInterrupt), (None, StopError)):
        with pytest.warns(RuntimeWarning, match="not finite at step 1"), pytest.raises(raised):
            loop(end)


def test_a_resumed_training_tells_again_what_it_finds_again(tmp_path):
    """Who was told may be gone with the process."""
    for step in (0, 40):
        told = []
        watched(tmp_path, told.append, step=step, zero_grad=False)
        assert "gradients are never zeroed" in [each.kind for each in told]


def test_of_several_optimizers_a_kind_is_told_once(tmp_path):
    told = []
    models = {"a": mlp(hidden=(20,)), "b": mlp(hidden=(20,))}
    optimizers = {
        name: torch.optim.SGD(model.parameters(), lr=1e3) for name, model in models.items()
    }
    with (
        warnings.catch_warnings(),
        Monitor(models, optimizers, tmp_path, every=1, on_finding=told.append) as monitor,
    ):
        warnings.simplefilter("ignore")
        for x, y in batches(6):
            for name, model in models.items():
                optimizers[name].zero_grad()
                loss = nn.functional.cross_entropy(model(x), y)
                loss.backward()
                optimizers[name].step()
                monitor.log(loss=loss)
    kinds = [each.kind for each in told]
    assert "learning rate too high" in kinds
    assert len(kinds) == len(set(kinds))


def test_it_may_log(tmp_path):
    torch.manual_seed(0)
    model = mlp(hidden=(20,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = Monitor(
        model, optimizer, tmp_path, every=4, on_finding=lambda finding: monitor.log(alerts=1)
    )
    with monitor:
        train(model, optimizer, monitor, steps=20, zero_grad=False)
    assert inspect(tmp_path).history.values("alerts")[0] == 1


def test_what_cannot_be_called_is_a_users_error(tmp_path):
    model = mlp(hidden=(5,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UserError, match="on_finding must be callable, not 'raise'"):
        Monitor(model, optimizer, tmp_path, on_finding="raise")
