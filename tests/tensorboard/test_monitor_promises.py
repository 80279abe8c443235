"""A monitor changes nothing of a training and leaves no trace, whatever fails."""

import warnings

import pytest
import torch
from torch import nn

import torchopt_ref.nn
import torchopt_ref.optim
from tests.tensorboard.trainings import batches, cnn, hooks, mlp, with_batchnorm
from tests.thinned import in_turn
from torchopt_ref.errors import UserError
from torchopt_ref.tensorboard import Monitor

ALL = tuple(Monitor.QUANTITIES)


def everything(model, optimizer):
    """All that a training leaves: parameters, buffers, gradients, slots and random state."""
    found = [*model.state_dict().values(), *(p.grad for p in model.parameters())]
    for state in optimizer.state.values():
        found += [torch.as_tensor(value) for value in state.values()]
    return [tensor.clone() for tensor in found if tensor is not None] + [torch.get_rng_state()]


MODELS = {
    "mlp": mlp,
    "dropout": lambda: mlp(between=lambda: nn.Dropout(0.3)),
    "batchnorm": with_batchnorm,
    "cnn": cnn,
    "in place": lambda: mlp(lambda: nn.ReLU(inplace=True), between=lambda: nn.Dropout(0.1)),
    "ours": lambda: nn.Sequential(
        *(nn.Linear(784, 50), torchopt_ref.nn.BatchNorm1d(50), nn.Tanh()),
        *(torchopt_ref.nn.Dropout(0.2), nn.Linear(50, 10)),
    ),
}
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, foreach=False),
    "fused": lambda p: torch.optim.AdamW(p, fused=True),
    "ours": lambda p: torchopt_ref.optim.Adam(p),
}


@pytest.mark.parametrize(("name", "rule"), in_turn(MODELS, OPTIMIZERS))
def test_training_is_bit_for_bit_the_same_with_and_without(name, rule, tmp_path):
    outcomes = []
    for monitored in (False, True):
        torch.manual_seed(0)
        model = MODELS[name]()
        optimizer = OPTIMIZERS[rule](model.parameters())
        monitor = Monitor(model, optimizer, tmp_path, every=7, record=ALL) if monitored else None
        with monitor or warnings.catch_warnings():
            for x, y in batches(30):
                optimizer.zero_grad()
                output = model(x + torch.rand(1))
                loss = nn.functional.cross_entropy(output, y)
                loss.backward()
                optimizer.step()
                if monitor:
                    monitor.log(loss=loss, output=output, target=y)
        outcomes.append(everything(model, optimizer))
    for without, with_it in zip(*outcomes, strict=True):
        assert torch.equal(without, with_it)


@pytest.mark.parametrize("end", [None, ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("in_the_middle", [False, True])
def test_no_hook_is_left(end, steps, in_the_middle, tmp_path):
    model = cnn()
    optimizer = torch.optim.Adam(model.parameters())

    def loop():
        with Monitor(model, optimizer, tmp_path, every=2) as monitor:
            assert hooks(model, optimizer)
            for x, y in batches(steps):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)
            if in_the_middle:
                model(x if steps else torch.zeros(2, 784))
            if end:
                raise end

    if end:
        with pytest.raises(end):
            loop()
    else:
        loop()
    assert hooks(model, optimizer) == []


def test_between_records_the_layers_are_not_looked_at(tmp_path):
    model = cnn()
    optimizer = torch.optim.Adam(model.parameters())
    hooked = []
    with Monitor(model, optimizer, tmp_path, every=5) as monitor:
        for step, (x, y) in enumerate(batches(12), start=1):
            if sum(map(bool, monitor._session._hooks._after.values())) > 1:  # The model itself.
                hooked.append(step)
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert hooked == [1, 2, 4, 5, 10]


def test_a_failure_of_the_monitor_is_one_warning_and_training_goes_on(tmp_path):
    class Odd(nn.ReLU):
        __module__ = "odd.activations"

        def forward(self, x):
            return super().forward(x).as_subclass(Unfriendly)

    class Unfriendly(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            if func.__name__ == "mean":
                raise ValueError("no mean today")
            return super().__torch_function__(func, types, args, kwargs)

    model = nn.Sequential(nn.Linear(4, 4), Odd(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with warnings.catch_warnings(record=True) as caught, Monitor(model, optimizer, tmp_path) as m:
        warnings.simplefilter("always")
        for _ in range(3):
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
            m.log(loss=1.0)
        assert hooks(model, optimizer) == []
    messages = [str(each.message) for each in caught if "monitor" in str(each.message)]
    assert messages == [
        "the monitor stopped at step 0, training goes on: ValueError('no mean today')"
    ]


def test_mistakes(tmp_path):
    model = mlp(hidden=(5,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UserError, match="unknown quantity 'activation': did you mean 'activations"):
        Monitor(model, optimizer, tmp_path, record=["activation"])
    with pytest.raises(UserError, match="unknown quantity 'drfit': did you mean 'drift'"):
        Monitor(model, optimizer, tmp_path, record="drfit")
    with pytest.raises(UserError, match="every must be at least 1, not 0"):
        Monitor(model, optimizer, tmp_path, every=0)
    with pytest.raises(UserError, match="did you mean 'raise'"):
        Monitor(model, optimizer, tmp_path, nonfinite="rise")
    with pytest.raises(UserError, match="needs at least one optimizer"):
        Monitor(model, [], tmp_path)
    with pytest.raises(UserError, match="model is a SGD, not a torch Module: Monitor\\(model, opt"):
        Monitor(optimizer, model, tmp_path)
    with pytest.raises(UserError, match="optimizer is a Sequential, not a torch Optimizer"):
        Monitor(model, model, tmp_path)
    with pytest.raises(UserError, match="output and target together"):
        Monitor(model, optimizer, tmp_path).log(output=torch.ones(2, 2))
    with pytest.raises(UserError, match="within `with Monitor"):
        Monitor(model, optimizer, tmp_path).log(loss=1.0)
