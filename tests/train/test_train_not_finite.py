"""A loss that is not finite stops the training, or costs a batch."""

import pytest
from training_cases import last_checkpoint, last_state, results

from torchopt_ref.cli import main

EXPLODING = ["--optimizer", "troublemakers:Exploding"]


def finite(folder):
    return all(each.isfinite().all() for each in last_state(folder)["model"].values())


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
    assert finite(folder)


def test_rollback_goes_back_to_the_last_checkpoint_and_on_with_the_next_batch(train, monkeypatch):
    monkeypatch.setenv("TROUBLE", "14")
    folder = train(*EXPLODING, "--on-nan", "rollback", "--epochs", "3")
    assert "batch 5, after 14 steps" in train.err
    assert "the weights are those of step 10 again" in train.err
    assert finite(folder)
    assert results(folder)["steps"] == 29


def test_rollback_without_a_checkpoint_stops(train, monkeypatch):
    monkeypatch.setenv("TROUBLE", "4")
    train(*EXPLODING, "--on-nan", "rollback", status=2)
    assert "there is no checkpoint to go back to" in train.err


def test_skipping_gives_up_when_all_are_bad(train, monkeypatch):
    monkeypatch.setenv("TROUBLE", "4")
    train(*EXPLODING, "--on-nan", "skip", "--epochs", "4", status=2)
    assert train.err.count("the batch is left out") == 10
    assert "and was so in 10 batches before" in train.err


def test_skip_undoes_what_a_bad_batch_did_to_statistics(train):
    options = ["--model", "shufflenet_v2_x0_5", "--batch-size", "90"]
    folder = train(*options, "--on-nan", "skip", "--optimizer", "troublemakers:BadImages")
    assert train.err.count("the batch is left out") == 1
    assert finite(folder)
    assert results(folder)["steps"] == 9


@pytest.mark.parametrize("action", ["stop", "skip", "rollback"])
def test_nothing_changes_where_all_is_finite(train, action):
    plain = train(name="plain")
    watched = train("--on-nan", action, name=action)
    assert last_checkpoint(plain).name == last_checkpoint(watched).name
