"""What lies in a run's folder belongs together, is whole, and runs nothing."""

import io
import json
import os
import pickle
import shlex
import signal
import sys
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from enum import IntEnum
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp

from tests.train.training_cases import TINY, last_checkpoint, last_state
from torchopt_ref.cli import main
from torchopt_ref.errors import UserError
from torchopt_ref.train import Config
from torchopt_ref.train import train as train_function
from torchopt_ref.train.checkpoints import Checkpoints, canonical
from torchopt_ref.train.checkpoints.files import digest_of
from torchopt_ref.train.checkpoints.sharded import SafePlanner, SafeReader
from torchopt_ref.train.distributed import Processes
from torchopt_ref.whole_file import with_digest


@pytest.fixture
def run(train):
    """The folder of a finished run, and what ``--resume`` of it says, which is one line."""
    folder = train(tiny=[*TINY, "--epochs", "1"])

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


def save_killed_at(checkpoints, number, operation):
    """Save in a process that is killed before its ``operation``-th one on files; whether it was."""
    pid = os.fork()
    if pid == 0:
        count = 0

        def hook(event, arguments):
            nonlocal count
            if event in ("open", "os.link", "os.rename", "os.remove", "os.mkdir"):
                count += 1
                if count == operation:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        checkpoints.save({"number": number}, number, best=True)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.mark.filterwarnings("ignore:.*fork")
@pytest.mark.parametrize("number", [1, 2])
def test_a_save_that_is_killed_at_any_point_harms_no_checkpoint_and_no_later_save(tmp_path, number):
    """Another one, or the same again: at every moment there is one to go on from, and a best."""
    for operation in range(1, 100):
        checkpoints = Checkpoints(tmp_path / str(operation), 1, Processes(), {})
        checkpoints.save({"number": 1}, 1, best=True)
        killed = save_killed_at(checkpoints, number, operation)
        last = torch.load(checkpoints.latest(), weights_only=True)["number"]
        assert last in (1, number)
        assert list(checkpoints.folder.glob("best-*"))
        checkpoints.save({"number": 3}, 3, best=False)
        for file in checkpoints.folder.glob("*.pt"):
            assert digest_of(file) in file.name
        assert torch.load(checkpoints.latest(), weights_only=True)["number"] == 3
        if not killed:
            break
    assert 5 < operation < 99


def test_saving_the_same_again_needs_no_moment_without_it(tmp_path):
    checkpoints = Checkpoints(tmp_path, 1, Processes(), {})
    checkpoints.save({"number": 1}, 1, best=False)
    inode = checkpoints.latest().stat().st_ino
    checkpoints.save({"number": 1}, 1, best=False)
    assert checkpoints.latest().stat().st_ino == inode


class Kind(IntEnum):
    A = 1


Pair = namedtuple("Pair", "a b")


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [
        *(True, None, 2**70, 0.1, 1j, "a", b"a", (1, "a"), [1.5], {1: {"a": 2}}, {1, 2}),
        *(OrderedDict(a=1), Counter("aab"), torch.Size([2]), torch.float16, torch.device("cpu")),
        *(np.float64(0.1), np.int64(7), np.uint8(7), np.bool_(True), {"a": [np.float64(0.1)]}),
    ],
    ids=repr,
)
def test_what_is_saved_reads_back_as_it_is(value):
    file = io.BytesIO()
    torch.save(canonical({"it": value}), file)
    file.seek(0)
    (read,) = torch.load(file, weights_only=True).values()
    assert read == value
    assert type(read) in (type(value), float, int, bool)
    assert not isinstance(read, np.generic)


class Own(torch.Tensor):
    pass


@pytest.mark.parametrize(
    "value",
    [
        *(deque([1]), defaultdict(list), range(3), np.ones(2), np.float32(0.1), frozenset([1])),
        *(Pair(1, 2), Kind.A, Text("a"), Fraction(1, 2), len, slice(1), object()),
        torch.ones(2).as_subclass(Own),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_not_read_back_is_refused_with_its_place(value):
    for state in ({"slot": value}, {"slot": [{"deep": value}]}):
        with pytest.raises(UserError, match=r"cannot be saved: \['slot'\].* is a .*weights_only"):
            canonical(state)


def test_an_integer_that_would_not_read_back_is_refused():
    canonical({"slot": -(2**2039 - 1)})
    with pytest.raises(UserError, match=r"cannot be saved: \['slot'\] is a too large int"):
        canonical({"slot": 2**2039})


def test_a_scheduler_of_numpy_numbers_is_resumed(train):
    arguments = ["--scheduler", "troublemakers:Remembering", "--warmup", "0"]
    folder = train(*arguments, "--scheduler-args", '{"kind": "float64"}')
    assert type(last_state(folder)["schedule"]["scheduler"]["seen"]) is float
    train("--resume", tiny=[])


@pytest.mark.parametrize("kind", ["ndarray", "deque", "defaultdict", "range", "later"])
def test_a_scheduler_whose_state_cannot_be_read_back_is_refused_before_the_training(train, kind):
    arguments = json.dumps({"kind": kind})
    scheduler = ["--scheduler", "troublemakers:Remembering", "--scheduler-args", arguments]
    assert not train(*scheduler, status=2).exists()
    (line,) = train.err.splitlines()
    assert f"['seen'] is a {'numpy' if kind == 'ndarray' else ''}" in line
    assert "torch.load(weights_only=True)" in line


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, file, by=os.mkdir):
        self.file, self.by = str(file), by

    def __reduce__(self):
        return self.by, (self.file,)


def sharded(folder):
    """A checkpoint in the format of torch.distributed."""
    weights = {"model": {"weight": torch.arange(3.0)}, "lr": 0.1}
    dcp.save(weights, checkpoint_id=folder, no_dist=True)
    return weights


def load(folder, into):
    dcp.load(into, storage_reader=SafeReader(folder), planner=SafePlanner(), no_dist=True)
    return into


def test_a_sharded_checkpoint_reads_back(tmp_path):
    saved = sharded(tmp_path)
    found = load(tmp_path, {"model": {"weight": torch.zeros(3)}, "lr": 0.0})
    assert found["lr"] == saved["lr"]
    assert torch.equal(found["model"]["weight"], saved["model"]["weight"])


ON_A_CLASS = b"ctorch.distributed.checkpoint.metadata\nMetadata\n(N}Vversion\nVevil\nstb."


def test_metadata_changes_no_class_of_torch(tmp_path):
    (tmp_path / ".metadata").write_bytes(ON_A_CLASS)
    with pytest.raises(UserError, match=r"\.metadata is not what a checkpoint has"):
        SafeReader(tmp_path).read_metadata()
    assert dcp.metadata.Metadata.version is None


GLOBALS = {
    "a function": b"cos\nmkdir\n",
    "a builtin": b"cbuiltins\n__import__\n",
    "one in torch's own module": b"ctorch.serialization\nos\n",
    "through a module that is allowed": b"\x80\x04\x8c\x13torch.serialization\x8c\x08os.mkdir\x93",
    "through a class that is allowed": b"\x80\x04\x8c\x05torch\x8c\x0eSize.__class__\x93",
    "a rebuilder": b"ctorch._utils\n_rebuild_tensor_v2\n",
    "torch.load": b"ctorch\nload\n",
}


@pytest.mark.parametrize("name", GLOBALS.values(), ids=GLOBALS)
def test_the_metadata_of_a_sharded_checkpoint_runs_nothing(tmp_path, name):
    sharded(tmp_path)
    made = tmp_path / "made"
    (tmp_path / ".metadata").write_bytes(name + b"(V" + str(made).encode() + b"\ntR.")
    with pytest.raises(UserError, match=r"is not what a checkpoint has \(it names "):
        SafeReader(tmp_path).read_metadata()
    assert not made.exists()


@pytest.mark.parametrize("content", [b"", b"text", b"N.", b"(lp0\n.", pickle.dumps({"a": 1})])
def test_metadata_that_is_none_is_named(tmp_path, content):
    sharded(tmp_path)
    (tmp_path / ".metadata").write_bytes(content)
    with pytest.raises(UserError, match=r"\.metadata is not what a checkpoint has"):
        SafeReader(tmp_path).read_metadata()


def test_a_plain_value_of_a_sharded_checkpoint_runs_nothing(tmp_path):
    made = tmp_path / "made"
    dcp.save({"lr": Evil(made)}, checkpoint_id=tmp_path / "saved", no_dist=True)
    with pytest.raises(dcp.api.CheckpointException, match="Weights only load failed"):
        load(tmp_path / "saved", {"lr": 0.0})
    assert not made.exists()


def test_parts_of_a_sharded_checkpoint_lie_within_it(tmp_path):
    sharded(tmp_path / "saved")
    metadata = SafeReader(tmp_path / "saved").read_metadata()
    for info in metadata.storage_data.values():
        info.relative_path = f"../{info.relative_path}"
    (tmp_path / "saved" / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(UserError, match="outside of itself"):
        SafeReader(tmp_path / "saved").read_metadata()


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
