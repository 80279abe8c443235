"""What goes to the event file goes to every sink; a file of JSON lines is whole and resumes."""

import copy
import json
import pickle
import sys
import warnings

import pytest
import torch
from torch import nn

from tests.tensorboard.trainings import UNDRAWN, batches, killed, mlp, train
from torchopt_ref.errors import UserError
from torchopt_ref.tensorboard import JsonLines, Monitor


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self):
        self.calls = []

    def log(self, data, step):
        self.calls.append((step, data))

    def points(self, tag):
        return {step: data[tag] for step, data in self.calls if tag in data}


class Failing(Kept):
    def log(self, data, step):
        super().log(data, step)
        if step > 2:
            raise ConnectionError("no route")


def watched(folder, *sinks, steps=12, step=0, lr=0.1, poison=None, **options):
    torch.manual_seed(0)
    model = mlp(hidden=(10,))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    options |= {"every": 4, "step": step, "sinks": sinks, "record": UNDRAWN}
    with Monitor(model, optimizer, folder, **options) as monitor:
        train(model, optimizer, monitor, steps=steps, poison=poison)
    return model


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_curve_and_text_of_the_event_file_goes_to_each_sink(tmp_path, read):
    sink, other = Kept(), Kept()
    model = watched(tmp_path, sink, other)
    run = read(tmp_path)
    for tag in run.scalars:
        points = sink.points(tag)
        assert list(points) == run.steps(tag), tag
        assert list(points.values()) == pytest.approx(list(run[tag].values()), rel=1e-6), tag
    for tag in ("diagnosis", "settings and versions"):
        assert list(sink.points(tag).values())[-1] == run.text(tag)
    first = sink.calls[0]
    assert (first[0], list(first[1])) == (1, ["settings and versions"])
    assert sink.calls == other.calls
    for each, same in zip(model.parameters(), watched(tmp_path).parameters(), strict=True):
        assert torch.equal(each, same)


def test_a_sink_owns_what_it_is_given(tmp_path):
    """It may change it."""

    class Greedy:
        def log(self, data, step):
            data.clear()

    sink = Kept()
    watched(tmp_path, Greedy(), sink)
    assert len(sink.points("loss")) == 5


def test_findings_and_notes_reach_sinks(tmp_path):
    sink = Kept()
    with pytest.warns(RuntimeWarning, match="not finite at step 6"):
        watched(tmp_path, sink, poison=6)
    assert "step 6" in sink.points("not finite")[6]
    assert "**not finite**" in sink.points("diagnosis")[6]
    assert sink.points("first step with a value that is not finite") == {6: 6.0}
    model = nn.Linear(784, 10)
    optimizer = torch.optim.Adamax(model.parameters())
    with Monitor(model, optimizer, tmp_path, record=UNDRAWN, sinks=[sink]) as monitor:
        train(model, optimizer, monitor, steps=2)
    notes = [data["notes"] for _, data in sink.calls if "notes" in data]
    assert len(notes) == 2
    assert "no activation layers" in notes[0]
    assert "no NumPy reference" in notes[1]


def test_a_sink_that_fails_is_one_warning_and_left_out(tmp_path, read):
    failing, sink = Failing(), Kept()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watched(tmp_path, failing, sink)
    assert [str(each.message) for each in caught] == [
        "the sink Failing failed at step 4, training goes on without it: "
        "ConnectionError('no route')"
    ]
    assert failing.calls[-1][0] == 4
    assert list(sink.points("loss")) == read(tmp_path).steps("loss") == [1, 2, 4, 8, 12]


@pytest.mark.parametrize("sinks", [[print], 5, ["file.jsonl"]], ids=str)
def test_what_cannot_log_is_a_users_error(tmp_path, sinks):
    model = mlp(hidden=(10,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UserError, match=r"sinks need a method log\(dict, step\), which .* lacks"):
        Monitor(model, optimizer, tmp_path, sinks=sinks)


def test_a_copy_of_a_monitor_leaves_its_sinks_behind(tmp_path):
    """They may hold what cannot be copied, such as a connection."""
    sink = Kept()
    sink.file = sys.stdin
    model = mlp(hidden=(10,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(
        model, optimizer, tmp_path, sinks=[sink], on_finding=lambda finding: None
    ) as monitor:
        train(model, optimizer, monitor, steps=2)
        for twin in (copy.deepcopy(monitor), pickle.loads(pickle.dumps(monitor))):
            assert twin.step == 2


def test_json_lines_hold_the_record_and_null_for_what_is_not_finite(tmp_path):
    path = tmp_path / "new" / "metrics.jsonl"
    with pytest.warns(RuntimeWarning, match="not finite at step 6"):
        watched(tmp_path / "run", JsonLines(path), poison=6)
    assert "NaN" not in path.read_text()
    losses = {each["step"]: each["loss"] for each in lines(path) if "loss" in each}
    assert list(losses) == [1, 2, 4, 8, 12]
    assert losses[4] > 0
    assert losses[8] is losses[12] is None
    assert [each["step"] for each in lines(path) if "not finite" in each] == [6]


def test_names_are_written_as_they_are_and_the_step_is_the_records(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["caf\udce9.py"])
    path = tmp_path / "metrics.jsonl"
    model = mlp(hidden=(10,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, record=(), sinks=[JsonLines(path)]) as monitor:
        model(torch.ones(1, 784)).sum().backward()
        optimizer.step()
        monitor.log(**{"präzision": 0.5, "caf\udce9": 1, "step": 77})
    assert {"step": 1, "präzision": 0.5, "caf\\udce9": 1.0} in lines(path)
    assert "caf\\udce9.py" in lines(path)[0]["settings and versions"]


def test_a_resumed_session_replaces_later_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    sink = JsonLines(path)

    def losses():
        return {each["step"]: each["loss"] for each in lines(path) if "loss" in each}

    watched(tmp_path, sink, steps=16)
    old = losses()
    watched(tmp_path, JsonLines(path), steps=13, step=7)
    new = losses()
    assert [each["step"] for each in lines(path) if "loss" in each] == list(new)
    assert list(new) == [1, 2, 4, 8, 12, 16, 20]
    assert {step: new[step] for step in (1, 2, 4)} == {step: old[step] for step in (1, 2, 4)}
    assert new[12] != old[12]
    assert [each["step"] for each in lines(path) if "settings and versions" in each] == [1, 8]
    watched(tmp_path, sink, steps=4)
    assert list(losses()) == [1, 2, 4]


def test_half_a_line_of_a_killed_session_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    watched(tmp_path, JsonLines(path), steps=8)
    whole = path.read_bytes()
    for cut in (1, 7, 300):
        path.write_bytes(whole[:-cut])
        watched(tmp_path, JsonLines(path), steps=4, step=8)
        assert lines(path)[-1]["step"] == 12


def test_after_kill_9_every_record_that_was_made_is_a_line(starter, tmp_path):
    said = killed(starter, tmp_path, 5)
    *whole, _ = (tmp_path / "a.jsonl").read_bytes().split(b"\n")
    steps = [each["step"] for each in map(json.loads, whole) if "loss" in each]
    assert steps[:6] == [1, 2, 4, 5, 10, 15]
    assert steps[4:] == list(range(10, steps[-1] + 1, 5))
    assert steps[-1] >= said - 1


def test_a_file_of_something_else_is_not_touched(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for content in ("hello", "hello\n", "[1]\n", '{"loss": 1}\n', '{"step": 1}\nhello'):
        path.write_text(content)
        with pytest.raises(UserError, match="holds something else than JsonLines writes"):
            JsonLines(path)
        assert path.read_text() == content


def test_a_path_that_cannot_be_written_is_a_users_error(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "below.jsonl", "/dev/full"):
        with pytest.raises(UserError, match="give JsonLines another path"):
            JsonLines(path)


def test_a_disk_that_becomes_full_is_one_warning(tmp_path):
    path = tmp_path / "metrics.jsonl"
    sink = JsonLines(path)
    model = mlp(hidden=(10,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        warnings.catch_warnings(record=True) as caught,
        Monitor(model, optimizer, tmp_path / "run", every=1, record=(), sinks=[sink]) as monitor,
    ):
        warnings.simplefilter("always")
        for step, (x, _) in enumerate(batches(4), start=1):
            if step == 3:  # The record of step 2 is written when the model is called.
                path.unlink()
                path.symlink_to("/dev/full")
            model(x).sum().backward()
            optimizer.step()
            monitor.log(loss=step)
    assert [str(each.message).partition(",")[0] for each in caught] == [
        "the sink JsonLines failed at step 2"
    ]
    assert monitor.step == 4
