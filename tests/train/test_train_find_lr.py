"""``torchopt-ref train --find-lr``: a suggestion for the very training, and no training."""

import json
import os
import re
import shlex
import signal

import pytest

from tests.starter import wait_for
from tests.train.training_cases import TINY, results
from torchopt_ref.cli import main


def test_it_suggests_a_rate_that_trains(train, capsys):
    folder = train("--find-lr", "--batch-size", "50", name="a b")
    assert sorted(each.name for each in folder.iterdir()) == ["lr_range.json", "lr_range.svg"]
    assert str(folder / "lr_range.svg") in train.out
    assert max(map(len, re.findall(r"^ +\d.*", train.out, re.M))) < 80
    found = json.loads((folder / "lr_range.json").read_text())
    rate = found["suggestion"]
    assert 1e-4 < rate < 0.1
    assert found["rates"][0] == 1e-7
    assert 2 < found["losses"][0] < 3, "of an image, by guessing"
    assert len(found["rates"]) == len(found["losses"]) <= 200
    assert "--epochs=12" not in train.out  # which is the default
    (command,) = re.findall(r"Train with it: torchopt-ref (.*)", train.out)
    assert f"--lr {rate:g}" in command
    assert "--find-lr" not in command
    assert main([*shlex.split(command), "--quiet"]) == 0
    assert results(folder)["test accuracy"] > 0.5


def test_a_run_of_the_same_name_stays_as_it_is(train):
    folder = train("--epochs", "1")
    before = {each: each.read_bytes() for each in folder.rglob("*") if each.is_file()}
    train("--find-lr", "--epochs", "1", "--json-log")
    assert {each: each.read_bytes() for each in before} == before
    outcome = json.loads(train.out)
    assert outcome["figure"] == str(folder / "lr_range.svg")
    assert outcome["suggestion"]


def test_every_option_of_a_training_counts(train, forty_images):
    """Precision, parts, clipping, weight decay, label smoothing, BatchNorm, and own optimizers."""
    options = ["--optimizer", "torch.optim:SGD", "--optimizer-args", '{"momentum": 0.9}']
    options += ["--clip", "0.1", "--weight-decay", "0.1", "--label-smoothing", "0.1"]
    options += [*forty_images, "--batch-size", "5"]
    plain = train("--find-lr", *options, name="plain")
    found = [json.loads((plain / "lr_range.json").read_text())["losses"]]
    for name, value in (("amp", "bf16"), ("clip", "0"), ("weight-decay", "0")):
        folder = train("--find-lr", *options, f"--{name}", value, "--quiet", name=name)
        assert train.out == "" == train.err
        found.append(json.loads((folder / "lr_range.json").read_text())["losses"])
    assert len({str(each) for each in found}) == len(found)


@pytest.mark.parametrize("option", ["--resume", "--dry-run", "--profile", "--fsdp"])
def test_what_has_no_meaning_with_it_is_refused(train, option):
    folder = train("--find-lr", option, status=2)
    assert train.err.count("\n") == 1
    assert f"omit {option}" in train.err
    assert not folder.exists()


def test_under_torchrun_it_is_refused(train, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    train("--find-lr", status=2)
    assert train.err.count("\n") == 1
    assert "without torchrun" in train.err


def test_a_signal_ends_it_and_leaves_nothing(starter, tmp_path, small_mnist):
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        out = tmp_path / number.name
        where = ["--out", str(out), *small_mnist]
        options = [*TINY, "--model", "cnn", "--find-lr", *where]
        pid = starter.start(["train", *options], tmp_path / f"{number.name}.log")
        wait_for(out.exists)
        os.kill(pid, number)
        assert starter.wait(pid) == status
        log = (tmp_path / f"{number.name}.log").read_text()
        assert f"stopped by {number.name}" in log
        assert "Traceback" not in log
        assert "--resume" not in log
        assert list(out.iterdir()) == []
