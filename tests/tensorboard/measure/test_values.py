"""The curves hold what a direct computation in NumPy gives."""

import math
import time

import numpy as np
import pytest
import torch
from torch import nn

from tests.tensorboard.trainings import RECORDED, batches, mlp, watched_by_hand
from torchopt_ref.tensorboard import Monitor


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


def test_noise_scale_has_no_unit(tmp_path, read):
    scales, model = [], mlp(hidden=(5,))
    for factor in (1, 1024):
        optimizer = torch.optim.SGD(model.parameters(), lr=0)
        with Monitor(model, optimizer, tmp_path / str(factor), every=2):
            for x, y in batches(4):
                optimizer.zero_grad()
                (factor * nn.functional.cross_entropy(model(x), y)).backward()
                optimizer.step()
        scales.append(read(tmp_path / str(factor))["gradient noise scale/[all]"])
    assert scales[0] == scales[1] != {}


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


@pytest.mark.parametrize("count", [8, 40_000])
def test_labels_may_be_written_to_the_same_memory_in_every_step(count, tmp_path, read):
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    output = torch.eye(3)[torch.arange(count) % 3]
    target = torch.empty(count, dtype=torch.long)
    with Monitor(model, optimizer, tmp_path, every=4, step=4) as monitor:
        for right in (0, 1, 2, 1):
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
            target.fill_(right)
            monitor.log(output=output, target=target)
        confusion = monitor._session._logged.confusion
    assert read(tmp_path)["accuracy"] == {8: pytest.approx(1 / 3, abs=1 / count)}
    assert confusion.sum(1).tolist() == [count, 2 * count, count]


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
                optimizer.param_groups[0]["betas"] = (0.8, 0.999)
    run = read(tmp_path)
    assert run["learning rate/group 0"] == {
        1: pytest.approx(0.1),
        2: pytest.approx(0.05),
        4: pytest.approx(0.0125),
        6: pytest.approx(0.003125),
    }
    assert run["weight decay/group 0"] == {4: 0.25, 6: 0.25}
    assert run["beta1/group 0"] == {4: pytest.approx(0.8), 6: pytest.approx(0.8)}
    assert "beta2/group 0" not in run.scalars
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


def test_a_step_without_any_gradient_has_nothing_to_compare_the_next_with(tmp_path, read):
    model = mlp(hidden=(30,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, every=2):
        for step, (x, y) in enumerate(batches(8), start=1):
            optimizer.zero_grad()
            if step != 3:
                nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    run = read(tmp_path)
    assert list(run["update to weight/[all]"]) == [1, 2, 4, 6, 8]
    assert list(run["gradient cosine/[all]"]) == [2, 6, 8]


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


def test_a_slot_that_overflowed_is_infinite_without_a_warning(tmp_path, read, recwarn):
    param = nn.Parameter(torch.ones(3))
    model = nn.ParameterList([param])
    optimizer = torch.optim.Adam(model.parameters())
    with Monitor(model, optimizer, tmp_path, record="slots"):
        param.grad = torch.tensor([1.0, 1e30, 2.0])  # whose square is infinite in float32
        optimizer.step()
    assert read(tmp_path)["slot size/exp_avg_sq"][1] == math.inf
    assert not [each for each in recwarn if each.category is RuntimeWarning]


class Slow(torch.optim.SGD):
    def step(self, closure=None):
        time.sleep(0.01)
        super().step(closure)


def test_speed_and_memory(tmp_path, read):
    """Each part of a step sleeps: it takes at least as long, and they together the whole."""
    model = mlp(hidden=(20,))
    model[0].register_forward_hook(lambda *_: time.sleep(0.02))
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
    assert run["memory/of the process [MiB]"][8] > 50


LOGGED = {"loss", "accuracy", "classes", "cross-entropy of the output"}
GROUPS = {
    "updates": {
        *("learning rate", "weight norm", "gradient norm", "update norm", "update to weight"),
        *("effective step", "gradient cosine", "gradient noise scale"),
        *("update to weight, log10", "gradient norm, log10"),
    },
    "slots": {"slot size"},
    "activations": {"activation mean", "activation std", "activation gradient std", "saturated"},
    "drift": {"parity drift"},
    "health": {"gradient carried over", "model input", "model output"},
    "speed": {"step time", "speed", "memory"},
    "pictures": set(),
    "graph": set(),
}


def test_record_chooses_what_is_written(tmp_path, read):
    for quantity in Monitor.QUANTITIES:
        model = mlp(nn.Tanh, hidden=(20,))
        folder = tmp_path / quantity
        optimizer = torch.optim.Adam(model.parameters())
        watched_by_hand(model, optimizer, folder, steps=10, record=[quantity])
        groups = {tag.partition("/")[0] for tag in read(folder).scalars} - LOGGED
        assert groups == GROUPS[quantity], quantity


def logged_by_hand(folder, logs, order):
    """Steps, ``logs`` being what each logs, before or after it; records at 1, 2, 4, 5, 10 ..."""
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, folder, every=5) as monitor:
        for given in logs:
            model(torch.ones(2, 4)).sum().backward()
            if order == "before":
                monitor.log(**given)
            optimizer.step()
            if order == "after":
                monitor.log(**given)


def scores_and_labels(seed):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (40,), generator=draw)
    labels[:5] = -100
    return torch.randn(40, 3, generator=draw), labels


@pytest.mark.parametrize("order", ["before", "after"])
def test_classes_are_counted_since_the_last_record(order, tmp_path, read):
    given = [scores_and_labels(seed) for seed in range(10)]
    logs = [{"loss": 1.0, "output": output, "target": target} for output, target in given]
    logged_by_hand(tmp_path, logs, order)
    run = read(tmp_path)
    for first, last in ((0, 1), (1, 2), (2, 4), (4, 5), (5, 10)):
        predicted = np.concatenate([output.argmax(1)[5:] for output, _ in given[first:last]])
        labels = np.concatenate([target[5:] for _, target in given[first:last]])
        said, true = np.bincount(predicted, minlength=3), np.bincount(labels, minlength=3)
        found = {name: run[f"classes/{name}"][last] for name in CLASSES}
        expected = said.max() / said.sum(), true.max() / true.sum(), 3
        assert list(found.values()) == pytest.approx(expected)
        batch = np.bincount(given[last - 1][1][5:], minlength=3)
        share, label = (
            run[f"classes/{name}"][last]
            for name in ("largest share in a batch", "most frequent label")
        )
        assert share == pytest.approx(batch.max() / batch.sum())
        assert batch[int(label)] == batch.max()
    assert run.steps("classes/number") == [1, 2, 4, 5, 10]


CLASSES = ("largest share of predictions", "largest share of labels", "number")


@pytest.mark.parametrize("how", ["tensors", "arrays", "float8"])
@pytest.mark.parametrize("order", ["before", "after"])
def test_cross_entropy_is_that_of_the_records_step(order, how, tmp_path, read):
    given = [scores_and_labels(seed) for seed in range(10)]
    if how == "float8":
        given = [(output.to(torch.float8_e4m3fn), target) for output, target in given]
    exact = [
        nn.functional.cross_entropy(output.double(), target).item() for output, target in given
    ]
    logs = [
        {
            "loss": 2.0 + step,
            "output": output.numpy() if how == "arrays" else output,
            "target": target.numpy() if how == "arrays" else target,
        }
        for step, (output, target) in enumerate(given)
    ]
    logged_by_hand(tmp_path, logs, order)
    run = read(tmp_path)
    steps = [1, 2, 4, 5, 10]
    mean = run["cross-entropy of the output/mean"]
    assert mean == pytest.approx({step: exact[step - 1] for step in steps})
    part = run["cross-entropy of the output/loss divided by it"]
    assert part == pytest.approx({step: (1.0 + step) / exact[step - 1] for step in steps})


def test_the_cross_entropy_of_whole_numbers_is_not_taken(tmp_path, read):
    logs = [{"output": torch.eye(3, dtype=torch.int64), "target": torch.arange(3)}] * 2
    logged_by_hand(tmp_path, logs, "after")
    run = read(tmp_path)
    assert run["accuracy"] == {1: 1, 2: 1}
    assert not [tag for tag in run.scalars if tag.startswith("cross-entropy")]
