"""A training that was stopped ends as if it had not been: bit for bit, whatever it consists of."""

import json
import re
import signal

import pytest

from tests.thinned import only
from tests.train.training_cases import curves, last_checkpoint, last_state, results

INTERRUPTED = ["--optimizer", "troublemakers:Interrupted"]
TOGETHER = {
    "dropout, augmentation, average, accumulation, a cycle": [
        *("--model", "cnn", "--augment", "--ema", "0.9", "--accumulate", "3"),
        *("--label-smoothing", "0.1", "--scheduler", "OneCycleLR", "--deterministic"),
    ],
    "ours, with BatchNorm, and a plateau": [
        *("--model", "small_norms", "--ours"),
        *("--scheduler", "ReduceLROnPlateau", "--weight-decay", "0.1"),
    ],
    "float16, epochs of a scheduler": [
        *("--amp", "fp16", "--clip", "1"),
        *("--scheduler", "MultiStepLR", "--scheduler-args", '{"milestones":[1]}'),
    ],
}
ALONE = {
    "plain": [],
    "dropout, augmentation": ["--model", "cnn", "--augment"],
    "ours, with BatchNorm": ["--model", "small_norms", "--ours"],
    "average, accumulation": ["--ema", "0.9", "--accumulate", "3", "--label-smoothing", "0.1"],
    "float16": ["--amp", "fp16", "--clip", "1"],
    "bfloat16": ["--amp", "bf16", "--channels-last", "--model", "cnn"],
    "epochs of a scheduler": [
        "--scheduler",
        "MultiStepLR",
        "--scheduler-args",
        '{"milestones":[1]}',
    ],
    "a cycle": ["--scheduler", "OneCycleLR", "--deterministic"],
    "a plateau": ["--scheduler", "ReduceLROnPlateau", "--weight-decay", "0.1"],
}


@pytest.mark.parametrize("kind", only(TOGETHER, TOGETHER | ALONE))
def test_stopped_and_resumed_is_the_same_as_never_stopped(train, forty_images, kind, monkeypatch):
    """Twice six steps: it is stopped in the first, soon after, and in the second epoch."""
    few = [*forty_images, "--batch-size", "5", "--validation", "0.3"]
    options = (TOGETHER | ALONE)[kind] + few
    uninterrupted = train(*INTERRUPTED, *options, name="uninterrupted")
    steps = last_state(uninterrupted)["position"]["step"]
    assert steps == 12
    for at in (2, 3, 6):  # the estimate of the memory makes a step of its own
        monkeypatch.setenv("TROUBLE", f"TERM {at}")
        stopped = train(*INTERRUPTED, *options, "--resume", name="stopped", status=143)
    monkeypatch.setenv("TROUBLE", "")
    train("--resume", *forty_images, name="stopped", tiny=[])
    assert last_checkpoint(stopped).name == last_checkpoint(uninterrupted).name
    assert results(stopped) == results(uninterrupted)
    assert curves(stopped) == curves(uninterrupted)
    assert "loss/train" in curves(stopped)


def test_a_resumed_run_makes_only_the_steps_that_are_left(train, monkeypatch, tmp_path):
    """From its start a training with the same seed would end the same, too, but later."""

    def steps():
        return file.read_text().splitlines().count("8") if file.exists() else 0

    file = tmp_path / "steps"
    monkeypatch.setenv("TROUBLE", str(file))
    folder = train(
        "--optimizer", "troublemakers:Counting", "--checkpoint-every", "7", "--keep", "9"
    )
    assert steps() == 20
    for checkpoint in (folder / "checkpoints").glob("*.pt"):
        if "00000007" not in checkpoint.name:
            checkpoint.unlink()
    train("--resume", "--json-log", tiny=[])
    assert steps() == 20 + 13
    assert [json.loads(line).get("step") for line in train.out.splitlines()] == [10, 20, None]


DIALECTS = {
    "keras.RMSprop": {"centered": True, "momentum": 0.9},
    "keras.AdamW": {"amsgrad": True},
    "optax.AdamW": {"nesterov": True, "x64": True},
}


@pytest.mark.parametrize("optimizer", DIALECTS)
def test_an_optimizer_of_another_dialect_goes_on_in_groups_and_schedule(train, optimizer):
    options = ["--optimizer", optimizer, "--optimizer-args", json.dumps(DIALECTS[optimizer])]
    options += ["--weight-decay", "0.1", "--checkpoint-every", "7", "--keep", "9"]
    folder = train(*options)
    whole = last_checkpoint(folder).name
    for file in sorted((folder / "checkpoints").glob("step-*.pt"))[1:]:
        file.unlink()
    train("--resume", tiny=[])
    assert last_checkpoint(folder).name == whole
    drift = curves(folder / "monitor")["parity drift/NumPy largest"]
    assert {value for _, value in drift} == {0}


@pytest.mark.parametrize(("name", "status"), [("TERM", 143), ("INT", 130)])
def test_a_signal_saves_says_how_to_go_on_and_exits_as_the_shell_would(
    train, monkeypatch, name, status
):
    monkeypatch.setenv("TROUBLE", f"{name} 5")
    folder = train(*INTERRUPTED, status=status)
    assert last_state(folder)["position"]["step"] == 6
    command = f"torchopt-ref train --out {folder.parent} --name run --resume"
    assert train.err.endswith(
        f"torchopt-ref: stopped by SIG{name}; saved in {folder}\nGo on: {command}\n"
    )
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert not (folder / "results.json").exists()


def test_a_signal_in_the_last_step_tests_nothing_before_it_is_resumed(train, monkeypatch):
    monkeypatch.setenv("TROUBLE", "TERM 20")
    folder = train(*INTERRUPTED, status=143)
    monkeypatch.setenv("TROUBLE", "")
    train("--resume", tiny=[])
    assert results(folder)["steps"] == 20


def test_a_damaged_checkpoint_costs_steps_but_not_the_result(train):
    folder = train("--checkpoint-every", "3")
    last, result = last_checkpoint(folder), results(folder)
    content = last.read_bytes()
    last.write_bytes(content[:-100])
    (folder / "results.json").unlink()
    train("--resume", tiny=[])
    assert f"the checkpoint {last} is damaged" in train.err
    assert re.search("taking the one before", train.err)
    assert results(folder) == result
    assert last_checkpoint(folder) == last
    assert last.read_bytes() == content


def test_all_that_is_random_is_in_a_checkpoint(train):
    state = last_state(train())
    assert state.keys() == {
        *("model", "optimizer", "schedule", "scaler", "ema", "position", "random", "options")
    }
    assert state["random"][0].keys() == {"torch", "numpy", "python"}
