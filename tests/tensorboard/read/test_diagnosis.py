"""Broken trainings are named, with the layer, the numbers and what to try; healthy ones are not."""

import re
import warnings

import pytest
import torch
from torch import nn

from tests.tensorboard.trainings import (
    UNDRAWN,
    batches,
    cnn,
    initialize,
    mlp,
    train,
    with_batchnorm,
)
from tests.thinned import only
from torchopt_ref.tensorboard import History, Monitor, diagnose
from torchopt_ref.tensorboard.read.inspection import inspect

OPTIMIZERS = {
    "SGD": lambda params, times=1: torch.optim.SGD(params, lr=0.1 * times),
    "momentum": lambda params, times=1: torch.optim.SGD(params, lr=0.05 * times, momentum=0.9),
    "Adam": lambda params, times=1: torch.optim.Adam(params, lr=1e-3 * times),
    "RMSprop": lambda params, times=1: torch.optim.RMSprop(params, lr=1e-3 * times),
    "Adagrad": lambda params, times=1: torch.optim.Adagrad(params, lr=1e-2 * times),
}


def he(model):
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)
    return model


MODELS = {
    "relu": mlp,
    "he": lambda: he(mlp()),
    "tanh": lambda: mlp(nn.Tanh),
    "sigmoid": lambda: mlp(nn.Sigmoid, (100,)),
    "gelu": lambda: mlp(nn.GELU),
    "dropout": lambda: mlp(between=lambda: nn.Dropout(0.3)),
    "batchnorm": with_batchnorm,
    "cnn": cnn,
}


def findings(folder, model, optimizer, seed=0, **options):
    """Of a short training, read back from its event files, as ``inspect`` does."""
    torch.manual_seed(seed)
    model = model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with Monitor(model, optimizer(model), folder, every=10, record=UNDRAWN) as monitor:
            train(model, monitor._optimizers[""], monitor, seed=seed, **options)
    seen = inspect(folder)
    assert not seen.unjudged
    text = seen.history.texts["diagnosis"]
    assert [each.kind in text for each in seen.findings] == [True] * len(seen.findings)
    assert seen.findings or text == "Nothing stands out."
    return seen.findings


def pairs(models, *usual):
    """Each model with each optimizer, of which all but the usual pairs are slow.

    That these pairs are enough is due to ``test_rules``: it has both sides of each threshold.
    """
    every = [(model, rule) for model in models for rule in OPTIMIZERS]
    return pytest.mark.parametrize(("model", "rule"), only(usual, every))


one_rule = pytest.mark.parametrize("rule", only(["SGD"], OPTIMIZERS))
"""For what shows in the forward and backward pass, whatever the step is."""


@pairs(MODELS, ("relu", "SGD"), ("sigmoid", "RMSprop"), ("batchnorm", "momentum"), ("cnn", "Adam"))
def test_healthy_trainings_have_no_finding(model, rule, tmp_path):
    seed = 7 * list(MODELS).index(model) + list(OPTIMIZERS).index(rule)
    make = lambda made: OPTIMIZERS[rule](made.parameters())  # noqa: E731
    assert findings(tmp_path, MODELS[model], make, seed=seed) == []


@pairs(["relu", "tanh", "gelu", "batchnorm", "cnn"], ("tanh", "momentum"), ("cnn", "Adagrad"))
def test_a_learning_rate_100_times_too_high(model, rule, tmp_path):
    if (model, rule) == ("batchnorm", "Adam"):
        pytest.skip("it learns: the loss rises to 3.6 and falls to 0.4")

    def make(made):
        return OPTIMIZERS[rule](made.parameters(), times=100)

    found = findings(tmp_path, MODELS[model], make, seed=3)
    assert "learning rate too high" in [each.kind for each in found]
    assert {each.kind for each in found} <= {"learning rate too high", "not finite"}
    (finding,) = [each for each in found if each.kind == "learning rate too high"]
    assert len(finding.layers) >= 2
    assert "about 0.001 times is usual" in finding.evidence
    assert finding.curves[0] == "update to weight/[median]"
    assert re.match(r"Divide the learning rate by 1(0|00|,000),", finding.try_this)
    assert "e+" not in finding.evidence


@one_rule
def test_units_that_bad_initial_values_killed(rule, tmp_path):
    (finding,) = findings(
        tmp_path,
        lambda: initialize(mlp(), bias=-5.0),
        lambda made: OPTIMIZERS[rule](made.parameters()),
        steps=50,
    )
    assert finding.kind == "dead units"
    assert set(finding.layers) == {"1 ReLU", "4 ReLU", "7 ReLU"}
    assert "100% of the units of 1 ReLU (100% at the start)" in finding.evidence
    assert "initial values are the cause" in finding.try_this


def test_the_layer_that_is_dead_is_named_before_one_that_it_starves(tmp_path):
    def one_dead():
        model = mlp()
        nn.init.constant_(model[3].bias, -5.0)
        return model

    make = lambda made: OPTIMIZERS["Adam"](made.parameters())  # noqa: E731
    (finding,) = findings(tmp_path, one_dead, make, steps=50)
    assert finding.kind == "dead units"
    assert finding.layers[0] == "4 ReLU"
    assert "1 ReLU" not in finding.layers
    assert "100% of the units of 4 ReLU" in finding.evidence


def test_units_that_die_during_training():
    """The advice is another."""
    history = History()
    for step, dead in enumerate([0.02, 0.1, 0.5, 0.9, 0.97, 0.97], start=1):
        history.add(step, {"loss": 2.3 - 0.01 * step, "dead units/1 ReLU": dead})
    (finding,) = diagnose(history)
    assert finding.kind == "dead units"
    assert "97% of the units of 1 ReLU (2% at the start)" in finding.evidence
    assert finding.try_this.startswith("Lower the learning rate")


@pytest.mark.parametrize("rule", only(["SGD"], ["SGD", "Adam"]))
def test_saturation_by_initial_weights_of_standard_deviation_1(rule, tmp_path):
    (finding,) = findings(
        tmp_path,
        lambda: initialize(mlp(nn.Tanh), std=1.0),
        lambda made: OPTIMIZERS[rule](made.parameters()),
        steps=50,
    )
    assert finding.kind == "saturated activations"
    assert set(finding.layers) == {"1 Tanh", "4 Tanh", "7 Tanh"}
    assert "as from the start" in finding.evidence
    assert "initial weights are too large" in finding.try_this


def test_a_first_loss_far_above_that_of_guessing(tmp_path):
    (finding,) = findings(
        tmp_path,
        lambda: initialize(mlp(nn.Sigmoid), std=1.0),
        lambda made: OPTIMIZERS["SGD"](made.parameters()),
        steps=50,
    )
    assert finding.kind == "the first loss is far off"
    assert "of guessing among 10 classes is 2.3" in finding.evidence


def autoencoder():
    """Most pixels are 0 or 1, so that its last layer has to saturate."""
    return nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 784), nn.Sigmoid())


@pytest.mark.parametrize("lr", [1e-3, 0.0])
def test_saturation_that_is_learnt_is_no_finding(lr, tmp_path):
    """But where nothing is learnt, here since the layer drifts away, it is one."""
    torch.manual_seed(0)
    model = autoencoder()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    with Monitor(model, optimizer, tmp_path, every=10, record=["activations"]) as monitor:
        for x, _ in batches(300):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), x)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
            if not lr:
                with torch.no_grad():
                    model[2].bias += 0.05
    history = inspect(tmp_path).history
    assert history.values("saturated/3 Sigmoid")[0] < 0.1
    assert history.values("saturated/3 Sigmoid")[-1] > 0.5
    found = [(each.kind, each.layers) for each in diagnose(history)]
    assert found == [] if lr else [("saturated activations", ("3 Sigmoid",))]


def test_units_that_a_learning_rate_100_times_too_high_killed(tmp_path):
    """The steps grow to a seventh of the weights only, but the loss to eight times its first."""
    torch.manual_seed(5)
    model = nn.Sequential(
        *(nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0, momentum=0.9)
    with Monitor(model, optimizer, tmp_path, every=10, record=UNDRAWN) as monitor:
        train(model, optimizer, monitor, steps=60)
    kinds = [each.kind for each in inspect(tmp_path).findings]
    assert kinds == ["learning rate too high"]


@one_rule
def test_a_missing_zero_grad(rule, tmp_path):
    make = lambda made: OPTIMIZERS[rule](made.parameters())  # noqa: E731
    found = findings(tmp_path, mlp, make, zero_grad=False, steps=50)
    (finding,) = [each for each in found if each.kind != "not finite"]
    assert finding.kind == "gradients are never zeroed"
    assert re.search(r"of earlier steps: (more than|\d+% of) what the step", finding.evidence)
    assert "zero_grad()" in finding.try_this


@pytest.mark.parametrize("how", ["requires_grad", "forgotten", "lr"])
def test_a_frozen_layer(how, tmp_path):
    def freeze(model):
        if how == "requires_grad":
            model[3].requires_grad_(False)
        groups = [{"params": [*model[0].parameters(), *model[6:].parameters()]}]
        if how != "forgotten":
            lr = 0.0 if how == "lr" else 1e-3
            groups.append({"params": model[3].parameters(), "lr": lr})
        return torch.optim.Adam(groups)

    found = findings(tmp_path, mlp, freeze, steps=50)
    if how == "requires_grad":
        assert found == []
        (note,) = [each for each in inspect(tmp_path).history.notes if "Frozen" in each]
        assert "3 Linear" in note
        return
    kind = "layers that do not move" if how == "lr" else "layers in no param group"
    assert [(each.kind, each.layers) for each in found] == [(kind, ("3 Linear",))]
    expected = "learning rate of their param group" if how == "lr" else "model.parameters()"
    assert expected in found[0].try_this


@one_rule
def test_a_nan_in_the_input_of_step_37(rule, tmp_path):
    make = lambda made: OPTIMIZERS[rule](made.parameters())  # noqa: E731
    (finding,) = findings(tmp_path, mlp, make, poison=37, steps=40)
    assert finding.kind == "not finite"
    assert finding.evidence.startswith("Step 37: the gradient of layer 9 Linear")
    assert "1 of its 50176 values is not finite, first in sample 3" in finding.evidence
    assert "clean the data" in finding.try_this


@pytest.mark.parametrize("case", ["sigmoid", "small weights"])
def test_vanishing_gradients(case, tmp_path):
    def make():
        if case == "sigmoid":
            return mlp(nn.Sigmoid, (100,) * 5)
        return initialize(mlp(hidden=(100,) * 5), std=0.01)

    (finding,) = findings(tmp_path, make, lambda made: OPTIMIZERS["SGD"](made.parameters()))
    assert finding.kind == "vanishing gradients"
    assert finding.layers[0] == "0 Linear"
    assert "initialize" in finding.try_this


def test_a_learning_rate_that_is_far_too_low(tmp_path):
    (finding,) = findings(
        tmp_path, mlp, lambda made: torch.optim.SGD(made.parameters(), lr=1e-4), steps=60
    )
    assert finding.kind == "learning rate too low"


@pytest.mark.parametrize(
    ("ratios", "losses", "named"),
    [
        ([50, 0.4, 0.01], [2.3, 1.0, 0.5], False),
        ([0.5, 0.01, 0.01], [2.3, 5.0, 2.0], True),
        ([0.5, 0.01, 0.01], [2.3, 5.0, 0.5], False),
        ([0.5, 0.01, 0.01], [2.3, 500, 0.5], True),
        ([0.5, 0.4, 0.01], [2.3, 2.2, 2.25], False),
        ([0.5, 0.4] + [0.01] * 6, [2.3, 2.2, 2.25, 2.3, 2.25, 2.3, 2.25, 2.3], True),
        ([0.5, 0.4] + [0.01] * 6, [2.3, 2.3, 2.27, 2.25, 2.22, 2.2, 2.15, 2.12], False),
        ([0.2, 0.2, 0.2], [-2.3, -2.31, -2.29], False),
        ([0.2, 0.2, 0.2], [0.0, 0.1, 0.0], False),
        ([0.05, 0.05, 0.05], [2.3, 5.0, 9.0], False),
    ],
)
def test_large_steps_are_a_finding_where_they_do_harm(ratios, losses, named):
    """The loss rises to more than twice its first and has not been halved, or twenty times; or it
    has not fallen in eight records, and is not about to."""
    history = History()
    for i, (ratio, loss) in enumerate(zip(ratios, losses, strict=True)):
        layers = {f"update to weight/{name}": ratio for name in "abc"}
        sizes = {"weight norm/a": 1.0, "gradient norm/a": 1.0}
        history.add(i + 1, {"loss": loss, **sizes, **layers})
    assert ["learning rate too high"] * named == [each.kind for each in diagnose(history)]


def test_a_gradient_that_explodes_once():
    history = History()
    for step in range(10, 200, 10):
        history.add(step, {"gradient norm/[all]": 2e3 if step == 100 else 1.0})
    (finding,) = diagnose(history)
    assert finding.kind == "exploding gradients"
    assert "In step 100" in finding.evidence


@pytest.mark.parametrize("rule", only(["Adam"], OPTIMIZERS))
def test_weights_that_start_at_0_are_no_sign_of_large_steps(rule, tmp_path):
    def zero():
        model = nn.Linear(784, 10)
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        return model

    assert findings(tmp_path, zero, lambda made: OPTIMIZERS[rule](made.parameters())) == []


def test_a_run_without_any_curve_has_no_finding():
    assert diagnose(History()) == []


def test_a_long_history_keeps_its_ends():
    history = History()
    for step in range(1, 3000):
        history.add(step, {"a": float(step)})
    steps = history.steps("a")
    assert len(steps) <= 400
    assert (steps[0], steps[-1]) == (1, 2999)
    assert (history.values("a") == steps).all()
    assert (steps[1:] > steps[:-1]).all()
