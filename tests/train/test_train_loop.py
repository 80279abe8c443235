"""What a training does, seen from outside: by its results, its output, its folder."""

import json
import math
import runpy
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from tests.thinned import only
from tests.train.training_cases import TINY, curves, last_checkpoint, last_state, results
from torchopt_ref.train import Config
from torchopt_ref.train.memory import available
from torchopt_ref.train.state import Position

ROWS = {"epoch", "step", "loss", "accuracy", "validation loss", "validation accuracy", "images/s"}


def rows(train):
    return [json.loads(line) for line in train.out.splitlines()]


def test_it_learns_and_says_so(train):
    folder = train("--epochs", "6")
    assert results(folder)["test accuracy"] > 0.7
    assert (results(folder)["epochs"], results(folder)["steps"]) == (6, 60)
    assert train.out.count("test accuracy") == 1
    assert f"Run folder: {folder}" in train.out
    assert train.out.splitlines()[-4:] == [
        "What the monitor saw:",
        "  Nothing stands out.",
        f"See more: torchopt-ref inspect {folder}",
        f"See the curves: torchopt-ref tensorboard {folder}",
    ]
    lines = train.err.splitlines()
    assert lines[0] == f"Writing to {folder}"
    assert [line.partition(":")[0] for line in lines[1:]] == [f"epoch {n}/6" for n in range(1, 7)]


def test_curves_are_what_the_json_log_says(train):
    folder = train("--epochs", "3", "--json-log", "--ema", "0.5")
    *epochs, result = rows(train)
    assert train.err == ""
    assert all(row.keys() == ROWS for row in epochs)
    drawn = curves(folder)
    for tag in ("loss", "accuracy"):
        points = [(row["step"], pytest.approx(row[f"validation {tag}"])) for row in epochs]
        assert drawn[f"{tag}/validation"] == points
        assert drawn[f"{tag}/test"] == [(31, pytest.approx(result[f"test {tag}"]))]
    assert [step for step, _ in drawn["loss/train"]] == [10, 20, 30]
    assert result == results(folder)


def test_an_epochs_loss_and_accuracy_are_means_over_its_images():
    position = Position(epoch=2, step=30)
    position.add(loss=2.0, hits=3, images=5)
    position.add(loss=4.0, hits=3, images=3)
    assert position.row() == {"epoch": 3, "step": 30, "loss": 0.75, "accuracy": 0.75}


def test_quiet_is_silent(train):
    train("--quiet")
    assert (train.out, train.err) == ("", "")


def test_the_default_is_the_embedded_subset(train, tmp_path):
    from torchopt_ref.cli import main

    options = [*TINY[:3], "--epochs", "1", "--batch-size", "500", "--out", str(tmp_path / "runs")]
    assert main(["train", *options, "--name", "default"]) == 0
    assert results(tmp_path / "runs" / "default")["steps"] == 18


EQUAL = {
    "parts": ([], ["--accumulate", "4"]),
    "parts that are more than images": (
        ["--batch-size", "3", "--validation", "0.9"],
        ["--accumulate", "9", "--batch-size", "3", "--validation", "0.9"],
    ),
    "workers": (["--augment"], ["--augment", "--workers", "2"]),
    "torch's Adam": ([], ["--optimizer", "torch.optim:Adam"]),
    "channels last": (["--model", "cnn"], ["--model", "cnn", "--channels-last"]),
    "a clip that is not reached": ([], ["--clip", "1000"]),
    "no average": ([], ["--ema", "1e-9"]),
}


RARE = {"torch's Adam", "a clip that is not reached", "no average"}


@pytest.mark.parametrize("case", only(EQUAL.keys() - RARE, EQUAL))
def test_ways_to_the_same(train, trained, case):
    """The same losses, but for rounding."""
    options, others = EQUAL[case]
    if "--model" in options:
        options, others = [*options, "--lr", "1e-4"], [*others, "--lr", "1e-4"]
    _, expected = trained("--epochs", "1", *options)
    train("--json-log", "--epochs", "1", *others)
    for mine, its in zip(rows(train), expected, strict=True):
        for key in mine.keys() - {"images/s"}:
            assert mine[key] == pytest.approx(its[key], rel=1e-4), key


DIFFERENT = {
    "clip": ["--clip", "0.01"],
    "label smoothing": ["--label-smoothing", "0.3"],
    "warm-up": ["--warmup", "0"],
    "weight decay": ["--weight-decay", "1"],
    "scheduler": ["--scheduler", "none"],
    "arguments": ["--optimizer-args", '{"betas": [0.1, 0.9]}'],
    "augmentation": ["--augment"],
    "seed": ["--seed", "1"],
    "ours": ["--ours"],
    "bfloat16": ["--amp", "bf16"],
}


@pytest.mark.parametrize("options", DIFFERENT.values(), ids=DIFFERENT)
def test_an_option_makes_a_difference(train, trained, options):
    plain = last_state(trained("--epochs", "1")[0])["model"]
    other = last_state(train("--epochs", "1", "--no-monitor", *options))["model"]
    assert not torch.equal(plain["1.weight"], other["1.weight"])


def test_the_average_is_what_is_tested(train, trained):
    """With a decay so slow that the average stays near the initial weights."""
    moved, _ = trained("--epochs", "6")
    stayed = train("--epochs", "6", "--ema", "0.999", name="stayed")
    assert results(moved)["test accuracy"] > results(stayed)["test accuracy"] + 0.3
    assert torch.equal(
        last_state(moved)["model"]["1.weight"], last_state(stayed)["model"]["1.weight"]
    )


RATES = {
    "constant": (["--scheduler", "none", "--warmup", "0"], [1, 1]),
    "cosine": (["--warmup", "0"], [0.5, 0]),
    "linear": (["--scheduler", "LinearLR", "--warmup", "0"], [0.5, 0]),
    "warm-up": (["--scheduler", "none", "--warmup", "5"], [1, 1]),
    "epochs": (["--scheduler", "ExponentialLR", "--scheduler-args", '{"gamma": 0.1}'], [1, 0.1]),
    # Of 21 steps, the first 5.3 rise; the others fall along a cosine to 1 / (25 * 1e4).
    "cycle": (
        ["--scheduler", "OneCycleLR"],
        [4e-6 + (1 - 4e-6) * (1 + math.cos(math.pi * 4.7 / 14.7)) / 2, 4e-6],
    ),
}


@pytest.mark.parametrize(("options", "factors"), RATES.values(), ids=RATES)
def test_the_learning_rate_at_the_end_of_both_epochs(train, options, factors):
    drawn = curves(train("--lr", "0.001", *options))["learning rate"]
    expected = [(10, factors[0] * 1e-3), (20, factors[1] * 1e-3)]
    assert drawn == [(step, pytest.approx(rate, rel=1e-6, abs=1e-12)) for step, rate in expected]


def test_the_warm_up_rises_linearly(train):
    folder = train(
        "--scheduler",
        "none",
        "--lr",
        "1",
        "--warmup",
        "5",
        "--checkpoint-every",
        "1",
        "--keep",
        "30",
    )
    rates = [
        torch.load(file, weights_only=True)["optimizer"]["param_groups"][0]["lr"]
        for file in sorted((folder / "checkpoints").glob("step-*"))[:7]
    ]
    assert rates == pytest.approx([2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 1])


def test_a_dry_run_describes_and_writes_nothing(train):
    folder = train("--dry-run", "--weight-decay", "0.1")
    assert not folder.exists()
    for text in (
        "(1): Linear(in_features=784, out_features=100, bias=True)",
        "8 parameters, 99,710 numbers; Adam's groups",
        "4 tensors, 99,400 numbers, weight decay 0.1",
        "4 tensors, 310 numbers, weight decay 0.0",
        "input 1 x 28 x 28, 10 classes; 450 images to train, 50 to validate, 200 to test",
        "weights 0.4 MiB, gradients 0.4 MiB, optimizer 0.8 MiB",
    ):
        assert text in train.out


def test_a_batch_that_cannot_fit_is_refused_before_it_starts(train, monkeypatch):
    memory = SimpleNamespace(available=1_500_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    folder = train(status=2)
    assert "lower --batch-size or --image-size, or raise --accumulate" in train.err
    assert not folder.exists()
    memory.available = 3_000_000
    train()


def test_a_container_has_less_memory_than_its_machine(monkeypatch, tmp_path):
    """What is cached of files does not count: it goes where there is no room."""
    monkeypatch.setattr("torchopt_ref.train.memory.CGROUP", tmp_path)
    files = {"memory.max": "10000\n", "memory.current": "9000\n", "memory.stat": "file 500\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert available(torch.device("cpu")) == 1500
    (tmp_path / "memory.max").write_text("max\n", encoding="utf-8")
    assert available(torch.device("cpu")) > 1e6


def test_a_monitor_records_and_changes_nothing(train, trained):
    watched, _ = trained("--epochs", "6")
    plain = train("--epochs", "6", "--no-monitor", name="plain")
    assert last_checkpoint(watched).name == last_checkpoint(plain).name
    (tag,) = (tag for tag in curves(watched / "monitor") if tag.startswith("weight norm/[all"))
    assert [step for step, _ in curves(watched / "monitor")[tag]] == [1, 2, 4, 8, 16, 32, 50]


def test_a_profile_is_a_trace(train):
    folder = train("--profile")
    (trace,) = (folder / "profile").iterdir()
    names = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert "aten::linear" in names


def test_a_bug_has_its_traceback_and_names_the_folder(train, capsys):
    with pytest.raises(LookupError, match="a bug"):
        train("--optimizer", "troublemakers:Failing")
    assert "runs/run ended by an error; --resume goes on" in capsys.readouterr().err


def test_the_function_takes_a_config(tmp_path):
    from torchopt_ref.train import train

    config = Config.of(
        model="mlp", augment=False, epochs=1, batch_size=900, out=tmp_path, quiet=True
    )
    assert train(config).parent == tmp_path


@pytest.mark.cuda
@pytest.mark.parametrize("options", [[], ["--amp", "fp16"], ["--amp", "bf16", "--channels-last"]])
def test_on_cuda(train, options):
    folder = train("--device", "cuda", "--epochs", "6", "--model", "cnn", *options)
    assert results(folder)["test accuracy"] > 0.7


def test_the_script_is_the_command(tmp_path, small_mnist, monkeypatch, capsys):
    script = str(Path(__file__).parents[2] / "scripts" / "train.py")
    monkeypatch.setattr("sys.argv", [script, *TINY, *small_mnist, "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(script, run_name="__main__")
    assert end.value.code == 0
    assert "test accuracy" in capsys.readouterr().out
