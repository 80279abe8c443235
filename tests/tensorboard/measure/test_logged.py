"""What log is given: any labels and any numbers are taken, or refused in words at the call."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from tests.tensorboard.trainings import UNDRAWN
from tests.thinned import only
from torchopt_ref.tensorboard import Monitor
from torchopt_ref.tensorboard.measure import pictures

NAN, INF = float("nan"), float("inf")


def step(folder, log, classes=4, every=1):
    """One step, in which ``log(monitor)`` is called; the monitor's confusion matrix after it."""
    model = nn.Linear(4, classes)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, folder, every=every, record=UNDRAWN) as monitor:
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        log(monitor)
        return monitor._session._logged.confusion


INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


OF_ALL = ("int8", "uint64")
"""One that torch can compute with and one that it cannot; the others are slow."""


@pytest.mark.parametrize(
    ("dtype", "classes"),
    [
        *only([(name, 20) for name in OF_ALL], [(name, 20) for name in INTEGERS]),
        *(("uint8", 200), ("int64", 100)),
    ],
)
def test_a_label_that_is_none_of_the_classes_is_ignored_in_every_dtype(
    dtype, classes, tmp_path, read
):
    dtype = getattr(torch, dtype)
    limits = torch.iinfo(dtype)
    others = {255, -100, -1, classes, limits.min, limits.max} & {*range(-200, 300), limits.max}
    others = [each for each in others if limits.min <= each <= limits.max and each >= classes]
    others += [each for each in (-1, -100, limits.min) if limits.min <= each < 0]
    right = list(range(classes))
    target = torch.tensor([*right, 0, *others], dtype=dtype)
    predicted = torch.tensor([*right, 1, *(0 for _ in others)])
    output = nn.functional.one_hot(predicted, classes).float()
    confusion = step(tmp_path, lambda monitor: monitor.log(output=output, target=target), classes)
    run = read(tmp_path)
    assert run["accuracy"][1] == pytest.approx(classes / (classes + 1))
    if others:
        assert run["labels ignored"][1] == pytest.approx(len(others) / len(target))
    else:
        assert "labels ignored" not in run.scalars
    if classes <= 100:
        expected = torch.eye(classes, dtype=torch.int64)
        expected[0, 1] = 1
        assert torch.equal(confusion, expected)
    else:
        assert confusion is None


def test_labels_of_two_classes_may_be_bool_and_those_of_one_sample_need_no_batch(tmp_path):
    scores = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])

    def log(monitor):
        monitor.log(output=scores, target=torch.tensor([True, True, False]))
        monitor.log(output=scores[0], target=torch.tensor(1))
        monitor.log(output=scores.numpy(), target=[0, 0, 0])

    assert step(tmp_path, log, 2).tolist() == [[1, 3], [1, 2]]


def test_pixels(tmp_path, read):
    target = torch.tensor([[[0, 255], [2, 1]]], dtype=torch.uint8)
    output = nn.functional.one_hot(torch.tensor([[[0, 1], [2, 2]]]), 3).movedim(-1, 1).half()
    confusion = step(tmp_path, lambda monitor: monitor.log(output=output, target=target))
    assert confusion.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    assert read(tmp_path)["labels ignored"][1] == 0.25


def test_where_all_labels_are_ignored_there_is_no_accuracy(tmp_path, read):
    target = torch.full((3,), -100)
    step(tmp_path, lambda monitor: monitor.log(output=torch.ones(3, 4), target=target))
    run = read(tmp_path)
    assert "accuracy" not in run.scalars
    assert run["labels ignored"][1] == 1


def test_ignored_samples_are_not_shown_as_taken_for_another_class(tmp_path, read):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    images = torch.rand(4, 1, 8, 8)
    for name, last in {"ignored": 255, "wrong": 1}.items():
        with Monitor(model, optimizer, tmp_path / name, every=1) as monitor:
            output = model(images)
            output.sum().backward()
            optimizer.step()
            target = output.argmax(1).to(torch.uint8)
            target[3] = last if last > 2 or target[3] != last else 2
            monitor.log(output=output, target=target)
            target.fill_(0)
    shown = {name: read(tmp_path / name).tags["images"] for name in ("ignored", "wrong")}
    assert shown["ignored"] == ["confusion matrix"]
    assert shown["wrong"] == ["confusion matrix", "taken for another class"]


def test_an_image_is_not_shown_for_the_prediction_of_a_later_pass_without_one(tmp_path, read):
    class Either(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 3)

        def forward(self, given):
            return self.linear(given["rows"] if isinstance(given, dict) else given)

    model, images = Either(), torch.rand(4, 64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, every=1) as monitor:
        model(images).sum().backward()
        output = model({"rows": torch.rand(4, 64)})
        optimizer.step()
        monitor.log(output=output, target=(output.argmax(1) + 1) % 3)
    assert read(tmp_path).tags["images"] == ["confusion matrix"]


@pytest.mark.parametrize(
    ("output", "target", "error", "words"),
    [
        (torch.ones(3, 4), torch.eye(4)[:3], TypeError, "integers: the target is torch.float32"),
        (torch.ones(3, 4), torch.zeros(3), TypeError, "Give the labels themselves"),
        (torch.ones(3), torch.ones(3).long(), ValueError, r"\(3,\) and \(3,\)"),
        (torch.ones(3, 4), torch.eye(4).long()[:3], ValueError, r"\(3, 4\) and \(3, 4\)"),
        (torch.ones(3, 5, 4), torch.ones(3, 5).long(), ValueError, "Move the classes"),
        (torch.ones(3, 1), torch.ones(3).long(), ValueError, "two classes at least"),
        (torch.ones(3, 4).cfloat(), torch.ones(3).long(), TypeError, "complex"),
        (torch.ones(3, 4, device="meta"), torch.ones(3).long(), TypeError, "meta"),
        ({"logits": 1}, torch.ones(3).long(), TypeError, "as tensors"),
        (torch.ones(3, 4), ["cat", "dog", "cat"], TypeError, "as tensors"),
    ],
)
def test_what_is_no_classification_is_refused_at_the_call(output, target, error, words, tmp_path):
    def log(monitor):
        with pytest.raises(error, match=words):
            monitor.log(loss=1.0, output=output, target=target)

    step(tmp_path, log)


def jagged():
    return torch.nested.nested_tensor([torch.ones(2), torch.full((4,), 4.0)], layout=torch.jagged)


TAKEN = {
    "bool": (torch.tensor([True, False, True, True]), 0.75),
    "integers": (torch.tensor([1, 2], dtype=torch.int8), 1.5),
    "uint64": (torch.tensor([1, 4], dtype=torch.uint64), 2.5),
    "bfloat16": (torch.tensor([1.5, 2.5], dtype=torch.bfloat16), 2.0),
    "float8": (torch.tensor([1.5, 2.5], dtype=torch.float8_e4m3fn), 2.0),
    "one float8": (torch.tensor(1.5).to(torch.float8_e5m2), 1.5),
    "float16": (torch.full((9,), 6e4, dtype=torch.float16), 6e4),
    "large": (torch.full((9,), 3e38), 3e38),
    "larger": (torch.full((9,), 1e300, dtype=torch.float64), torch.finfo(torch.float32).max),
    "sparse": (torch.eye(4).to_sparse(), 0.25),
    "sparse rows": (torch.eye(4).to_sparse_csr(), 0.25),
    "nested": (torch.nested.nested_tensor([torch.ones(2), torch.full((4,), 4.0)]), 3.0),
    "jagged": (jagged, 3.0),
    "quantized": (lambda: torch.quantize_per_tensor(torch.ones(3), 0.5, 0, torch.qint8), 1.0),
    "needs a gradient": (torch.ones(3, requires_grad=True) * 2, 2.0),
    "parameter": (nn.Parameter(torch.ones(2, 2)), 1.0),
    "NumPy": (np.float16(0.5), 0.5),
    "NumPy's bool": (np.bool_(True), 1.0),
    "array": (np.array([[1, 2], [3, 6]], dtype=np.uint8), 3.0),
    "masked": (np.ma.array([1.0, 9.0], mask=[False, True]), 1.0),
    "list of masked": ([np.ma.array([1, 9], mask=[0, 1]), 4], 2.5),
    "list": ([1, 2.5, True, np.int8(3)], 1.875),
    "lists": ([[1, 2, 3], (6,)], 3.0),
    "tensors": ([torch.ones(3, requires_grad=True), torch.tensor(5)], 2.0),
    "decimal": (Decimal("0.25"), 0.25),
    "fraction": (Fraction(1, 4), 0.25),
    "integer": (10**30, 1e30),
    "nan": (NAN, NAN),
    "inf": (-INF, -INF),
}


def test_whatever_holds_numbers_is_taken(tmp_path, read):
    given = {tag: value() if callable(value) else value for tag, (value, _) in TAKEN.items()}
    step(tmp_path, lambda monitor: monitor.log(**given))
    run = read(tmp_path)
    for tag, (_, expected) in TAKEN.items():
        assert run[tag][1] == pytest.approx(expected, nan_ok=True), tag


@pytest.mark.parametrize(
    "value",
    [
        *(None, "0.5", b"1", {}, {1.0}, object(), 1j, [1, None], ["a"], np.array(["a"])),
        *(np.array([1j]), torch.tensor(1j), torch.ones(2, device="meta"), np.array([None])),
        *(
            torch.ones(0),
            [],
            np.ones(0),
            np.ma.masked,
            10**400,
            Decimal("1e400"),
            (each for each in "ab"),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_holds_none_is_refused_by_the_curves_name_and_no_other_is_lost(value, tmp_path, read):
    def log(monitor):
        monitor.log(loss=1.0)
        with pytest.raises((TypeError, ValueError), match=r"^Monitor\.log\(mine=\.\.\.\) takes"):
            monitor.log(loss=3.0, mine=value)
        monitor.log(loss=2.0, other=1.0)

    step(tmp_path, log)
    run = read(tmp_path)
    assert run["loss"] == {1: 1.5}
    assert run["other"] == {1: 1.0}
    assert "update norm/[all]" in run.scalars


def test_an_accuracy_that_is_given_is_not_replaced(tmp_path, read):
    scores = torch.eye(4)

    def log(monitor):
        monitor.log(accuracy=0.25, output=scores, target=scores.argmax(1))

    assert step(tmp_path, log).trace() == 4
    assert read(tmp_path)["accuracy"] == {1: 0.25}


@pytest.mark.parametrize("reduce", [False, True])
def test_what_is_logged_after_the_last_record_is_written_on_leaving(reduce, tmp_path, read):
    """Such as the test of the trained model."""
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, reduce=reduce) as monitor:
        for number in range(1, 7):
            optimizer.step()
            monitor.log(loss=number)
        scores = torch.eye(4)
        monitor.log(**{"accuracy/test": 0.9}, output=scores, target=scores.argmax(1))
    run = read(tmp_path)
    assert run["loss"] == {1: 1, 2: 2, 4: 3.5, 6: 5.5}
    assert run["accuracy/test"] == run["accuracy"] | {6: pytest.approx(0.9)}


def test_where_no_step_is_seen_what_is_logged_is_written_with_a_finding(tmp_path, read):
    """The step() of some wrappers is not the one that is called."""
    model = nn.Linear(4, 4)
    base, other = (torch.optim.SGD(model.parameters(), lr=0.1) for _ in range(2))
    with Monitor(model, other, tmp_path, step=5) as monitor:
        for loss in (1.0, 2.0, 3.0):
            base.step()
            monitor.log(loss=loss)
    run = read(tmp_path)
    assert run["loss"] == {6: 2.0}
    assert "**no step was seen**" in run.text("diagnosis")


def test_pictures_are_of_the_batch_whose_predictions_are_logged(tmp_path, monkeypatch):
    """That is evaluation's where only its are."""
    drawn = []
    monkeypatch.setattr(
        pictures, "images_figure", lambda images, *classes: drawn.append(images) or Figure()
    )
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    training, evaluation = torch.zeros(4, 1, 8, 8), torch.ones(4, 1, 8, 8)
    with Monitor(model, optimizer, tmp_path) as monitor:
        model(training).sum().backward()
        optimizer.step()
        with torch.no_grad():
            output = model(evaluation)
        monitor.log(output=output, target=(output.argmax(1) + 1) % 3)
    assert [images.mean() for images in drawn] == [1]


def test_the_loss_is_refused_by_its_name(tmp_path):
    def log(monitor):
        with pytest.raises(TypeError, match=r"^Monitor\.log\(loss=\.\.\.\) .* it is complex: take"):
            monitor.log(loss=torch.tensor(1j))

    step(tmp_path, log)


ODD = "caf\udce9"
"""As Python has a name whose bytes are not UTF-8."""


def test_bytes_that_are_not_utf_8_are_written_by_their_numbers(tmp_path, read, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py", f"--data={ODD}", "\ud800"])
    model = nn.Sequential()
    model.add_module(ODD, nn.Linear(4, 4))
    model.add_module("relu" + ODD, nn.ReLU())
    optimizer = torch.optim.SGD([{"params": model.parameters(), ODD: ODD}], lr=0.1)
    config = {ODD: ODD, ("a", 1): [ODD], "large": 10**400, "many": 2**70}
    folder = tmp_path / ODD
    with Monitor({ODD: model}, {ODD: optimizer}, folder, every=1, config=config) as monitor:
        for _ in range(3):
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
            monitor.log(loss=1.0, **{ODD: 2.0, "\ud800": 3.0})
    run = read(folder.rename(tmp_path / "run"))  # TensorBoard cannot read it under that name.
    name = r"caf\udce9"
    assert run[name] == {1: 2.0, 2: 2.0, 3: 2.0}
    assert run[r"\ud800"][3] == 3.0
    assert set(run.scalars) >= {f"weight norm/{name}.{name}", f"update norm/[all of {name}]"}
    assert f"--data={name}" in run.text("settings and versions")
    hparams = {tag for tag in run._events.summary_metadata if tag.startswith("_hparams_")}
    assert len(hparams) == 3


def test_no_picture_pairs_an_input_with_the_predictions_of_another_step(tmp_path, monkeypatch):
    """Where passes are not hooked, such as in step 20, the input is not known."""
    drawn = []
    monkeypatch.setattr(pictures, "images_figure", lambda *wrong: drawn.append(wrong) or Figure())
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    kept = [torch.full((4, 1, 8, 8), float(step)) for step in range(1, 21)]
    with Monitor(model, optimizer, tmp_path, every=50) as monitor:
        for step, images in enumerate(kept, start=1):
            output = model(images)
            output.sum().backward()
            optimizer.step()
            output = nn.functional.one_hot(torch.full((4,), step % 3), 3)
            monitor.log(output=output, target=torch.full((4,), (step + 1) % 3))
    found = [(images.mean(), set(predicted)) for images, _, predicted in drawn]
    assert found == [(16, {16 % 3})]
