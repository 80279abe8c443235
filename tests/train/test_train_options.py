"""Options: where they come from, and one line for each mistake."""

import json
import re

import pytest

from tests.train.training_cases import TINY, last_state
from torchopt_ref.cli import main
from torchopt_ref.errors import UserError
from torchopt_ref.train import Config, DataOptions, ModelOptions, OptimizerOptions


def test_all_options_are_listed(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["train", "--help"])
    assert not exit.value.code
    out = capsys.readouterr().out
    assert all(f"--{name.replace('_', '-')}" in out for name in Config().options())
    assert "--config" in out
    groups = ("model", "data", "optimizer", "schedule", "device", "run")
    assert all(f"{group} options" in out for group in groups)


def test_options_from_python_have_the_names_of_the_command_line():
    config = Config.of(model="mlp", lr=0.1, augment=False)
    assert config == Config(
        ModelOptions("mlp"), DataOptions(augment=False), OptimizerOptions(lr=0.1)
    )
    with pytest.raises(UserError, match="unknown option 'epoch': did you mean 'epochs'"):
        Config.of(epoch=3)


MISTAKES = {
    "option": (["--epoch", "3"], "unknown option '--epoch': did you mean '--epochs'"),
    "model": (["--model", "resnet81"], "unknown model 'resnet81': did you mean 'resnet18'"),
    "dataset": (["--dataset", "cifar01"], "unknown dataset 'cifar01': did you mean 'cifar10'"),
    "optimizer": (["--optimizer", "Adma"], "unknown optimizer 'Adma': did you mean 'Adam'"),
    "torch's optimizer": (["--optimizer", "torch.optim:Adan"], "did you mean 'Adam'"),
    "no module": (["--optimizer", "nowhere:Adam"], "cannot import nowhere"),
    "optimizer's arguments": (["--optimizer-args", '{"beta": 1}'], "cannot make the optimizer Ada"),
    "no JSON": (["--optimizer-args", "beta=1"], "--optimizer-args is not JSON"),
    "no object": (["--scheduler-args", "3"], "--scheduler-args must be a JSON object"),
    "scheduler": (["--scheduler", "StepRL"], "unknown scheduler 'StepRL': did you mean 'StepLR'"),
    "scheduler's arguments": (["--scheduler", "StepLR"], "cannot make the scheduler StepLR"),
    "amp": (["--amp", "fp61"], "unknown --amp 'fp61': did you mean 'fp16'"),
    "on-nan": (["--on-nan", "stopp"], "unknown --on-nan 'stopp': did you mean 'stop'"),
    "epochs": (["--epochs", "0"], "--epochs must be at least 1"),
    "ema": (["--ema", "1"], "--ema must be at least 0 and below 1"),
    "validation": (["--validation", "-0.1"], "--validation must be at least 0 and below 1"),
    "lr": (["--lr", "-1"], "must be at least 0"),
    "lr is no number": (["--lr", "fast"], "--lr: .*'fast'"),
    "device": (["--device", "gpu"], "unknown device 'gpu'"),
    "name": (["--name", "a/b"], "give a plain name"),
    "batch": (["--batch-size", "9001"], "there are 9000 training images"),
    "no folder": (["--dataset", "cifar10"], "--dataset cifar10 needs the folder of its images"),
    "no files": (["--data-root", "/nowhere"], "cannot read /nowhere/MNIST/raw/train-images"),
    "small images": (
        ["--dataset", "fake", "--image-size", "8", "--model", "alexnet", "--batch-size", "9"],
        "the model cannot take images of 3 x 8 x 8: .*choose another --image-size",
    ),
    "huge seed": (["--seed", str(2**64)], "--seed must be at most"),
    "many workers": (["--workers", "100000"], "--workers must be at most 1024"),
    "lr is infinite": (["--lr", "inf"], "--lr, .* must be at least 0, and finite"),
    "weight decay is NaN": (["--weight-decay", "nan"], "must be at least 0, and finite"),
    "no user": (["--data-root", "~nouser"], "no home folder for ~nouser"),
    "no path": (["--out", "a\0b"], "'a.x00b' is no path"),
    "name of an option": (["--name=-x"], "--name '-x': give a plain name"),
    "name of the folder above": (["--name", ".."], "--name '..': give a plain name"),
    "name of two lines": (["--name", "a\nb"], "give a plain name"),
    "long name": (["--name", "x" * 300], "the name xxxxxxxxxxxxxxxxxxxx... is too long"),
    "name of a resumed run": (["--name", "..", "--resume"], "--name '..': give a plain name"),
    "huge JSON": (["--optimizer-args", '{"lr": ' + "9" * 9999 + "}"], "is not JSON"),
    "deep JSON": (["--scheduler-args", "[" * 9999], "--scheduler-args is not JSON"),
    "no run": (["--resume"], "--resume: there is no run in runs/train"),
    "no config file": (["--config"], "--config needs a TOML file"),
    "config file": (["--config", "/nowhere.toml"], "cannot read --config /nowhere.toml"),
}


@pytest.mark.parametrize(("options", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_status_2(options, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(f"torchopt-ref: .*{said}.*\n", err), err
    assert not list(tmp_path.iterdir())


REFUSED = {
    "sparse gradients": (["--optimizer", "torch.optim:SparseAdam"], "SparseAdam does not make a s"),
    "a closure": (["--optimizer", "torch.optim:LBFGS"], "LBFGS"),
    "matrices only": (["--optimizer", "torch.optim:Muon"], "cannot make the optimizer .*Muon"),
    "base class": (["--optimizer", "torch.optim:Optimizer"], "cannot make the optimizer"),
    "no optimizer": (["--optimizer", "builtins:dict"], "dict is not a torch.optim.Optimizer"),
    "text for a number": (["--optimizer-args", '{"eps": "much"}'], "see --optimizer-args"),
    "text for a switch": (["--optimizer-args", '{"maximize": "no"}'], "maximize is true or false"),
    "a key twice": (["--optimizer-args", '{"eps": 1, "eps": 2}'], "a key occurs twice"),
    "a rate beside --lr": (["--optimizer-args", '{"lr": 1}'], "has lr: give it by --lr"),
    "a decay beside its own": (["--optimizer-args", '{"weight_decay": 1}'], "by --weight-decay"),
    "a decay that it has not": (
        ["--optimizer", "optax.SGD", "--weight-decay", "0.1"],
        "--weight-decay: optax.SGD has none",
    ),
    "a decay that torch's has not": (
        ["--optimizer", "torch.optim:Rprop", "--weight-decay", "0.1"],
        "--weight-decay: torch.optim:Rprop has none",
    ),
    "another dialect's name of an argument": (
        ["--optimizer", "keras.Adam", "--optimizer-args", '{"epsilon": 1e-3}'],
        "keras.Adam has no argument 'epsilon': here it is 'eps': see --optimizer-args",
    ),
    "no scheduler": (["--scheduler", "os:system"], "os:system is no scheduler"),
    "a rate that is infinite": (
        ["--scheduler-args", '{"eta_min": 1e999}'],
        "fails at step 1 of the training: it makes the learning rate",
    ),
    "at a step": (
        ["--optimizer", "torch.optim:SGD", "--optimizer-args", '{"differentiable": true}'],
        "torch.optim:SGD does not make a step: .*in-place",
    ),
    "scheduler's base class": (["--scheduler", "LRScheduler"], "unknown scheduler 'LRScheduler'"),
    "part of a scheduler": (["--scheduler", "cosine"], "did you mean 'CosineAnnealingLR'?"),
    "scheduler's text": (
        ["--scheduler", "StepLR", "--scheduler-args", '{"step_size": 1, "gamma": "x"}'],
        "the scheduler StepLR fails at step 9 of the training",
    ),
    "scheduler's end": (
        ["--scheduler", "OneCycleLR", "--scheduler-args", '{"total_steps": 12}'],
        "the scheduler OneCycleLR fails at step 13 of the training",
    ),
}


@pytest.mark.parametrize(("options", "said"), REFUSED.values(), ids=REFUSED)
def test_what_only_a_step_would_refuse_is_known_before_the_training(options, said, train):
    folder = train("--batch-size", "50", *options, status=2)
    assert re.fullmatch(f"torchopt-ref: .*{said}.*\n", train.err), train.err
    assert not folder.exists()


FILES = {
    "unknown": ("epoch = 3", "unknown option in {file}: 'epoch': did you mean 'epochs'"),
    "no TOML": ("epochs: 3", "--config {file} is not TOML"),
    "no number": ('lr = "fast"', "{file}: .*'fast'"),
    "infinite": ("lr = inf", "must be at least 0, and finite"),
    "deep": ("lr = " + "[" * 9999, "--config {file} is not TOML"),
    "a path": ('out = "a\\u0000b"', "is no path"),
    "a list": ("lr = [1]", "{file}: lr must be a single value"),
}


@pytest.mark.parametrize(("text", "said"), FILES.values(), ids=FILES)
def test_a_mistake_in_a_file_names_the_file(text, said, tmp_path, capsys):
    file = tmp_path / "options.toml"
    file.write_text(text)
    assert main(["train", "--config", str(file)]) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(f"torchopt-ref: .*{said.format(file=file)}.*\n", err), err


def test_the_command_line_counts_more_than_the_file_and_both_are_saved(train, tmp_path):
    file = tmp_path / "options.toml"
    file.write_text("lr = 0.01\nbatch-size = 100\nlabel_smoothing = 0.1\nepochs = 1\n")
    folder = train(f"--config={file}", "--lr", "0.02", tiny=TINY[:3])
    saved = json.loads((folder / "config.json").read_text())
    assert (saved["lr"], saved["batch_size"], saved["label_smoothing"]) == (0.02, 100, 0.1)
    assert (saved["augment"], saved["name"]) == (False, "run")


def test_a_finished_run_is_not_overwritten_but_tested_again(train):
    folder = train()
    before = last_state(folder)
    train(status=2)
    assert f"the run {folder} is there: add --resume" in train.err
    train("--resume", tiny=[])
    assert last_state(folder)["position"] == before["position"]


def test_what_decides_the_result_may_not_change_in_a_resumed_run(train):
    folder = train()
    train("--resume", "--lr", "0.5", status=2, tiny=[])
    assert f"--lr 0.5: the run {folder} was started with 0.002" in train.err
    train("--resume", "--keep", "1", tiny=[])


def test_resuming_the_latest_run_needs_no_name(train, tmp_path, capsys):
    train(name="older")
    train(name="latest")
    assert main(["train", "--out", str(tmp_path / "runs"), "--resume"]) == 0
    assert f"Resuming {tmp_path / 'runs' / 'latest'}\n" in capsys.readouterr().err


def test_resuming_what_has_not_begun_begins_it(train):
    folder = train("--resume")
    assert f"Nothing to resume: writing to {folder}" in train.err
    assert last_state(folder)["position"]["epoch"] == 2
