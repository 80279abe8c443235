"""``torchopt-ref inspect`` and ``torchopt-ref tensorboard``, through the command line."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from torch import nn

from tests.tensorboard.trainings import UNDRAWN, initialize, mlp, train
from torchopt_ref.cli import main
from torchopt_ref.tensorboard import Monitor, NonFiniteError
from torchopt_ref.tensorboard.read.inspection import inspect, sparkline
from torchopt_ref.tensorboard.write.event_file import EventFile, scalar_values


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs, one of which is saturated."""
    folder = tmp_path_factory.mktemp("runs")
    for name, std in (("healthy", None), ("saturated", 1.0)):
        torch.manual_seed(0)
        model = initialize(mlp(nn.Tanh, (100,)), std=std)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        with Monitor(model, optimizer, folder / name, every=10, record=UNDRAWN) as monitor:
            train(model, optimizer, monitor, steps=60)
    return folder


def test_a_healthy_run(runs, capsys):
    assert main(["inspect", str(runs / "healthy")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    first, *lines = out.splitlines()
    assert first == f"{runs / 'healthy'}, 60 steps"
    curves = [line.split("  ")[1].strip() for line in lines if " -> " in line]
    assert curves[:4] == [
        *("loss", "accuracy", "learning rate/group 0", "update to weight/[median]"),
    ]
    assert re.search("loss +█.*▁ +2\\.3.* -> 0\\.\\d+", out)
    assert "Worst layers" not in out
    assert lines[-1] == "Nothing stands out."
    assert inspect(runs / "healthy").worst == []


def test_a_broken_run_names_layer_evidence_and_what_to_try(runs, capsys):
    assert main(["inspect", str(runs / "saturated")]) == 0
    out = capsys.readouterr().out
    assert "Saturated activations: 1 Tanh" in out
    assert re.search(r"\d+% of the outputs of 1 Tanh, as from the start", out)
    assert "Try: The initial weights are too large: use Xavier's" in out
    assert re.search(r"Worst layers\n  1 Tanh +\d+% saturated", out)


def test_json(runs, capsys):
    assert main(["inspect", str(runs / "saturated"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == 60
    assert [each["kind"] for each in found["findings"]] == ["saturated activations"]
    assert found["findings"][0].keys() >= {"kind", "evidence", "try_this", "curves", "step"}
    assert found["worst_layers"][0]["layer"] == "1 Tanh"
    assert all(each["badness"] >= 2 for each in found["worst_layers"])
    loss = found["curves"]["loss"]
    assert loss["least"] <= loss["last"] < loss["first"] <= loss["greatest"]
    assert loss["steps"] == [1, 2, 4, 8, 10, 20, 30, 40, 50, 60]
    assert (loss["first_step"], loss["last_step"]) == (1, 60)
    for name in ("first", "last", "least", "greatest"):
        assert loss["values"][loss["steps"].index(loss[f"{name}_step"])] == loss[name]
    assert loss["greatest"] == max(loss["values"])
    assert found["logged"] == ["loss", "accuracy"]


def test_json_has_no_nan(tmp_path, capsys):
    model = mlp(hidden=(10,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.warns(RuntimeWarning, match="step 3"),
        Monitor(model, optimizer, tmp_path, record=UNDRAWN) as monitor,
    ):
        train(model, optimizer, monitor, steps=4, poison=3)
    assert main(["inspect", str(tmp_path), "--json"]) == 0
    out = capsys.readouterr().out
    assert "NaN" not in out
    curves = json.loads(out)["curves"]
    loss = curves["loss"]
    assert loss["last"] is None
    assert (loss["steps"], loss["values"][2], loss["last_step"]) == ([1, 2, 4], None, 4)
    assert loss["greatest_step"] in (1, 2)
    assert main(["inspect", str(tmp_path)]) == 0
    assert "Step 3: the gradient of layer 3 Linear" in capsys.readouterr().out


def test_a_curve_without_a_finite_value_has_no_greatest(tmp_path, capsys):
    file = EventFile(tmp_path, 1)
    file.add(scalar_values({"loss": np.nan}), 1)
    file.close()
    assert main(["inspect", str(tmp_path), "--json"]) == 0
    loss = json.loads(capsys.readouterr().out)["curves"]["loss"]
    assert (loss["greatest"], loss["greatest_step"], loss["values"]) == (None, None, [None])


def test_what_log_was_given_is_shown_behind_loss_and_accuracy(tmp_path, capsys):
    """Of every session, and by any name."""
    model = mlp(hidden=(10,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step, name in ((0, "accuracy/validation"), (4, "perplexity")):
        with Monitor(model, optimizer, tmp_path, every=2, step=step, record=UNDRAWN) as monitor:
            train(model, optimizer, monitor, steps=4)
            monitor.log(**{name: 10**step})
    assert main(["inspect", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    curves = [line.split("  ")[1].strip() for line in lines if " -> " in line]
    assert curves[:5] == [
        *("loss", "accuracy", "accuracy/validation", "perplexity", "learning rate/group 0")
    ]
    assert len(curves) == len(set(curves))


def test_units_and_logarithmic_axes_are_written_out(tmp_path, capsys):
    model = mlp(hidden=(10,))
    optimizer = torch.optim.Adam(model.parameters())
    with Monitor(model, optimizer, tmp_path, every=4, record=UNDRAWN) as monitor:
        train(model, optimizer, monitor, steps=16)
    file = EventFile(tmp_path, 30)
    for step, value in ((30, 1.0), (31, 1000.0)):
        points = {"rising": value, "level": 5.0, "parity drift/NumPy largest": value}
        file.add(scalar_values(points, logged=points), step)
    file.close()
    assert main(["inspect", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"\n  rising .* -> 1,000, logarithmic\n", out)
    assert re.search(r"\n  level .* 5 -> 5\n", out)
    assert re.search(r"\n  parity drift/NumPy largest .* -> 1,000 ULP(, logarithmic)?\n", out)
    assert re.search(r"\n  gradient noise scale/\[all\] .* samples(, logarithmic)?\n", out)
    assert re.search(r"\n  step time/whole step \[ms\] .* ms(, logarithmic)?\n", out)


def test_notes_are_printed_once_whatever_session_and_step(tmp_path, capsys, read):
    model = nn.Linear(784, 10)
    optimizer = torch.optim.Adamax(model.parameters())
    for step in (0, 4, 8):
        with Monitor(model, optimizer, tmp_path, every=2, step=step, record=UNDRAWN) as monitor:
            train(model, optimizer, monitor, steps=4)
    assert main(["inspect", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.count("no activation layers") == out.count("no NumPy reference") == 1
    assert re.search(r"\nNotes\n  The model has .*\n  Parity drift is not .*\n$", out)
    assert main(["inspect", str(tmp_path), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["notes"]) == 2
    texts = read(tmp_path)._events.Tensors("notes/text_summary")
    assert not any(b"\n" in text.tensor_proto.string_val[0] for text in texts)


@pytest.mark.parametrize("also", [[], ["--json"]], ids=str)
def test_fail_on_findings(runs, tmp_path, capsys, also):
    for name, status in (("healthy", 0), ("saturated", 1)):
        assert main(["inspect", str(runs / name), *also]) == 0
        plain = capsys.readouterr().out
        assert main(["inspect", str(runs / name), "--fail-on-findings", *also]) == status
        assert capsys.readouterr().out == plain


def test_fail_on_findings_fails_where_nothing_could_be_judged(tmp_path, capsys):
    file = EventFile(tmp_path, 1)
    file.add(scalar_values({"loss": 1.0}), 1)
    file.close()
    assert main(["inspect", str(tmp_path), "--fail-on-findings"]) == 1
    assert "No verdict on the whole" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "nowhere"), "--fail-on-findings"]) == 2


def test_the_help_says_which_status_means_what(capsys):
    with pytest.raises(SystemExit):
        main(["inspect", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert "exit status 1 if there is a finding, or if the run could not be judged" in out


def test_layers_are_called_worst_only_far_beyond_what_is_usual(tmp_path):
    """With one that is, in a run with a finding; a schedule that ends at 0 makes none."""
    points = {"fine": 1e-3, "fast": 0.05, "slow": 2e-5, "far": 0.2}
    file = EventFile(tmp_path, 1)
    for step in range(1, 9):
        scale = 1e-3 if step > 6 else 1
        updates = {f"update to weight/{name}": scale * each for name, each in points.items()}
        dead = {"dead units/some": 0.45, "dead units/most": 0.75, "saturated/few": 0.1}
        file.add(scalar_values(updates | dead | {"loss": np.inf}), step)
    file.close()
    seen = inspect(tmp_path)
    assert "not finite" in [each.kind for each in seen.findings]
    assert [each.layer for each in seen.worst] == ["most", "far"]


def test_the_only_run_below_a_folder_is_taken(runs, tmp_path, capsys):
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (file,) = (runs / "healthy").iterdir()
    (below / file.name).write_bytes(file.read_bytes())
    assert main(["inspect", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith(f"{below}, 60 steps\n")


@pytest.mark.parametrize("new_style", [False, True])
def test_a_run_of_something_else_shows_its_curves_and_is_not_judged(tmp_path, capsys, new_style):
    """``new_style`` is TensorFlow's: a point is a tensor."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(5):
            writer.add_scalar("loss", 5 - step, step, new_style=new_style)
    assert main(["inspect", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert re.search("loss +█▆▅▃▁ +5 -> 1", out)
    assert "Nothing stands out" not in out
    assert "No verdict on the whole:\n  no step of any layer is recorded" in out


def test_of_a_training_the_monitor_in_its_folder_is_read(runs, tmp_path, capsys):
    """Its own event file holds no more than what it says of each epoch."""
    training = tmp_path / "train" / "one"
    shutil.copytree(runs / "saturated", training / "monitor")
    file = EventFile(training, 1)
    file.add(scalar_values({"loss/training": 1.0}), 61)
    file.close()
    for folder in (training / "monitor", training, training.parent, tmp_path):
        assert main(["inspect", str(folder)]) == 0
        out = capsys.readouterr().out
        assert out.startswith(f"{training / 'monitor'}, 60 steps\n")
        assert "Saturated activations" in out


@pytest.mark.parametrize("records", [0, 2])
def test_too_few_records_are_no_sound_run(tmp_path, capsys, records):
    model = mlp(hidden=(10,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, every=1, record=UNDRAWN) as monitor:
        train(model, optimizer, monitor, steps=records)
    assert main(["inspect", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "Nothing stands out" not in out
    assert "No verdict on the whole:\n  " in out


def test_without_a_loss_the_verdict_says_so(tmp_path, capsys):
    model = mlp(hidden=(10,))
    optimizer = torch.optim.Adam(model.parameters())
    with Monitor(model, optimizer, tmp_path, every=1) as monitor:
        train(model, optimizer, monitor, steps=5, log=False)
    assert main(["inspect", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.endswith(
        "No verdict on the whole:\n  no loss is recorded: Monitor.log(loss=loss) does it\n"
    )


RECORDS = (["updates"], ["updates", "slots"], ["updates", "activations"])


@pytest.mark.parametrize("record", RECORDS, ids=str)
def test_broken_runs_whose_health_was_not_recorded_are_not_called_sound(tmp_path, record):
    for name, broken in {"nan": {"poison": 4}, "added": {"zero_grad": False}}.items():
        torch.manual_seed(0)
        model = mlp(hidden=(10,))
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        with Monitor(model, optimizer, tmp_path / name, every=1, record=record) as monitor:
            train(model, optimizer, monitor, steps=8, **broken)
    nan, added = (inspect(tmp_path / name) for name in ("nan", "added"))
    assert [finding.kind for finding in nan.findings] == ["not finite"]
    assert nan.findings[0].evidence == "Step 4: the curve loss is not finite."
    assert added.unjudged == [
        "whether gradients are zeroed is not recorded: record='health' does it"
    ]
    assert "Nothing stands out." not in nan.lines() + added.lines()


def test_a_loss_of_evaluation_that_is_not_finite_is_a_finding(tmp_path):
    model = mlp(hidden=(10,))
    optimizer = torch.optim.Adam(model.parameters())
    with Monitor(model, optimizer, tmp_path, every=1, record=UNDRAWN) as monitor:
        train(model, optimizer, monitor, steps=3)
        monitor.log(**{"loss/validation": np.inf})
    (finding,) = inspect(tmp_path).findings
    assert finding.evidence == "Step 3: the curve loss/validation is not finite."


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The folder of a small run, its only file, and what is said of it."""
    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(0)
    model = mlp(hidden=(10,))
    optimizer = torch.optim.Adam(model.parameters())
    with Monitor(model, optimizer, folder, every=2, record=["updates", "health"]) as monitor:
        train(model, optimizer, monitor, steps=8)
    (file,) = folder.iterdir()
    assert "Nothing stands out." in inspect(folder).lines()
    return folder, file


def test_no_flipped_bit_goes_unnoticed(small, tmp_path):
    """Wherever it is: lengths, checksums, points, texts."""
    _, file = small
    sound = file.read_bytes()
    places = np.random.default_rng(0).integers(8 * len(sound), size=40)
    for place in [*places, 0, 8 * len(sound) - 1]:
        damaged = bytearray(sound)
        damaged[place // 8] ^= 1 << place % 8
        (tmp_path / file.name).write_bytes(damaged)
        seen = inspect(tmp_path)
        assert "Nothing stands out." not in seen.lines(), place
        assert re.fullmatch(
            rf"{re.escape(file.name)} (is damaged at byte [\d,]+ of [\d,]+|ends inside a record "
            r"\(at byte [\d,]+\)); of it, steps after \d+ are missing",
            seen.missing[0],
        ), seen.missing
        assert seen.as_json()["unjudged"][0] == seen.missing[0]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda sound: b"", "is empty"),
        (lambda sound: sound[:-1], "ends inside a record"),
        (lambda sound: sound[: len(sound) // 2], "ends inside a record"),
        (lambda sound: sound[:5], "ends inside a record"),
        (lambda sound: sound + bytes(512), "is damaged at byte"),
        (lambda sound: b"no events" * 100, "is damaged at byte 0"),
    ],
)
def test_a_file_that_is_not_whole_is_named(small, tmp_path, capsys, damage, said):
    _, file = small
    (tmp_path / file.name).write_bytes(damage(file.read_bytes()))
    assert main(["inspect", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"No verdict on the whole:\n  {file.name} {said}" in out
    assert "Nothing stands out" not in out


def test_what_a_later_session_replaces_need_not_be_whole(small, tmp_path):
    """A killed training leaves half a record; resumed, it writes those steps again."""
    folder, file = small
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    first = tmp_path / file.name
    first.write_bytes(first.read_bytes()[:-1])
    torch.manual_seed(0)
    model = mlp(hidden=(10,))
    optimizer = torch.optim.Adam(model.parameters())
    with Monitor(
        model, optimizer, tmp_path, every=2, record=["updates", "health"], step=4
    ) as monitor:
        train(model, optimizer, monitor, steps=4)
    seen = inspect(tmp_path)
    assert seen.missing == []
    assert seen.history.steps("loss").tolist() == [1, 2, 4, 6, 8]


def test_a_resumed_run_without_its_first_file_is_not_whole(small, tmp_path):
    folder, file = small
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    model = mlp(hidden=(10,))
    optimizer = torch.optim.Adam(model.parameters())
    with Monitor(model, optimizer, tmp_path, every=1, step=8, record=UNDRAWN) as monitor:
        train(model, optimizer, monitor, steps=4)
    assert inspect(tmp_path).missing == []
    (tmp_path / file.name).unlink()
    seen = inspect(tmp_path)
    assert seen.missing == ["no file has the steps before 9"]
    assert "Nothing stands out." not in seen.lines()


def test_tensors_that_numpy_cannot_hold_are_no_curves(tmp_path):
    """TensorFlow's, of other programs: bfloat16, variants, without a dtype or values."""
    file = EventFile(tmp_path, 1)
    file.add(scalar_values({"loss": 1.0}), 1)
    tensors = [TensorProto(dtype=dtype) for dtype in (0, 1, 20, 21)]
    tensors += [TensorProto(dtype=14, half_val=[1]), TensorProto(dtype=1, tensor_content=b"abc")]
    file.add([Summary.Value(tag=f"odd {i}", tensor=each) for i, each in enumerate(tensors)], 1)
    file.close()
    seen = inspect(tmp_path)
    assert seen.missing == []
    assert list(seen.history.curves) == ["loss"]


def test_a_run_that_begins_later_says_where(small, tmp_path, capsys):
    model = mlp(hidden=(10,))
    optimizer = torch.optim.Adam(model.parameters())
    with Monitor(model, optimizer, tmp_path, every=2, step=100, record=UNDRAWN) as monitor:
        train(model, optimizer, monitor, steps=8)
    assert main(["inspect", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}, steps 102 to 108\n")


def test_a_step_that_was_not_taken_is_not_counted(tmp_path, capsys):
    model = mlp(hidden=(10,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.raises(NonFiniteError),
        Monitor(model, optimizer, tmp_path, every=1, record=UNDRAWN, nonfinite="raise") as monitor,
    ):
        train(model, optimizer, monitor, steps=4, poison=3)
    assert main(["inspect", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}, 2 steps\n")


def test_mistakes_are_one_line(runs, tmp_path, capsys):
    mistakes = {
        ("inspect", str(tmp_path / "nowhere")): "no folder .*nowhere: give the folder of a run",
        ("inspect", str(tmp_path)): "no event files in .*: give the folder of a run",
        ("inspect", str(runs)): "holds 2 runs: give one of them, such as healthy, saturated",
        ("inspect",): "the following arguments are required: run",
        ("inspect", str(runs), "--jsn"): "unrecognized arguments: --jsn",
        ("tensorboard", str(tmp_path / "nowhere")): "no folder .*nowhere",
        ("tensorboard", "--port", "x"): "invalid int value: 'x'",
    }
    for arguments, said in mistakes.items():
        assert main([*arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert re.fullmatch(f"torchopt-ref: .*{said}.*\n", err), err


@pytest.mark.parametrize(
    ("values", "encoding", "shown"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], "utf-8", "▁▂▃▄▅▆▇█"),
        ([0, 7], "ascii", "_#"),
        ([5, 5, 5], "utf-8", "▁▁▁"),
        ([1, np.nan, 2, np.inf], "utf-8", "▁!█!"),
        ([np.nan, np.nan], "utf-8", "!!"),
        ([1, 10, 100, 1000], "utf-8", "▁▃▆█"),
        ([], "utf-8", ""),
    ],
)
def test_sparklines(values, encoding, shown):
    assert sparkline(np.array(values, float), encoding) == shown


def test_a_long_curve_is_40_characters():
    line = sparkline(np.arange(1000.0) - 500)
    assert len(line) == 40
    assert (line[0], line[-1]) == ("▁", "█")


def interruptible():
    """A shell lets the programs that it starts in the background ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def served(runs):
    """``torchopt-ref tensorboard`` as a terminal starts it, in a process group of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "torchopt_ref", "tensorboard", str(runs), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=interruptible if os.name == "posix" else None,
    )
    try:
        said = r"Open (http://127\.0\.0\.1:\d+/)#custom_scalars&_smoothingWeight=0 \(Ctrl-C .*\n"
        yield process, re.fullmatch(said, process.stdout.readline())[1]
    finally:
        process.kill()
        process.communicate()


def test_tensorboard_serves_the_runs_on_this_machine(runs):
    with served(runs) as (_, url):
        with urllib.request.urlopen(f"{url}data/logdir", timeout=30) as answer:
            assert json.load(answer)["logdir"] == str(runs)
        port = url.rstrip("/").rpartition(":")[2]
        taken = [sys.executable, "-m", "torchopt_ref", "tensorboard", str(runs), "--port", port]
        second = subprocess.run(taken, capture_output=True, text=True, timeout=120)
        assert second.returncode == 2
        said = [line for line in second.stderr.splitlines() if line.startswith("torchopt-ref")]
        assert len(said) == 1
        assert "cannot start TensorBoard" in said[0]
        assert "another --port" in said[0]


@pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX")
def test_ctrl_c_ends_tensorboard_without_a_traceback(runs):
    with served(runs) as (process, url):
        urllib.request.urlopen(url, timeout=30).close()
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out == "\n"
    assert "Traceback" not in err
    assert "Interrupt" not in err


BLOCKED = """
import sys
missing, *arguments = sys.argv[1:]
class Missing:
    def find_spec(name, path, target=None):
        if name.partition(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing)
from torchopt_ref.cli import main
sys.exit(main(arguments))
"""


def without(package, command, folder):
    arguments = [sys.executable, "-c", BLOCKED, package, command, str(folder)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=120)


def test_runs_are_read_and_shown_without_torch(runs, tmp_path):
    """Which takes seconds to import."""
    done = without("torch", "inspect", runs / "healthy")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("Nothing stands out.\n")
    done = without("torch", "tensorboard", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"torchopt-ref: no run in {tmp_path}: ")


@pytest.mark.parametrize("command", ["inspect", "tensorboard"])
def test_a_missing_tensorboard_names_the_line_that_installs_it(command, tmp_path):
    done = without("tensorboard", command, tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "torchopt-ref: tensorboard is not installed: pip install 'torchopt-ref[lab]'\n"
    )
