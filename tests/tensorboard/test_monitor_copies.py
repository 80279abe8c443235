"""Nothing of a monitor travels: into copies, files, other processes, graphs or transforms."""

import copy
import io
import multiprocessing
import os
import pickle
import warnings
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from tests.tensorboard.trainings import batches, hooks
from torchopt_ref.tensorboard import Monitor

X = torch.linspace(-1, 1, 3 * 784).view(3, 784)


def train(model, optimizer):
    for _ in range(3):
        model(X).square().sum().backward()
        optimizer.step()


def train_twins(model, optimizer):
    """Copies, whose training is none of the original's."""
    assert hooks(model, optimizer, of_process=False) == []
    train(model, optimizer)


def saved(model, optimizer):
    file = io.BytesIO()
    torch.save((model, optimizer, list(model.parameters())), file)
    assert b"torchopt_ref" not in file.getvalue()


def per_sample_gradients(model, optimizer):
    def loss(params, x):
        return functional_call(model, params, (x,)).square().sum()

    gradients = vmap(grad(loss), in_dims=(None, 0))(dict(model.named_parameters()), X)
    assert gradients["0.weight"].shape == (3, 12, 784)


def sent(model, optimizer):
    """As to a process that is spawned; the twins share the parameters' memory."""
    twin, _ = pickle.loads(ForkingPickler.dumps((model, optimizer)))
    twin(X).sum().backward()


def forked(model, optimizer):
    def alone():
        torch.set_num_threads(1)  # A fork has no others.
        train(model, optimizer)

    process = multiprocessing.get_context("fork").Process(target=alone)
    process.start()
    process.join()
    assert process.exitcode == 0


ACTIONS = {
    "deepcopy": lambda model, optimizer: train_twins(*copy.deepcopy((model, optimizer))),
    "pickle": lambda *both: train_twins(*pickle.loads(pickle.dumps(both))),
    "part": lambda model, optimizer: copy.deepcopy(model[1:])(X[:, :12]).sum().backward(),
    "shallow": lambda model, optimizer: copy.copy(model[1])(X),
    "save": saved,
    "average": lambda model, optimizer: torch.optim.swa_utils.AveragedModel(
        model
    ).update_parameters(model),
    "script": lambda model, optimizer: torch.jit.script(model)(X),
    "trace": lambda model, optimizer: torch.jit.trace(model, X),
    "export": lambda model, optimizer: torch.export.export(model, (X,)),
    "fx": lambda model, optimizer: torch.fx.symbolic_trace(nn.Sequential(model)),
    "compile": lambda model, optimizer: torch.compile(model, backend="eager")(X),
    "vmap": per_sample_gradients,
    "send": sent,
    **({"fork": forked} if hasattr(os, "fork") else {}),
}


def made():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 12), nn.ReLU(), nn.Linear(12, 10))
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def watched(folder, action=None):
    """Act before the first step, and before one that is not recorded."""
    model, optimizer = made()
    with Monitor(model, optimizer, folder, every=4) as monitor:
        for step, (x, y) in enumerate(batches(5)):
            if action and step in (0, 2):
                action(model, optimizer)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    assert hooks(model, optimizer) == []


def curves(run):
    timed = ("step time", "speed", "memory")
    tags = [tag for tag in run.scalars if not tag.startswith(timed)]
    return {tag: (run.steps(tag), run[tag]) for tag in tags}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    watched(folder)
    return folder


def warnings_of(function, *arguments):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        function(*arguments)
    return {str(warning.message) for warning in seen}


@pytest.mark.parametrize("name", ACTIONS)
def test_what_is_done_with_the_model_meanwhile_works_and_is_not_seen(name, alone, tmp_path, read):
    of_torch = warnings_of(ACTIONS[name], *made())  # other ones in each of its versions
    assert warnings_of(watched, tmp_path, ACTIONS[name]) <= of_torch
    assert curves(read(tmp_path)) == curves(read(alone))


def test_what_a_layer_made_can_be_saved(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    with Monitor(model, torch.optim.SGD(model.parameters()), tmp_path), warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.save(model(torch.ones(2, 4)), io.BytesIO())


def test_a_copy_of_what_holds_a_monitor_is_not_at_work(tmp_path):
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, step=5) as monitor:
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        for twin in (copy.deepcopy(monitor), pickle.loads(pickle.dumps(monitor))):
            assert twin.step == 6
            twin.__exit__(None, None, None)
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        assert monitor.step == 7


class CopiesItself(nn.Linear):
    """In each forward pass, which Ctrl-C may end."""

    interrupted = False

    def forward(self, x):
        TWINS[:] = copy.deepcopy(self), pickle.loads(pickle.dumps(self))
        if self.interrupted:
            raise KeyboardInterrupt
        return super().forward(x)


TWINS = []


def test_nothing_travels_out_of_a_forward_pass_nor_after_ctrl_c_in_one(tmp_path):
    """A training that is interrupted there saves its model within the block."""
    model = CopiesItself(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path):
        model(torch.ones(2, 4)).sum().backward()
        model.interrupted = True
        with pytest.raises(KeyboardInterrupt):
            model(torch.ones(2, 4))
        for each in (model, *TWINS):
            assert not each._forward_hooks
            assert not each._forward_pre_hooks
        torch.save(model, io.BytesIO())
    assert hooks(model, optimizer) == []


def test_inputs_by_name_count_as_samples_and_dropout_takes_them(tmp_path, read):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.drop = nn.Linear(4, 4), nn.Dropout(0.5)

        def forward(self, *, x):
            return self.drop(input=self.linear(x))

    model = Named()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, every=8):
        for _ in range(8):
            model(x=torch.ones(2, 4)).sum().backward()
            optimizer.step()
    assert "speed/samples per second" in read(tmp_path).scalars
