"""The first value that is not finite is named: the step, the layer, the cause."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.tensorboard.trainings import batches, hooks, mlp
from torchopt_ref.tensorboard import Monitor, NonFiniteError
from torchopt_ref.tensorboard.measure.health import Health
from torchopt_ref.tensorboard.measure.layers import Layers
from torchopt_ref.tensorboard.measure.steps import Steps
from torchopt_ref.tensorboard.write.record import Record


def test_raising_at_the_first_value_that_is_not_finite_leaves_the_parameters(tmp_path, read):
    model = mlp(hidden=(20,))
    optimizer = torch.optim.Adam(model.parameters())

    def loop():
        with Monitor(model, optimizer, tmp_path, nonfinite="raise"):
            for step, (x, y) in enumerate(batches(20), start=1):
                x[3, 5] = torch.nan if step == 13 else 0
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()

    with pytest.raises(NonFiniteError, match=r"step 13: .* is the cause: x .* 1 of its 50176"):
        loop()
    assert all(param.isfinite().all() for param in model.parameters())
    assert hooks(model, optimizer) == []
    assert "step 13" in read(tmp_path).text("not finite")


class Backward(torch.autograd.Function):
    """The identity, whose gradient is not finite in one step."""

    @staticmethod
    def forward(ctx, x, poisoned):
        ctx.poisoned = poisoned
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return (gradient * torch.inf if ctx.poisoned else gradient), None


def warned(*arguments, forward, steps=6):
    """The warnings of a monitored training; ``forward(step, x)`` is the model's output."""
    model, optimizer, folder = arguments
    with warnings.catch_warnings(record=True) as caught, Monitor(model, optimizer, folder):
        warnings.simplefilter("always")
        for step, (x, y) in enumerate(batches(steps), start=1):
            optimizer.zero_grad()
            nn.functional.cross_entropy(forward(step, x), y).backward()
            optimizer.step()
    return [str(each.message) for each in caught]


def test_a_gradient_born_in_a_backward_pass_is_named_by_the_layer_before_it(tmp_path):
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())

    def forward(step, x):
        return model[6:](Backward.apply(model[:6](x), step == 5))

    assert warned(model, optimizer, tmp_path, forward=forward) == [
        "not finite at step 5: the gradient of layer 3 Linear and of 1 other layer is not finite."
    ]


@pytest.mark.parametrize(("bad_step", "steps"), [(4, 6), (4, 4)])
def test_an_update_that_overflows_is_named_by_its_parameter_and_step(bad_step, steps, tmp_path):
    """By the step after it, or on leaving."""
    model = mlp(hidden=(20,))
    groups = [{"params": model[0].parameters()}, {"params": model[3].parameters()}]
    optimizer = torch.optim.SGD(groups, lr=0.1)

    def forward(step, x):
        optimizer.param_groups[1]["lr"] = torch.inf if step == bad_step else 0.1
        return model(x)

    assert warned(model, optimizer, tmp_path, forward=forward, steps=steps) == [
        "not finite at step 4: a parameter of layer 3 Linear is not finite after the step. "
        "The few of its gradients that were looked at were finite: others were not, or the update "
        "overflowed."
    ]


def not_waited_for():
    """The health of a training on such a device, and the list of what it will write."""
    model = mlp(hidden=(20,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    written = []
    layers = Layers({"": model}, {"": optimizer}, 50)
    health = Health(layers, [optimizer], "warn", False, False, lambda *found: written.append(found))
    steps = Steps(optimizer, 50, 0)
    return model, optimizer, health, steps, written


def test_a_device_that_is_not_waited_for_is_read_at_the_record():
    """As on an accelerator, here on the CPU: the step is exact, the place is what is left of it."""
    model, optimizer, health, steps, written = not_waited_for()
    for step, (x, y) in enumerate(batches(6), start=1):
        x[0, 0] = torch.inf if step == 3 else 0
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        steps.begin(step, has_closure=False)
        health.before_step(steps)
        optimizer.step()
    assert written == []
    with pytest.warns(RuntimeWarning, match="step 3"):
        health.written(Record(6, optimizer))
    text = "step 3: a gradient is not finite; by now a parameter of layer 0 Linear and of 1 other"
    assert written == [(3, f"{text} layer is, too.")]


def test_a_step_without_gradients_is_none_to_look_at_on_a_device_that_is_not_waited_for():
    _, optimizer, health, steps, written = not_waited_for()
    steps.begin(1, has_closure=False)
    health.before_step(steps)
    health.written(Record(1, optimizer))
    assert written == []


def test_a_loss_that_is_not_finite_is_seen_even_if_no_step_is_made(tmp_path):
    model = mlp(hidden=(20,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = torch.tensor(torch.nan)
    nan = pytest.warns(RuntimeWarning, match="step 1: the loss is nan")
    with Monitor(model, optimizer, tmp_path) as monitor, nan:
        monitor.log(loss=loss)


def test_what_ended_the_training_is_not_hidden_by_what_is_found_on_leaving(tmp_path):
    model = mlp(hidden=(5,))
    optimizer = torch.optim.SGD(model.parameters(), lr=torch.inf)

    def loop(end):
        with Monitor(model, optimizer, tmp_path, nonfinite="raise"):
            for x, y in batches(1):
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
            if end:
                raise end

    with pytest.raises(KeyboardInterrupt):
        loop(KeyboardInterrupt)
    with pytest.raises(NonFiniteError, match="not finite after the step"):
        loop(None)


def test_a_gradient_that_the_sentinels_miss_is_seen_at_the_record(tmp_path):
    """One element of one weight, in a column that is not looked at, in a step that is recorded."""
    model = mlp(hidden=(20,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def poison(gradient):
        gradient[3, 7] = torch.inf
        return gradient

    def forward(step, x):
        if step == 4:
            model[3].weight.register_hook(poison)
        return model(x)

    assert warned(model, optimizer, tmp_path, forward=forward) == [
        "not finite at step 4: the gradient of layer 3 Linear is not finite."
    ]


LARGE = {torch.float16: 6e4, torch.bfloat16: 3e38, torch.float32: 3e38, torch.float64: 1e300}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype", LARGE, ids=str)
def test_what_is_finite_is_not_called_otherwise_because_a_sum_overflows(
    dtype, sign, tmp_path, read
):
    """Weights, gradients, activations, slots and the loss, of one sign and of both."""
    large = LARGE[dtype]
    weight = nn.Parameter(torch.full((8, 8), large, dtype=dtype))
    other = nn.Parameter(torch.full((8,), large, dtype=dtype))
    model = nn.Sequential(nn.Identity(), nn.ReLU())
    model.weight, model.other = weight, other
    optimizer = torch.optim.SGD([weight, other], lr=1e-30, momentum=0.9)
    with warnings.catch_warnings(), Monitor(model, optimizer, tmp_path, every=1) as monitor:
        warnings.simplefilter("error")
        for _ in range(3):
            model(weight).sum().backward()
            weight.grad, other.grad = torch.full_like(weight, large), torch.full_like(other, large)
            weight.grad[::2] *= sign
            optimizer.step()
            optimizer.state.clear()
            optimizer.zero_grad()
            monitor.log(loss=weight, more=other)
    run = read(tmp_path)
    assert not run.has_text("not finite")
    for tag in run.scalars:
        assert np.isfinite([*run[tag].values()]).all(), tag
    top = torch.finfo(torch.float32).max
    value = torch.tensor(large, dtype=dtype).item()
    size = min(value * 72**0.5, top)
    assert run["gradient norm/[all]"][1] == pytest.approx(size, rel=1e-6)
    assert run["weight norm/[all]"][1] == pytest.approx(size, rel=1e-6)
    mean = min(value, top)
    assert run["activation mean/1 ReLU"][1] == pytest.approx(mean, rel=1e-6)
    assert run["loss"][3] == pytest.approx(mean, rel=1e-6)


def said_of(folder, update, poison=torch.nan, steps=3):
    """The warning of a training whose last batch has one bad value, in sample 2, or none if
    ``poison`` is 0; ``update(model, optimizer, batch)`` makes a step."""
    model = mlp(hidden=(20,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    made = [{"pixels": x, "labels": y} for x, y in batches(steps, size=8)]
    made[-1]["pixels"][2, 5] += poison
    with warnings.catch_warnings(record=True) as caught, Monitor(model, optimizer, folder):
        warnings.simplefilter("always")
        for _ in range(steps):
            optimizer.zero_grad()
            update(model, optimizer, made.pop(0))
    (said,) = [str(each.message) for each in caught]
    return said


def from_a_dict(model, optimizer, batch):
    nn.functional.cross_entropy(model(batch["pixels"]), batch["labels"]).backward()
    optimizer.step()


def from_a_list(model, optimizer, batch):
    pair = [*batch.values()]
    batch.clear()
    nn.functional.cross_entropy(model(pair[0]), pair[1]).backward()
    optimizer.step()


def from_a_function_between(model, optimizer, batch):
    images, labels = batch.pop("pixels"), batch.pop("labels")

    def inner(loss):
        loss.backward()
        optimizer.step()

    inner(nn.functional.cross_entropy(model(images), labels))


def from_a_closure(model, optimizer, batch):
    photos, labels = batch.pop("pixels"), batch.pop("labels")

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(photos), labels)
        loss.backward()
        return loss

    optimizer.step(closure)


def from_a_package_beside_torch(model, optimizer, batch):
    """Where a user's packages are installed, and where this one is."""
    code = "photos = batch.pop('pixels')\nstep(model(photos), batch.pop('labels'))"

    def step(output, labels):
        nn.functional.cross_entropy(output, labels).backward()
        optimizer.step()

    path = Path(torch.__file__).parents[1] / "torchopt_ref" / "train" / "loop.py"
    exec(compile(code, path, "exec"), {"model": model, "batch": batch, "step": step})


@pytest.mark.parametrize(
    ("update", "name"),
    [
        (from_a_package_beside_torch, "photos"),
        (from_a_dict, "batch['pixels']"),
        (from_a_list, "pair[0]"),
        (from_a_function_between, "images"),
        (from_a_closure, "photos"),
    ],
)
@pytest.mark.parametrize("poison", [torch.nan, -torch.inf])
def test_the_bad_input_is_named_by_the_variable_that_holds_it(update, name, poison, tmp_path):
    said = said_of(tmp_path, update, poison)
    assert said.startswith("not finite at step 3: the gradient of layer 3 Linear")
    assert said.endswith(
        f"The input is the cause: {name} in the training loop, 1 of its 6272 values is not "
        "finite, first in sample 2 of the batch."
    )


def test_what_is_computed_is_not_called_the_input(tmp_path):
    """Gradients, outputs, losses and what shares their memory; the input is fine here."""
    steps = []

    def update(model, optimizer, batch):
        steps.append(1)
        pixels, labels = batch["pixels"], batch["labels"]
        other = torch.empty(2, 2, device="meta"), torch.full((3,), torch.nan).to_sparse()
        output = model(pixels)
        if len(steps) == 3:
            output = output * torch.tensor(torch.nan)
        kept = output.detach()
        rows = [row.detach() for row in output]
        losses = nn.functional.cross_entropy(output, labels, reduction="none")
        losses.mean().backward()
        gradients = [param.grad for param in model.parameters()]
        flat = model[0].weight.grad.view(-1)
        found = {"loss": losses.detach(), "weights": [*model.parameters()], "other": other}
        optimizer.step()
        return kept, rows, gradients, flat, found

    assert said_of(tmp_path, update, poison=0.0) == (
        "not finite at step 3: the gradient of layer 3 Linear and of 1 other layer is not finite."
    )


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("validated", [False, True])
def test_a_loss_that_is_nan_is_reported_at_its_own_step(validated, order, tmp_path, read):
    """Whether it is logged before the step or after it; the gradients are finite here."""
    model = mlp(hidden=(20,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    bad = pytest.warns(RuntimeWarning, match="not finite at step 4: the loss is nan")
    with Monitor(model, optimizer, tmp_path, step=2) as monitor, bad:
        if validated:
            monitor.log(**{"loss/validation": 3.0})
        for step, (x, y) in enumerate(batches(4, size=8), start=3):
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            shown = loss.item() if step != 4 else torch.nan
            if order == "before":
                monitor.log(loss=shown)
            optimizer.step()
            if order == "after":
                monitor.log(loss=shown)
    assert read(tmp_path)["first step with a value that is not finite"] == {4: 4}
    assert read(tmp_path).text("not finite").startswith("step 4: the loss is nan.")


@pytest.mark.parametrize("logs", ["after", "before", "never"])
def test_a_gradient_of_a_finite_loss_is_named_with_its_step(logs, tmp_path):
    """Between records; the next loss, which it ruins, is looked at, or the gradient itself is. The
    first parameter never has one."""
    model = mlp(hidden=(20,))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(3)), *model.parameters()], lr=0.1)
    with warnings.catch_warnings(record=True) as caught, Monitor(model, optimizer, tmp_path) as it:
        warnings.simplefilter("always")
        for step, (x, y) in enumerate(batches(20), start=1):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            if step == 11:
                model[0].weight.grad[3] = torch.nan
            if logs == "before":
                it.log(loss=loss)
            optimizer.step()
            if logs == "after":
                it.log(loss=loss)
    (said,) = [str(each.message) for each in caught if "not finite" in str(each.message)]
    assert said.startswith("not finite at step 11: the gradient of layer 0 Linear")
