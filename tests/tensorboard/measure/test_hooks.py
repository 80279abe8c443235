"""Hooks are in place around records only, and torch compiles nothing anew as they come and go."""

import warnings

import pytest
import torch
from torch import nn

from tests.tensorboard.trainings import Layers, batches, hooks, mlp
from torchopt_ref.tensorboard import Monitor

RECORDED = [1, 2, 4, 8, 16, 32, 50, 100]
NEAR = 3


def passes_are_hooked():
    tables = vars(nn.modules.module).items()
    return any(table for name, table in tables if name.startswith("_global_forward"))


def test_passes_are_hooked_from_a_few_steps_before_a_record_and_layers_in_its_step(tmp_path):
    model = mlp(hidden=(20,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    of_passes, of_tensors = [], []
    with Monitor(model, optimizer, tmp_path, every=50):
        of_optimizer = len(optimizer._optimizer_step_pre_hooks) * 2
        for step, (x, y) in enumerate(batches(110, size=4), start=1):
            nn.functional.cross_entropy(model(x), y).backward()
            if passes_are_hooked():
                of_passes.append(step)
            if len(hooks(model, optimizer, of_process=False)) > of_optimizer:
                of_tensors.append(step)
            optimizer.step()
            optimizer.zero_grad()
    assert of_tensors == RECORDED
    assert of_passes == [
        step for step in range(1, 111) if any(0 <= each - step < NEAR for each in RECORDED)
    ]
    assert hooks(model, optimizer) == []


def test_each_optimizers_records_have_the_passes_of_their_steps(tmp_path, read):
    """Of the second one too, whose records lie far from those of the first."""
    model, other = mlp(hidden=(5,)), mlp(hidden=(5,))
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.01) for each in (model, other)]
    with Monitor([model, other], optimizers, tmp_path, every=50):
        for step, (x, y) in enumerate(batches(150, size=4), start=1):
            loss = nn.functional.cross_entropy(model(x) + other(x), y)
            loss.backward()
            for optimizer in optimizers[step % 7 != 0 :]:
                optimizer.step()
                optimizer.zero_grad()
    run = read(tmp_path)
    recorded = run.steps("weight norm/[all of 1]")
    assert len(recorded) == 9
    assert run.steps("gradient cosine/[all of 1]") == recorded[1:]
    assert run.steps("gradient noise scale/[all of 1]")[-1] == recorded[-1]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = Layers(*mlp(hidden=(20,))[:2]), nn.Linear(20, 10)

    def forward(self, x):
        return self.head(self.body(x))


def whole(model):
    return torch.compile(model, backend="eager")


def by_method(model):
    model.compile(backend="eager")
    return model


def submodule(model):
    model.body = torch.compile(model.body, backend="eager")
    return model


def submodule_by_method(model):
    model.body.compile(backend="eager")
    return model


@pytest.mark.parametrize("how", [whole, by_method, submodule, submodule_by_method])
def test_what_is_compiled_is_compiled_once_and_without_a_warning(how, tmp_path, read):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = how(Net())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Guards may run slower on Python 3.13.0")
        with Monitor(model, optimizer, tmp_path, every=30) as monitor:
            for x, y in batches(40, size=8):
                loss = nn.functional.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                monitor.log(loss=loss)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]
    run = read(tmp_path)
    assert run.steps("loss") == [1, 2, 4, 8, 16, 30, 40]
    assert ("model output/largest" in run.scalars) == (how is not by_method)


def test_a_compiled_function_around_the_model_is_compiled_for_hooks_and_for_none(tmp_path):
    """Not each time that they come back."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    @torch.compile(backend="eager")
    def loss_of(x, y):
        return nn.functional.cross_entropy(model(x), y)

    with Monitor(model, optimizer, tmp_path, every=10):
        for x, y in batches(100, size=8):
            loss_of(x, y).backward()
            optimizer.step()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 3
