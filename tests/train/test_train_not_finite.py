"""What is not finite stops the training or costs a batch, and is never saved."""

import json
import re
import warnings

import pytest
import torch

from tests.thinned import only
from tests.train.training_cases import last_checkpoint, last_state, results
from torchopt_ref.cli import main

EXPLODING = ["--optimizer", "troublemakers:Exploding"]
NORMS = ["--model", "small_norms", "--validation", "0.8", "--batch-size", "25"]
NORMS += ["--epochs", "1", "--no-monitor"]


def finite(value):
    if isinstance(value, torch.Tensor):
        return not value.is_floating_point() or value.isfinite().all().item()
    if isinstance(value, dict):
        value = value.values()
    return all(map(finite, value)) if isinstance(value, list | type({}.values())) else True


def all_are_sound(folder):
    files = list((folder / "checkpoints").glob("*.pt"))
    return files and all(finite(torch.load(file, weights_only=True)) for file in files)


def test_stop_says_where_and_what_to_do_and_the_last_checkpoint_is_sound(
    train, monkeypatch, capsys
):
    monkeypatch.setenv("TROUBLE", "14")
    folder = train(*EXPLODING, status=2)
    assert "the loss is nan in epoch 2, batch 5, after 14 steps, at learning rate" in train.err
    *diagnosis, last = train.err.splitlines()
    assert "lower --lr, lengthen --warmup" in last
    assert "torchopt-ref: not finite: Step 15: the loss is nan." in "\n".join(diagnosis)
    assert main(["inspect", str(folder / "monitor")]) == 0
    assert "the loss is nan" in capsys.readouterr().out
    assert last_state(folder)["position"]["step"] == 10
    assert all_are_sound(folder)


UNSEEN_BY_THE_LOSS = {
    "a gradient": ("BadGradient", "14", "the gradient of 7.weight is not finite, but the loss is,"),
    "weights by a step that overflows": ("Exploding", "20", "the weight 1.weight is not finite"),
    "what the optimizer remembers": ("BadSlot", "14", "the optimizer's exp_avg_sq of 1.weight is "),
}


@pytest.mark.parametrize(
    ("kind", "action"),
    only(
        [
            ("a gradient", "skip"),
            ("weights by a step that overflows", "stop"),
            ("what the optimizer remembers", "skip"),
            ("what the optimizer remembers", "rollback"),
        ],
        [(kind, action) for kind in UNSEEN_BY_THE_LOSS for action in ("stop", "skip", "rollback")],
    ),
)
def test_what_the_loss_does_not_show_is_noticed_before_it_is_saved(
    train, monkeypatch, kind, action
):
    optimizer, when, said = UNSEEN_BY_THE_LOSS[kind]
    monkeypatch.setenv("TROUBLE", when)
    mended = action == "rollback" or (action, kind) == ("skip", "a gradient")
    options = ["--optimizer", f"troublemakers:{optimizer}", "--on-nan", action, "--ema", "0.9"]
    folder = train(*options, status=0 if mended else 2)
    assert said in train.err
    assert all_are_sound(folder)
    steps = {"a gradient": 19}.get(kind, 20) if mended else 10
    assert last_state(folder)["position"]["step"] == steps
    if action == "rollback":
        assert "the weights are those of step 10 again" in train.err


@pytest.mark.parametrize("kind", ["list", "number", "group"])
def test_all_that_an_optimizer_remembers_is_looked_at_and_goes_back(train, monkeypatch, kind):
    """An infinite option, such as a bound, is none."""
    monkeypatch.setenv("TROUBLE", f"{kind} 14")
    folder = train("--optimizer", "troublemakers:BadElsewhere", status=2)
    assert "is not finite after step 20, and is not saved" in train.err
    assert last_state(folder)["position"]["step"] == 10
    folder = train(
        *("--optimizer", "troublemakers:BadElsewhere", "--epochs", "3", "--on-nan", "rollback"),
        name="back",
    )
    assert train.err.count("the weights are those of step 10 again") == 1
    assert results(folder)["steps"] == 30


@pytest.mark.parametrize(("action", "part"), [("stop", "test"), ("rollback", "validation")])
def test_finite_weights_whose_loss_is_not_are_no_success(train, monkeypatch, action, part):
    monkeypatch.setenv("TROUBLE", "20")
    options = ["--optimizer", "troublemakers:Large", "--on-nan", action, "--json-log"]
    if part == "test":
        options += ["--validation", "0", "--batch-size", "50"]
    folder = train(*options, status=2)
    assert f"the {part} loss is nan after step 20, though all weights are finite" in train.err
    assert "NaN" not in train.out
    assert not (folder / "results.json").exists()


@pytest.mark.parametrize("validation", [["--validation", "0"], []])
def test_an_epoch_of_which_all_batches_are_left_out_has_no_loss(train, monkeypatch, validation):
    monkeypatch.setenv("TROUBLE", "always")
    options = ["--optimizer", "troublemakers:BadGradient", "--on-nan", "skip", "--epochs", "1"]
    options += ["--scheduler", "ReduceLROnPlateau", "--batch-size", "90", "--json-log"]
    train(*options, *validation)
    row = json.loads(train.out.splitlines()[0])
    assert row.keys() - {"images/s"} == {"epoch", "step"} | (
        set() if validation else {"validation loss", "validation accuracy"}
    )


def test_statistics_that_are_not_finite_are_noticed_and_undone(train):
    folder = train(*NORMS, "--on-nan", "skip", "--optimizer", "troublemakers:BadStatistics")
    assert re.search("the buffer .*running_var is not finite, but the loss is", train.err)
    assert all_are_sound(folder)
    assert results(folder)["steps"] == 3


def test_rollback_goes_back_to_the_last_checkpoint_and_on_with_the_next_batch(train, monkeypatch):
    monkeypatch.setenv("TROUBLE", "14")
    folder = train(*EXPLODING, "--on-nan", "rollback", "--epochs", "3")
    assert "batch 5, after 14 steps" in train.err
    assert "the weights are those of step 10 again" in train.err
    assert all_are_sound(folder)
    assert results(folder)["steps"] == 29


def test_rollback_without_a_checkpoint_stops(train, monkeypatch):
    monkeypatch.setenv("TROUBLE", "4")
    train(*EXPLODING, "--on-nan", "rollback", status=2)
    assert "there is no checkpoint to go back to" in train.err


def test_skipping_gives_up_when_all_are_bad(train, monkeypatch):
    monkeypatch.setenv("TROUBLE", "always")
    train("--optimizer", "troublemakers:BadGradient", "--on-nan", "skip", status=2)
    assert train.err.count("the batch is left out") == 10
    assert "and 10 batches before were bad, too" in train.err


def test_bad_batches_count_in_a_row_only(train, monkeypatch):
    """Eleven in a row would stop the training."""
    monkeypatch.setenv("TROUBLE", " ".join(map(str, range(2, 24, 2))))
    options = ["--optimizer", "troublemakers:BadGradient", "--on-nan", "skip", "--epochs", "3"]
    folder = train(*options)
    assert train.err.count("the batch is left out") == 11
    assert results(folder)["steps"] == 19


def test_skipping_does_not_go_on_with_broken_weights(train, monkeypatch):
    monkeypatch.setenv("TROUBLE", "4")
    train(*EXPLODING, "--on-nan", "skip", status=2)
    assert "the batch is left out" not in train.err
    assert "the weight 1.weight is not finite after step 4, and is not saved" in train.err
    assert "--on-nan rollback" in train.err


def test_skip_undoes_what_a_bad_batch_did_to_statistics(train):
    folder = train(*NORMS, "--on-nan", "skip", "--optimizer", "troublemakers:BadImages")
    assert train.err.count("the batch is left out") == 1
    assert all_are_sound(folder)
    assert results(folder)["steps"] == 3


@pytest.mark.parametrize("action", ["stop", "skip", "rollback"])
def test_nothing_changes_where_all_is_finite(train, trained, action):
    plain, _ = trained()
    watched = train("--on-nan", action)
    assert last_checkpoint(plain).name == last_checkpoint(watched).name


HALF = ["--amp", "fp16", "--optimizer", "troublemakers:BadGradient"]


def test_steps_that_the_scaler_leaves_out_count_and_nothing_warns(train, monkeypatch):
    monkeypatch.setenv("TROUBLE", "1 2 14")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder = train(*HALF, "--scheduler", "LinearLR")
    state = last_state(folder)
    assert state["scaler"]["scale"] == 2**13
    assert state["position"]["step"] == state["schedule"]["step"] == 20
    assert {slots["step"].item() for slots in state["optimizer"]["state"].values()} == {17}
    assert state["optimizer"]["param_groups"][0]["lr"] == 0
    assert "not finite" not in train.err


def test_a_gradient_that_the_scaler_cannot_mend_stops(train, monkeypatch):
    monkeypatch.setenv("TROUBLE", "always")
    folder = train(*HALF, status=2)
    assert "the gradient of 7.weight is not finite" in train.err
    assert all_are_sound(folder)
