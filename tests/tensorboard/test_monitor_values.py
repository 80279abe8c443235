"""The curves hold what a direct computation in NumPy gives."""

import re
import time
from importlib.metadata import version

import numpy as np
import pytest
import torch
from torch import nn
from trainings import batches, mlp

import torchopt_ref.nn
import torchopt_ref.optim
from torchopt_ref.tensorboard import Monitor

RECORDED = [1, 2, 4, 8, 10, 20, 30]


def arrays(tensors):
    return [tensor.detach().double().numpy().copy() for tensor in tensors]


def watched_by_hand(model, optimizer, folder, steps=30, **options):
    """Train, and keep weights before, gradients and weights after each step beside the monitor."""
    kept = {}
    params = [param for group in optimizer.param_groups for param in group["params"]]
    with Monitor(model, optimizer, folder, every=10, **options) as monitor:
        for step, (x, y) in enumerate(batches(steps), start=1):
            optimizer.zero_grad()
            output = model(x)
            loss = nn.functional.cross_entropy(output, y)
            loss.backward()
            before, gradients = arrays(params), arrays(param.grad for param in params)
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)
            right = int((output.argmax(1) == y).sum())
            kept[step] = before, gradients, arrays(params), loss.item(), right
    return kept


def norm(arrays):
    return np.sqrt(sum((array**2).sum() for array in arrays))


@pytest.fixture(scope="module")
def two_groups(tmp_path_factory):
    """A training with two param groups, the second of which has another learning rate."""
    torch.manual_seed(1)
    model = mlp(hidden=(30,))
    groups = [{"params": model[0].parameters()}, {"params": model[3].parameters(), "lr": 0.02}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    folder = tmp_path_factory.mktemp("run")
    return folder, watched_by_hand(model, optimizer, folder)


LAYERS = {"0 Linear": slice(0, 2), "3 Linear": slice(2, 4), "[all]": slice(0, 4)}
LR = np.array([0.1, 0.1, 0.02, 0.02])


@pytest.mark.parametrize("layer", LAYERS)
def test_norms_and_ratios(layer, two_groups, read):
    folder, kept = two_groups
    run, part = read(folder), LAYERS[layer]
    for step in RECORDED:
        before, gradients, after, *_ = (each[part] for each in kept[step][:3])
        updates = [a - b for a, b in zip(before, after, strict=True)]
        per_lr = [u / lr for u, lr in zip(updates, LR[part], strict=True)]
        expected = {
            "weight norm": norm(before),
            "gradient norm": norm(gradients),
            "update norm": norm(updates),
            "update to weight": norm(updates) / norm(before),
            "effective step": norm(per_lr) / np.sqrt(sum(each.size for each in before)),
        }
        for quantity, value in expected.items():
            assert run[f"{quantity}/{layer}"][step] == pytest.approx(value, rel=2e-5), quantity
    assert run.steps(f"weight norm/{layer}") == RECORDED


def test_a_group_is_a_layer_of_its_own(two_groups, read):
    run = read(two_groups[0])
    for number, layer in enumerate(("0 Linear", "3 Linear")):
        for quantity in ("weight norm", "update to weight", "gradient cosine"):
            assert run[f"{quantity}/[group {number}]"] == run[f"{quantity}/{layer}"]
    assert list(run["learning rate/group 0"].values()) == pytest.approx([0.1] * len(RECORDED))
    assert list(run["learning rate/group 1"].values()) == pytest.approx([0.02] * len(RECORDED))


def test_quantiles_over_layers(two_groups, read):
    run = read(two_groups[0])
    for quantity in ("update to weight", "gradient norm"):
        for step in RECORDED:
            values = [run[f"{quantity}/{layer}"][step] for layer in ("0 Linear", "3 Linear")]
            assert run[f"{quantity}/[largest]"][step] == max(values)
            assert run[f"{quantity}/[smallest]"][step] == min(values)
            assert run[f"{quantity}/[median]"][step] == pytest.approx(np.mean(values))


@pytest.mark.parametrize("layer", LAYERS)
def test_cosine_of_successive_gradients(layer, two_groups, read):
    folder, kept = two_groups
    run = read(folder)
    assert run.steps(f"gradient cosine/{layer}") == RECORDED[1:]
    for step in RECORDED[1:]:
        old, new = kept[step - 1][1][LAYERS[layer]], kept[step][1][LAYERS[layer]]
        dot = sum((a * b).sum() for a, b in zip(old, new, strict=True))
        expected = dot / norm(old) / norm(new)
        assert run[f"gradient cosine/{layer}"][step] == pytest.approx(expected, abs=1e-5)


def test_noise_scale_is_that_of_mccandlish(two_groups, read):
    """By his formulas for two batch sizes: that of a step, and of both steps together."""
    folder, kept = two_groups
    points = read(folder)["gradient noise scale/[all]"]
    small, big = 64, 128
    averages = None
    for step in RECORDED[1:]:
        old, new = (np.concatenate([g.ravel() for g in kept[s][1]]) for s in (step - 1, step))
        small_square = (old @ old + new @ new) / 2
        both = (old + new) / 2
        signal = (big * (both @ both) - small * small_square) / (big - small)
        noise = (small_square - both @ both) / (1 / small - 1 / big)
        found = np.array([noise, signal])
        averages = found if averages is None else 0.9 * averages + 0.1 * found
        if averages[1] > 0:
            assert points[step] == pytest.approx(averages[0] / averages[1], rel=1e-5)
        else:
            assert step not in points


def test_loss_and_accuracy_are_means_since_the_last_record(two_groups, read):
    folder, kept = two_groups
    run = read(folder)
    for last, step in zip([0, *RECORDED], RECORDED, strict=False):
        steps = range(last + 1, step + 1)
        loss = np.mean([kept[each][3] for each in steps])
        accuracy = sum(kept[each][4] for each in steps) / 64 / len(steps)
        assert run["loss"][step] == pytest.approx(loss, rel=1e-6)
        assert run["accuracy"][step] == pytest.approx(accuracy, rel=1e-6)


@pytest.mark.parametrize("classes", [10, 200])
def test_accuracy_and_confusion_leave_out_what_a_loss_ignores(classes, tmp_path, read):
    model = nn.Linear(4, classes)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    output = torch.randn(8, classes, 5)
    target = torch.randint(classes, (8, 5))
    target[:, 0] = output.argmax(1)[:, 0]
    target[:4] = -100
    with Monitor(model, optimizer, tmp_path, every=1) as monitor:
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        monitor.log(output=output, target=target)
        confusion = monitor._session._logged.confusion
    right = (output.argmax(1) == target)[4:]
    assert read(tmp_path)["accuracy"][1] == pytest.approx(right.float().mean().item())
    if classes == 10:
        assert confusion.sum() == 20
        assert confusion.diag().sum() == right.sum()
        for true, predicted in zip(target[4:].ravel(), output.argmax(1)[4:].ravel(), strict=True):
            assert confusion[true, predicted] > 0
    else:
        assert confusion is None


def test_scheduled_values(tmp_path, read):
    model = mlp(hidden=(5,))
    # Its first step is lr to each side, but for what eps is beside the gradient.
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, eps=1e-30)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    with Monitor(model, optimizer, tmp_path, every=2):
        for step, (x, y) in enumerate(batches(6), start=1):
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            if step == 3:
                optimizer.param_groups[0]["weight_decay"] = 0.25
    run = read(tmp_path)
    assert run["learning rate/group 0"] == {
        1: pytest.approx(0.1),
        2: pytest.approx(0.05),
        4: pytest.approx(0.0125),
        6: pytest.approx(0.003125),
    }
    assert run["weight decay/group 0"] == {4: 0.25, 6: 0.25}
    assert "beta1/group 0" not in run.scalars
    assert run["effective step/3 Linear"][1] == pytest.approx(1, rel=1e-5)


class Child(torch.optim.SGD):
    """Torch calls the hooks of a step for it and for its parent, once that has been made."""

    def step(self, closure=None):
        return super().step(closure)


def test_a_step_counts_once_where_hooks_are_called_twice(tmp_path, read):
    for cls in (torch.optim.SGD, Child):
        torch.manual_seed(0)
        model = mlp(hidden=(30,))
        watched_by_hand(model, cls(model.parameters(), lr=0.1), tmp_path / cls.__name__)
    parent, child = (read(tmp_path / name) for name in ("SGD", "Child"))
    assert list(child["gradient norm/[all]"]) == RECORDED
    for tag in ("update to weight/[all]", "gradient norm/[all]", "gradient cosine/[all]"):
        assert child[tag] == parent[tag]


def test_slots(tmp_path, read):
    model = mlp(hidden=(5,))
    optimizer = torch.optim.Adam(model.parameters())
    watched_by_hand(model, optimizer, tmp_path)
    run = read(tmp_path)
    bias = optimizer.state[model[0].bias]["exp_avg_sq"]
    samples = [
        state["exp_avg_sq"].ravel()[:: -(-param.numel() // 256)]
        for param, state in optimizer.state.items()
    ]
    assert any(torch.equal(each, bias) for each in samples)
    expected = torch.cat(samples).square().mean().sqrt().item()
    assert run["slot size/exp_avg_sq"][30] == pytest.approx(expected)
    histogram = run.histogram("slots/exp_avg_sq [log10]")[-1].histogram_value
    values = torch.cat(samples)
    assert histogram.num == (values > 0).sum()
    assert histogram.max == pytest.approx(values.max().log10().item(), rel=1e-5)


class Kept(nn.Module):
    """Keeps the output of a layer, and the gradient that comes back to it."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        self.y = self.layer(x)
        if self.y.requires_grad:
            self.y.retain_grad()
        return self.y


def test_activations(tmp_path, read):
    torch.manual_seed(0)
    relu, tanh, sigmoid = Kept(nn.ReLU()), Kept(nn.Tanh()), Kept(nn.Sigmoid())
    model = nn.Sequential(
        *(nn.Linear(784, 50), relu),
        *(nn.Linear(50, 40), tanh),
        *(nn.Linear(40, 30), sigmoid, nn.Linear(30, 10)),
    )
    with torch.no_grad():
        model[0].bias[:20] = -100
        model[2].weight *= 20
        model[4].weight *= 20
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    with Monitor(model, optimizer, tmp_path, every=1):
        for x, y in batches(1):
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    run = read(tmp_path)
    for name, kept in {"1": relu, "3": tanh, "5": sigmoid}.items():
        y = kept.y.detach().double().numpy()
        layer = f"{name}.layer"
        assert run[f"activation mean/{layer}"][1] == pytest.approx(y.mean(), rel=1e-5)
        assert run[f"activation std/{layer}"][1] == pytest.approx(y.std(), rel=1e-5)
        gradient = kept.y.grad.double().numpy().std()
        assert run[f"activation gradient std/{layer}"][1] == pytest.approx(gradient, rel=1e-5)
        histogram = run.histogram(f"activation/{layer}")[0].histogram_value
        assert histogram.num == min(y.size, 64 * 50)
        assert y.min() <= histogram.min <= histogram.max <= y.max() + 1e-6
    dead = (relu.y.detach().numpy() == 0).all(0).mean()
    assert 0.4 <= dead < 1
    assert run["dead units/1.layer"][1] == pytest.approx(dead)
    for name, kept in {"3": tanh, "5": sigmoid}.items():
        y = kept.y.detach().double().numpy()
        slope = 1 - y**2 if kept is tanh else 4 * y * (1 - y)
        expected = (slope < 0.05).mean()
        assert 0.05 < expected < 0.95
        assert run[f"saturated/{name}.layer"][1] == pytest.approx(expected)


def test_a_unit_is_dead_after_a_window_without_a_sign_of_life(tmp_path, read):
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    inputs = [[1.0, -1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0]]
    with Monitor(model, optimizer, tmp_path, every=1, window=2):
        for x in inputs:
            model(torch.tensor([x, x])).sum().backward()
            optimizer.step()
    assert list(read(tmp_path)["dead units/1 ReLU"].values()) == [0.5, 0.5, 0.5, 0.5, 1.0, 0.5]


@pytest.mark.parametrize(("shape", "units"), [((4, 6, 5, 5), 6), ((4, 5, 6), 6), ((4, 6), 6)])
def test_units_of_images_and_sequences(shape, units, tmp_path, read):
    model = nn.Sequential(nn.Identity(), nn.ReLU())
    x = torch.rand(shape) - 2
    x.view(-1)[7] = 1.0
    scale = nn.Parameter(torch.ones(()))
    optimizer = torch.optim.SGD([scale], lr=0.1)
    with Monitor(model, optimizer, tmp_path, every=1):
        model(x * scale).sum().backward()
        optimizer.step()
    assert read(tmp_path)["dead units/1 ReLU"][1] == pytest.approx(1 - 1 / units)


def test_maps_of_one_pixel_have_no_dead_units(tmp_path, read):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, every=1):
        model(torch.rand(2, 3, 5, 5)).sum().backward()
        optimizer.step()
    run = read(tmp_path)
    assert "activation mean/2 ReLU" in run.scalars
    assert not [tag for tag in run.scalars if tag.startswith("dead units")]


@pytest.mark.parametrize("layer", [nn.BatchNorm1d, torchopt_ref.nn.BatchNorm1d])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_running_against_batch(layer, momentum, tmp_path, read):
    norm = layer(784, momentum=momentum)
    model = nn.Sequential(norm, nn.Linear(784, 10))
    norm.running_mean.fill_(0.25)
    norm.running_var.fill_(0.75)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen = []
    with Monitor(model, optimizer, tmp_path, every=1):
        for x, y in batches(3):
            mean, var = norm.running_mean.clone(), norm.running_var.clone()
            shift = (x.mean(0) - mean).abs() / (var + norm.eps).sqrt()
            ratio = (x.var(0) + norm.eps) / (var + norm.eps)
            seen.append((shift.mean().item(), ratio.mean().item()))
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    run = read(tmp_path)
    name = f"0 {layer.__name__}"
    shifts, ratios = zip(*seen, strict=True)
    # The batch's statistics are read off running ones, which rounds ten times as coarsely.
    assert [*run[f"batch norm mean shift/{name}"].values()] == pytest.approx(shifts, rel=5e-5)
    assert [*run[f"batch norm variance ratio/{name}"].values()] == pytest.approx(ratios, rel=5e-5)


@pytest.mark.parametrize("layer", [nn.Dropout(0.3), torchopt_ref.nn.Dropout(0.3)])
def test_dropout_keep_rate(layer, tmp_path, read):
    kept = Kept(layer)
    model = nn.Sequential(nn.Linear(784, 100), nn.ReLU(), kept, nn.Linear(100, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, every=1):
        for x, y in batches(1):
            alive = (model[:2](x) != 0).sum().item()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    expected = (kept.y != 0).sum().item() / alive
    assert 0.6 < expected < 0.8
    assert read(tmp_path)["dropout keep rate/2.layer"][1] == pytest.approx(expected)


def test_drift_is_0_for_our_optimizers(tmp_path, read):
    ours = ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam", "AdamW")
    for name in ours:
        for convention in ("torch", "book") if name != "AdamW" else ("torch",):
            model = mlp(hidden=(20,))
            optimizer = getattr(torchopt_ref.optim, name)(model.parameters(), convention=convention)
            folder = tmp_path / f"{name}-{convention}"
            watched_by_hand(model, optimizer, folder, record=["drift"])
            run = read(folder)
            assert list(run["parity drift/NumPy largest"].values()) == [0] * len(RECORDED), folder
            assert run["parity drift/float64 largest"][30] > 0
            assert run["parity drift/float64 median"][30] < 1e4


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "RMSprop", "Adam", "AdamW"])
def test_drift_of_torchs_optimizers_is_small(name, tmp_path, read):
    model = mlp(hidden=(20,))
    options = {"momentum": 0.9, "nesterov": True} if name == "SGD" else {}
    optimizer = getattr(torch.optim, name)(
        model.parameters(), lr=0.01, weight_decay=0.01, **options
    )
    watched_by_hand(model, optimizer, tmp_path, record=["drift"])
    assert 0 <= read(tmp_path)["parity drift/NumPy median"][30] < 100


def test_drift_sees_another_learning_rate(tmp_path, read):
    """Parameters nudged after each step are taken over; a nudge inside of the step is drift."""

    for where in ("between", "inside"):
        model = mlp(hidden=(20,))
        optimizer = torchopt_ref.optim.SGD(model.parameters(), lr=0.1)

        def nudge(*_, model=model):
            with torch.no_grad():
                model[0].bias.mul_(1.0001)

        if where == "inside":
            optimizer.register_step_post_hook(nudge)
        with Monitor(model, optimizer, tmp_path / where, every=10, record=["drift"]):
            for x, y in batches(20):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
                if where == "between":
                    nudge()
    assert read(tmp_path / "between")["parity drift/NumPy largest"][20] == 0
    assert read(tmp_path / "inside")["parity drift/NumPy largest"][20] > 100


def test_drift_goes_on_from_an_optimizers_state(tmp_path, read):
    model = mlp(hidden=(20,))
    optimizer = torchopt_ref.optim.Adam(model.parameters())
    watched_by_hand(model, optimizer, tmp_path / "first", steps=7)
    watched_by_hand(model, optimizer, tmp_path / "second", record=["drift"])
    assert read(tmp_path / "second")["parity drift/NumPy largest"][30] == 0


def test_an_optimizer_without_a_reference_has_no_drift_but_a_note(tmp_path, read):
    model = mlp(hidden=(20,))
    watched_by_hand(model, torch.optim.Adamax(model.parameters()), tmp_path)
    run = read(tmp_path)
    assert not [tag for tag in run.scalars if "drift" in tag]
    assert "Adamax has no NumPy reference" in run.text("notes")


class Slow(torch.optim.SGD):
    def step(self, closure=None):
        time.sleep(0.01)
        super().step(closure)


def test_speed_and_memory(tmp_path, read):
    """Each part of a step sleeps: it takes at least as long, and they together the whole."""
    model = mlp(hidden=(20,))
    model.register_forward_hook(lambda *_: time.sleep(0.02))
    model[0].weight.register_hook(lambda _: time.sleep(0.03))

    def slow_batches():
        for batch in batches(8):
            time.sleep(0.04)
            yield batch

    optimizer = Slow(model.parameters())
    with Monitor(model, optimizer, tmp_path):
        for x, y in slow_batches():
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    run = read(tmp_path)
    least = {"optimizer": 10, "forward": 20, "backward": 30, "data": 40}
    for part, milliseconds in least.items():
        assert run[f"step time/{part} [ms]"][8] >= milliseconds
    whole = run["step time/whole step [ms]"][8]
    assert whole >= sum(least.values())
    assert run["speed/samples per second"][8] == pytest.approx(64e3 / whole)
    assert run["memory/peak of the process [MiB]"][8] > 50


def test_text_of_the_run(tmp_path, read):
    model = mlp(hidden=(20,))
    torch.manual_seed(1234)
    config = {"model": "an mlp", "width": 20}
    watched_by_hand(model, torch.optim.Adam(model.parameters()), tmp_path, config=config)
    run = read(tmp_path)
    about = run.text("settings and versions")
    assert "`1234`" in about
    assert f"`{version('torch')}`" in about
    assert "betas: (0.9, 0.999)" in about
    assert '"width": 20' in about
    # TensorBoard shows texts in this order: what is wrong stands first.
    texts = sorted(tag for tag in run.tags["tensors"] if tag.endswith("/text_summary"))
    assert texts[0] == "diagnosis/text_summary"
    assert "graph" not in run.tags or not run.tags["graph"]
    hparams = {tag for tag in run._events.summary_metadata if tag.startswith("_hparams_")}
    assert hparams == {
        "_hparams_/experiment",
        "_hparams_/session_start_info",
        "_hparams_/session_end_info",
    }


def test_figures_and_graph(tmp_path, read):
    model = mlp(hidden=(20,))
    watched_by_hand(
        model, torch.optim.SGD(model.parameters(), lr=0.1), tmp_path, record=Monitor.QUANTITIES
    )
    run = read(tmp_path)
    assert run.tags["images"] == ["confusion matrix", "taken for another class"]
    assert run.tags["graph"]


def test_record_chooses_what_is_written(tmp_path, read):
    for quantity in Monitor.QUANTITIES:
        model = mlp(nn.Tanh, hidden=(20,))
        folder = tmp_path / quantity
        watched_by_hand(model, torch.optim.Adam(model.parameters()), folder, record=[quantity])
        groups = {tag.partition("/")[0] for tag in read(folder).scalars} - {"loss", "accuracy"}
        assert groups == GROUPS[quantity], quantity


GROUPS = {
    "updates": {
        *("learning rate", "weight norm", "gradient norm", "update norm", "update to weight"),
        *("effective step", "gradient cosine", "gradient noise scale"),
    },
    "slots": {"slot size"},
    "activations": {"activation mean", "activation std", "activation gradient std", "saturated"},
    "drift": {"parity drift"},
    "health": {"gradient carried over"},
    "speed": {"step time", "speed", "memory"},
    "pictures": set(),
    "graph": set(),
}


def dashboard(run):
    """The charts of each category."""
    from tensorboard.plugins.custom_scalar import layout_pb2

    event = run._events.Tensors("custom_scalars__config__")[-1]
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    return {category.title: list(category.chart) for category in layout.category}


def test_every_chart_of_the_dashboard_has_its_curves(tmp_path, read):
    model = nn.Sequential(mlp(), nn.BatchNorm1d(10), nn.Dropout(0.1), nn.Sigmoid())
    watched_by_hand(model, torch.optim.Adam(model.parameters()), tmp_path)
    run = read(tmp_path)
    charts = [chart for each in dashboard(run).values() for chart in each]
    assert len(charts) == 23
    for chart in charts:
        for pattern in chart.multiline.tag:
            assert any(re.search(pattern, tag) for tag in run.scalars), pattern
        for series in chart.margin.series:
            assert {series.value, series.lower, series.upper} <= set(run.scalars)
            low, high = run[series.lower][8], run[series.upper][8]
            assert low < 1e-3 < high
            assert high / low == pytest.approx(10)
    # One scale would hide the first, which is 0 or small, behind the second.
    exact = {chart.title: [*chart.multiline.tag] for chart in dashboard(run)[EXACT]}
    assert exact == {
        "parity drift from NumPy (ULP)": ["^parity drift/NumPy"],
        "parity drift from float64 (ULP)": ["^parity drift/float64"],
    }


EXACT = "Is it computed exactly?"


def test_the_dashboard_has_no_empty_chart(tmp_path, read):
    """It is written again when there are new curves, here from the third step on."""
    model = mlp(hidden=(5,))
    optimizer = torch.optim.Adamax(model.parameters())
    with Monitor(model, optimizer, tmp_path, every=2) as monitor:
        for step, (x, y) in enumerate(batches(6), start=1):
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if step >= 3:
                monitor.log(loss=loss)
    run = read(tmp_path)
    shown = {title: [chart.title for chart in each] for title, each in dashboard(run).items()}
    assert shown["Is it learning?"] == ["loss", "learning rate"]
    assert EXACT not in shown
    assert "saturated (fraction), over layers" not in shown["Are the layers alive?"]


def test_a_chart_with_a_band_for_each_optimizer(tmp_path, read):
    model = mlp(hidden=(5,))
    optimizers = {
        "first": torch.optim.SGD(model[0].parameters()),
        "last": torch.optim.SGD(model[3].parameters()),
    }
    with Monitor(model, optimizers, tmp_path):
        for x, y in batches(1):
            nn.functional.cross_entropy(model(x), y).backward()
            for optimizer in optimizers.values():
                optimizer.step()
    charts = dashboard(read(tmp_path))["Are the steps of a good size?"]
    bands = {chart.title: chart.margin.series[0].value for chart in charts if chart.margin.series}
    assert bands == {
        f"update to weight, band around 1e-3 of {name}": f"update to weight/[median of {name}]"
        for name in optimizers
    }
