"""What lies in a run's folder belongs together, is whole, and runs nothing."""

import json
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.training_cases import TINY, last_checkpoint, last_state
from torchopt_ref.cli import main
from torchopt_ref.errors import UserError
from torchopt_ref.train import Config
from torchopt_ref.train import train as train_function
from torchopt_ref.train.checkpoints.files import digest_of
from torchopt_ref.whole_file import with_digest


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_mnist):
    out = tmp_path_factory.mktemp("finished")
    options = [*TINY, "--epochs", "1", *small_mnist, "--out", str(out), "--name", "run"]
    assert main(["train", *options]) == 0
    return out / "run"


@pytest.fixture
def run(train, finished, tmp_path):
    """The folder of a finished run, and what ``--resume`` of it says, which is one line."""
    folder = shutil.copytree(finished, tmp_path / "runs" / "run")

    def resume(*options, status=2):
        train("--resume", *options, status=status, tiny=[])
        assert status == 0 or train.err.count("\n") == 1, train.err
        return train.err

    resume.folder, resume.config = folder, folder / "config.json"
    return resume


def rewritten(run, **changed):
    """Change options, with the digest that belongs to them."""
    saved = json.loads(run.config.read_text())
    del saved["digest"]
    run.config.write_text(json.dumps(with_digest(saved | changed)))


def test_no_flipped_bit_in_the_options_goes_unnoticed(run):
    sound = run.config.read_bytes()
    for place in np.random.default_rng(0).integers(8 * len(sound), size=25):
        damaged = bytearray(sound)
        damaged[place // 8] ^= 1 << place % 8
        run.config.write_bytes(damaged)
        assert f"{run.config} is damaged, or was changed by hand" in run(), place
    run.config.write_bytes(sound)
    run(status=0)


@pytest.mark.parametrize(
    "content",
    [
        *(
            b"",
            b"[]",
            b"null",
            b"{}",
            b'"text"',
            b"1e999",
            b"[" * 100_000,
            b"\0" * 100,
            b"\xff\xfe",
        ),
        lambda sound: sound[: len(sound) // 2],
        lambda sound: sound.replace(b'"seed": 0', b'"seed": 1'),
        lambda sound: sound.replace(b'"seed": 0', b'"seed": 0, "seed": 0'),
        lambda sound: sound.replace(b'"lr": 0.002', b'"lr": "0.002"'),
        lambda sound: sound.replace(b'"seed"', b'"sead"'),
        lambda sound: sound.decode().encode("utf-16"),
    ],
)
def test_options_that_are_none_are_named(run, content):
    sound = run.config.read_bytes()
    run.config.write_bytes(content(sound) if callable(content) else content)
    assert f"{run.config} is damaged, or was changed by hand" in run()


def test_options_of_another_version_are_named(run):
    rewritten(run, momentum=0.9)
    assert f"{run.config} has the options of another version" in run()


def test_a_run_whose_options_are_gone_is_not_begun_anew(run):
    run.config.unlink()
    assert f"{run.config} is missing" in run()
    assert f"{run.config} is missing" in run("--seed", "0")


@pytest.mark.parametrize("content", [None, "[" * 100_000, "{", "[]"])
def test_what_the_images_were_is_not_made_up(run, content):
    file = run.folder / "data.json"
    file.unlink()
    if content:
        file.write_text(content)
    assert f"{file} is missing" in run() if content is None else "start another run" in run()
    assert file.exists() == bool(content)


def test_a_module_that_ends_the_process_when_it_is_imported_is_one_line(run, monkeypatch, tmp_path):
    (tmp_path / "quits.py").write_text("raise SystemExit(0)")
    monkeypatch.syspath_prepend(tmp_path)
    rewritten(run, optimizer="quits:Adam")
    assert "cannot import quits (SystemExit: 0)" in run()


def test_the_latest_run_counts_even_if_its_options_are_gone(train, tmp_path, capsys):
    train(name="older", tiny=[*TINY, "--epochs", "1"])
    latest = train(name="latest", tiny=[*TINY, "--epochs", "1"])
    (latest / "config.json").unlink()
    assert main(["train", "--out", str(tmp_path / "runs"), "--resume"]) == 2
    assert f"{latest / 'config.json'} is missing" in capsys.readouterr().err


@pytest.mark.parametrize("copied", ["config.json", "checkpoints"])
def test_what_is_of_another_run_is_refused(run, train, copied):
    """It is whole; its options are others."""
    other = train("--seed", "3", name="other", tiny=[*TINY, "--epochs", "1"])
    if copied == "config.json":
        run.config.write_bytes((other / copied).read_bytes())
        said, had, has = last_checkpoint(run.folder), 0, 3
    else:
        last_checkpoint(run.folder).unlink()
        said = run.folder / copied / last_checkpoint(other).name
        said.write_bytes(last_checkpoint(other).read_bytes())
        had, has = 3, 0
    err = run()
    assert f"{said} is of another run: it was made with seed {had}, this run has {has}" in err
    if copied == "checkpoints":
        said.unlink()
        run(status=0)


@pytest.mark.parametrize(
    "content", [{"model": {}}, [1], torch.ones(3), {"options": 3}, {"options": {}}, b"text", object]
)
def test_a_checkpoint_of_something_else_is_refused(run, content):
    """Under a name with the right digest."""
    file = run.folder / "checkpoints" / "partial"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    file.rename(file.with_name(f"step-99999999-{digest_of(file)}.pt"))
    err = run()
    assert "step-99999999" in err
    assert "is no checkpoint of torchopt-ref train" in err or "is of another run" in err


def test_a_checkpoint_that_does_not_fit_the_model_is_one_line(run):
    """It has the right options and the right digest."""
    state = last_state(run.folder)
    state["model"] = {}
    file = run.folder / "checkpoints" / "partial"
    torch.save(state, file)
    file.rename(file.with_name(f"step-99999999-{digest_of(file)}.pt"))
    assert "does not fit this training" in run()


def test_a_folder_in_the_place_of_a_checkpoint_is_one_line(run):
    folder = run.folder / "checkpoints" / "partial"
    folder.mkdir()
    (folder / "file").write_bytes(b"a")
    folder.rename(folder.with_name(f"step-99999999-{digest_of(folder)}"))
    assert "step-99999999" in run()


def test_from_python_options_are_compared_before_anything_is_written(run):
    saved = json.loads(run.config.read_text())
    del saved["digest"]
    paths = {"out": run.folder.parent, "data_root": Path(saved["data_root"])}
    other = Config.of(**saved | paths | {"seed": 5, "resume": True})
    for content, said in ((run.config.read_bytes(), "--seed 5: the run"), (None, "is missing")):
        if content is None:
            run.config.unlink()
        with pytest.raises(UserError, match=said):
            train_function(other)
        assert (run.config.read_bytes() if run.config.exists() else None) == content


def test_without_resume_a_folder_with_checkpoints_is_not_written_to_either(run, train):
    run.config.unlink()
    train("--seed", "7", status=2)
    assert f"{run.config} is missing" in train.err
    assert not run.config.exists()


EVIL = "open('made', 'w').close()\nfrom torch.optim import SGD as X\n"
EVIL += "from torch.optim.lr_scheduler import ConstantLR as Y\n"


@pytest.mark.parametrize("option", ["optimizer", "scheduler"])
@pytest.mark.parametrize("here", ["", ".", "absolute"])
def test_nothing_is_imported_from_the_current_folder_that_only_a_runs_folder_names(
    run, tmp_path, monkeypatch, option, here
):
    (tmp_path / "evil.py").write_text(EVIL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path) if here == "absolute" else here)
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    target = "evil:X" if option == "optimizer" else "evil:Y"
    rewritten(run, **{option: target})
    assert f"repeat --{option} {target}" in run()
    assert not (tmp_path / "made").exists()
    assert "is of another run" in run(f"--{option}", target)
    assert (tmp_path / "made").exists()


def test_a_resumed_run_does_not_open_the_current_folder_to_imports(train, monkeypatch, tmp_path):
    """Else a file there could take the place of a module that is imported later."""
    train("--optimizer", "troublemakers:Interrupted")
    monkeypatch.chdir(tmp_path)
    train("--resume", tiny=[])
    assert str(tmp_path) not in sys.path


def test_the_command_that_resumes_names_what_is_in_the_current_folder(train, monkeypatch, tmp_path):
    (tmp_path / "mine.py").write_text("from troublemakers import Interrupted")
    monkeypatch.setenv("TROUBLE", "TERM 5")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(sys.modules, "mine", None)
    del sys.modules["mine"]
    train("--optimizer", "mine:Interrupted", status=143)
    command = train.err.splitlines()[-1]
    assert command.endswith(" --name run --resume --optimizer mine:Interrupted")
    assert main(shlex.split(command)[3:]) == 143
