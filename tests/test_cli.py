"""The command line: what it prints, its exit statuses, and one line for each mistake."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.starter import wait_for
from tests.thinned import only
from torchopt_ref import __version__
from torchopt_ref.cli import main
from torchopt_ref.experiments import EXPERIMENTS
from torchopt_ref.sides import configurations

RUN = ["run", "optimizers", "--iterations", "1"]
PARITY = ["parity", "--optimizers", "SGD", "--steps", "1"]
FIELDS = {
    *("optimizer", "dialect", "engine", "dtype", "device", "options", "against", "steps"),
    *("max_ulp_param", "max_ulp_state", "max_abs", "max_step_error", "first_divergent_step"),
    *("bound_on", "bound", "at_fault", "formulas_differ", "passed"),
}


def python(*arguments, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help(arguments, capsys):
    assert main(arguments) == 0
    assert "torchopt-ref run NAME" in capsys.readouterr().out


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"torchopt-ref {__version__}\n"
    main(["--help"])
    assert "torchopt-ref --version" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["list"], ["run"], ["run", "--help"]])
def test_experiments_are_listed(arguments, capsys):
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert all(name in out and text in out for name, text in EXPERIMENTS.items())


def test_an_experiments_options_are_listed_with_their_defaults(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["run", "optimizers", "--help"])
    assert not exit.value.code
    out = capsys.readouterr().out
    options = "iterations batch-size seed dtype device sides out data-root dataset lockstep"
    assert all(f"--{option}" in out for option in options.split())
    assert "2000" in out
    assert "(default: runs)" in out


MISTAKES = {
    "command": (["rnu"], "unknown command 'rnu': did you mean 'run'?"),
    "beginning": (["run", "act"], "unknown experiment 'act': did you mean 'activations'?"),
    "experiment": (["run", "optimizer"], "unknown experiment 'optimizer': did you mean"),
    "option": ([*RUN, "--iteration", "3"], "unknown option '--iteration': did you mean"),
    "dialect": ([*RUN, "--dialect", "kears"], "unknown dialect 'kears': did you mean 'keras'?"),
    "no dialect": ([*RUN, "--dialect", ""], "unknown dialect ''"),
    "stray word": ([*RUN, "adam"], "adam: see torchopt-ref run optimizers --help"),
    "no value": ([*RUN, "--seed"], "--seed"),
    "no number": ([*RUN, "--seed", "one"], "--seed: invalid literal for int.* 'one': see"),
    "a fraction": ([*RUN, "--batch-size", "1.5"], "--batch-size: invalid literal"),
    "no iterations": ([*RUN, "--iterations", "0"], "--iterations must be at least 1"),
    "no batch": ([*RUN, "--batch-size", "-1"], "--batch-size must be at least 1"),
    "a huge batch": ([*RUN, "--batch-size", "10001"], "the training set has 10000 images"),
    "negative seed": ([*RUN, "--seed", "-1"], "--seed must be at least 0"),
    "dtype": ([*RUN, "--dtype", "float31"], "unknown dtype 'float31': did you mean 'float32'"),
    "device": ([*RUN, "--device", "gpu"], "unknown device 'gpu': did you mean 'cpu'"),
    "device number": ([*RUN, "--device", "cuda:x"], "unknown device 'cuda:x'"),
    "no such device": ([*RUN, "--device", "cuda:99"], "torch finds . CUDA devices here"),
    "side": ([*RUN, "--sides", "numpy,jax"], "unknown side 'jax'"),
    "lockstep": ([*RUN, "--sides", "torch", "--lockstep"], "compares two sides"),
    "dataset": ([*RUN, "--dataset", "mnits"], "unknown dataset 'mnits': did you mean 'mnist'"),
    "data root": ([*RUN, "--data-root", "/nowhere"], "cannot read /nowhere/MNIST/raw"),
    "optimizer": ([*PARITY, "--optimizers", "Adma"], "unknown optimizer 'Adma': did you mean"),
    "no optimizer": ([*PARITY, "--optimizers", ","], "unknown optimizer ''"),
    "parity dtype": ([*PARITY, "--dtypes", "float8"], "unknown dtype 'float8'"),
    "parity steps": ([*PARITY, "--steps", "0"], "--steps must be at least 1"),
    "parity no number": ([*PARITY, "--steps", "x"], "argument --steps: invalid int value: 'x'"),
    "parity seed": ([*PARITY, "--seed", "-1"], "--seed must be at least 0"),
    "parity device": ([*PARITY, "--device", "tpu"], "unknown device 'tpu'"),
    "parity option": ([*PARITY, "--csv", "x"], "unrecognized arguments: --csv x"),
    "parity json": ([*PARITY, "--json", "/nowhere/x"], "cannot write /nowhere/x: No such file"),
    "parity json folder": ([*PARITY, "--json", "."], "cannot write .: Is a directory"),
    "parity no value": ([*PARITY, "--steps=--"], "--steps=-- gives no value"),
    "parity huge seed": ([*PARITY, "--seed", str(2**64)], "--seed must be at most"),
    "huge seed": ([*RUN, "--seed", str(2**64)], "--seed must be at most"),
    "many jobs": ([*RUN, "--jobs", "100000"], "--jobs must be at most 1024"),
    "no user": ([*RUN, "--data-root", "~nouser/x"], "no home folder for ~nouser/x"),
    "no user either": (["report", "~nouser"], "no home folder for ~nouser"),
    "no path": ([*RUN, "--out", "a\0b"], "'a.x00b' is no path"),
    "long path": (["inspect", "x" * 300], "the name xxxxxxxxxxxxxxxxxxxx... is too long"),
    "port": (["tensorboard", ".", "--port", "-1"], "--port must be at least 0"),
    "large port": (["tensorboard", ".", "--port", "70000"], "--port must be at most 65535"),
    "check deep": (["check", "torch.optim:SGD", "--kwargs", "[" * 9999], "--kwargs is not JSON"),
    "check huge": (["check", "torch.optim:SGD", "--kwargs", "9" * 9999], "--kwargs is not JSON"),
    "check twice": (["check", "torch.optim:SGD", "--kwargs", '{"lr": 1, "lr": 2}'], "key occurs"),
    "check NaN": (["check", "torch.optim:SGD", "--kwargs", '{"lr": NaN}'], "NaN is no number"),
    "check switch": (
        ["check", "torch.optim:SGD", "--kwargs", '{"maximize": "no"}'],
        "maximize is true or false, not 'no'",
    ),
    "check nothing": (["check", "torch.optim:SGD", "--reference", ""], "unknown reference ''"),
    "check bytes": (["check", "torch.optim:SGD", "--state-bytes", "nan"], "at least 0, and finite"),
    "check exit": (["check", "builtins:exit"], "cannot make an optimizer of builtins:exit"),
    "deep path": (["report", "d/" * 3000], "the path d/d/.* is too long"),
    "decay": (["run", "weight-decay", "--weight-decay", "nan"], "must be above 0, and finite"),
    "list": (["list", "x"], "unrecognized arguments: x: see torchopt-ref list --help"),
}


@pytest.mark.parametrize(("arguments", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_status_2(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(f"torchopt-ref: .*{said}.*\n", err), err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_an_option_without_its_value_is_one_line_in_any_encoding(encoding, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding))
    assert main([*RUN, "--seed"]) == 2
    assert capsys.readouterr().err == (
        "torchopt-ref: Missing value for argument '--seed'. Expected 1 values.: "
        "see torchopt-ref run optimizers --help\n"
    )


def test_a_corrupt_data_file_is_named(tmp_path, capsys):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(b"not an IDX file at all")
    assert main([*RUN, "--data-root", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert str(raw / "train-images-idx3-ubyte") in err
    assert "delete it and fetch it again" in err


def test_an_out_that_is_a_file_is_named(tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    for out in (file, file / "below"):
        assert main([*RUN, "--out", str(out)]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"torchopt-ref: cannot write {out}")
        assert err.count("\n") == 1


LIMITED = """
import resource, signal, sys
from torchopt_ref.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
sys.exit(main(sys.argv[1:]))
"""


def test_a_full_disk_is_one_line_that_names_the_folder(starter, tmp_path):
    """The system refuses to let a file grow, in TensorBoard's writing thread, as on a full disk."""
    log = tmp_path / "log"
    options = ["--sides", "torch", "--jobs", "1", "--out", tmp_path]
    pid = starter.start(["run", "optimizers", "--iterations", "100", *options], log, LIMITED)
    assert starter.wait(pid) == 2
    (folder,) = (tmp_path / "optimizers").iterdir()
    assert log.read_text().splitlines() == [
        f"Writing to {folder}",
        f"torchopt-ref: cannot write {folder}: File too large: make room there, or choose another "
        "folder with --out",
    ]


INTERRUPTED = """
import multiprocessing, os, signal, sys
from torchopt_ref.cli import main
from torchopt_ref.experiments.lab import processes

os.setsid()  # so that the workers can be counted
# A test suite that runs in the background may have been told to ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
method = sys.argv.pop(1)
processes.context = lambda: multiprocessing.get_context(method)
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def endless_run(starter, tmp_path):
    """``endless_run(METHOD)``: the number of a process of the main job, to which Ctrl-C can be
    sent; its workers are started by that method."""
    started = []

    def start(method):
        arguments = ["run", "optimizers", "--iterations", "50", "--seeds", "1000"]
        arguments += ["--jobs", "2", "--out", tmp_path]
        started.append(starter.start([method, *arguments], tmp_path / "log", INTERRUPTED))
        return started[0]

    yield start
    for pid in started:
        with suppress(ProcessLookupError):  # it has ended, and its workers with it
            os.killpg(pid, signal.SIGKILL)


# The server that forks the workers imports torch first, which takes most of the time.
@pytest.mark.parametrize("method", only(["fork"], ["fork", "forkserver"]))
def test_ctrl_c_leaves_whole_event_files_and_says_so(method, starter, endless_run, tmp_path):
    """It ends the workers, too."""
    pid = endless_run(method)
    wait_for(lambda: [*tmp_path.glob("optimizers/*/units/SGD-seed0.json")])
    (folder,) = (tmp_path / "optimizers").iterdir()
    assert len(processes_of_session(pid)) >= 3
    os.kill(pid, signal.SIGINT)
    assert starter.wait(pid, 60) == 130
    wait_for(lambda: not processes_of_session(pid))
    writing, *progress, said, where, how = (tmp_path / "log").read_text().splitlines()
    assert writing == f"Writing to {folder}"
    assert all(re.fullmatch(r"optimizers: \d+ of \d+, .*|", line) for line in progress)
    assert said == "Interrupted"
    assert where.startswith("The event files are complete: ")
    assert where.endswith(f": torchopt-ref tensorboard {folder}")
    assert how == "Go on: the same command, without --force: what is finished is kept"
    for side in ("numpy", "torch"):
        steps = [event.step for event in losses(str(folder / f"SGD-{side}"))]
        assert steps == list(range(1, 51))
    finished = os.listdir(folder / "units")
    assert "SGD-seed0.json" in finished
    assert not [name for name in finished if not name.endswith(".json")]


def processes_of_session(pid):
    """Those that ``pid`` has started in its session, and itself."""
    found = []
    for each in psutil.pids():
        with suppress(ProcessLookupError):
            found += [each] if os.getsid(each) == pid else []
    return found


def losses(folder):
    events = EventAccumulator(folder, {"scalars": 0})
    if not os.path.isdir(folder):
        return []
    events.Reload()
    return events.Scalars("loss/train") if "loss/train" in events.Tags()["scalars"] else []


BLOCKED = """
import sys
class Missing:
    def find_spec(name, path, target=None):
        if name.partition(".")[0] == sys.argv[1]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing)
for name in [*sys.modules]:  # the starter's
    if name.startswith((sys.argv[1], "torchopt_ref.tensorboard")):
        del sys.modules[name]
from torchopt_ref.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("module", ["tyro", "tensorboard", "rich"])
def test_a_missing_extra_names_the_line_that_installs_it(module, starter, tmp_path):
    log = tmp_path / "log"
    pid = starter.start([module, *RUN, "--out", tmp_path / "out"], log, BLOCKED)
    assert starter.wait(pid) == 2
    said = f"torchopt-ref: {module} is not installed: pip install 'torchopt-ref[lab]'\n"
    assert log.read_text() == said


def test_parity_shows_a_table_and_writes_rows(tmp_path, capsys):
    file = tmp_path / "rows.json"
    arguments = ["parity", "--optimizers", "sgd,book.ADAM", "--dtypes", "float32", "--steps", "3"]
    arguments += ["--engines", "kernel", "eager"]
    assert main([*arguments, "--json", str(file)]) == 0
    header, *lines, total = capsys.readouterr().out.splitlines()
    rows = json.loads(file.read_text())
    shown = list(configurations(["SGD", "book.Adam"]))
    of_torch = [c for c in shown if c.known.torchs]
    assert header.split()[:3] == ["optimizer", "engine", "dtype"]
    assert len(rows) == len(lines) == 2 * len(shown) + len(of_torch)
    assert total == f"{len(rows)} rows, 0 above their bound"
    for row in rows:
        assert row.keys() == FIELDS
        assert row["steps"] == 3
        assert (row["device"], row["dtype"]) == ("cpu", "float32")
    own = [row for row in rows if row["against"] == "numpy_ref"]
    assert [row["engine"] for row in own] == ["kernel", "eager"] * len(shown)
    assert {row["engine"] for row in rows if row["against"] == "torch.optim"} == {"kernel"}
    assert {row["against"] for row in rows} == {"numpy_ref", "torch.optim"}
    for row in own:
        measured = row["max_ulp_param"], row["max_ulp_state"], row["max_abs"]
        assert (*measured, row["first_divergent_step"]) == (0, 0, 0.0, None)


def test_parity_exits_with_1_above_a_bound(tmp_path, capsys, monkeypatch):
    """The bound of 8 units against ``torch.optim`` made 0, which its fused kernels exceed."""
    monkeypatch.setattr("torchopt_ref.testing.parity.table.stated_bound", lambda *_: 0)
    file = tmp_path / "rows.json"
    arguments = ["--optimizers", "Adam", "--dtypes", "float32", "--steps", "20"]
    assert main(["parity", *arguments, "--json", str(file)]) == 1
    out = capsys.readouterr().out
    above = [row for row in json.loads(file.read_text()) if not row["passed"]]
    assert above
    assert {row["against"] for row in above} == {"torch.optim"}
    assert f", {len(above)} above their bound" in out
    assert sum("! " in line for line in out.splitlines()) == len(above)


@pytest.mark.parametrize(("package", "missing"), [("keras", "jax"), ("optax", "optax")])
def test_parity_against_a_package_that_is_missing_is_one_line(
    package, missing, tmp_path, capsys, monkeypatch
):
    if missing != "jax":
        pytest.importorskip("jax")  # Else that is what is named.
    monkeypatch.setitem(sys.modules, missing, None)
    file = tmp_path / "rows.json"
    assert main(["parity", "--against", package, "--json", str(file)]) == 2
    said = f"torchopt-ref: {missing} is not installed: pip install 'torchopt-ref[dialects]'\n"
    assert capsys.readouterr() == ("", said)
    assert not file.exists()


CLOSED = """
import os, sys
from torchopt_ref.cli import main
reader, writer = os.pipe()
os.close(reader)
os.dup2(writer, 1)
status = main(sys.argv[1:])
sys.stdout.flush()
os._exit(status)
"""


@pytest.mark.parametrize(
    "arguments",
    [[], ["list"], ["report", "{runs}"], [*PARITY, "--dtypes", "float32", "--engines", "kernel"]],
)
def test_a_reader_that_has_gone_ends_a_command_quietly(arguments, starter, tmp_path):
    run = tmp_path / "dropout" / "one"
    run.mkdir(parents=True)
    found = {name: ["x", "x"] for name in ("title", "why", "tried", "seen", "sides")}
    found |= {"experiment": "x", "config": {}, "figures": {}, "claims": [], "tables": []}
    (run / "results.json").write_text(json.dumps(found | {"environment": {"finished": "now"}}))
    log = tmp_path / "log"
    pid = starter.start([each.format(runs=tmp_path) for each in arguments], log, CLOSED)
    assert starter.wait(pid) == 128 + signal.SIGPIPE
    assert log.read_text() == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="it is Linux's")
@pytest.mark.parametrize("arguments", [["list"], ["parity", "--help"]])
def test_what_cannot_be_printed_is_one_line(arguments):
    with open("/dev/full", "w", encoding="utf-8") as full:
        run = [sys.executable, "-m", "torchopt_ref", *arguments]
        process = subprocess.run(run, stdout=full, stderr=subprocess.PIPE, text=True)
    assert process.returncode == 2
    assert re.fullmatch("torchopt-ref: the system refuses .*: No space left.*\n", process.stderr)


def test_a_file_that_the_system_refuses_is_one_line(tmp_path, capsys, monkeypatch):
    def refuse(folder, experiments):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("torchopt_ref.experiments.lab.page.latest_runs", refuse)
    assert main(["report", str(tmp_path)]) == 2
    said = f"torchopt-ref: the system refuses {tmp_path}: Permission denied\n"
    assert capsys.readouterr().err == said


QUICK = [
    ["--version"],
    *(["train", "--help"], ["train", "--lr", "fast"], ["train", "--name=-x"]),
    *(["parity", "--help"], ["parity", "--seed", "-1"], ["report", "--help"], ["list"]),
    *(["inspect", "--help"], ["tensorboard", "--help"], ["tensorboard", "--port", "x"]),
    *(["check", "--help"], ["check", "torch.optim:SGD", "--max-ulp", "1"]),
]


def test_help_and_a_mistake_in_an_options_form_do_not_wait_for_torch():
    code = f"""
import contextlib, sys
from torchopt_ref.cli import main
for arguments in {QUICK}:
    with contextlib.suppress(SystemExit):
        main(arguments)
assert "torch" not in sys.modules and "numpy" not in sys.modules
"""
    out, err = python("-c", code).communicate(timeout=60)
    assert "--on-nan" in out
    assert err.count("\n") == 5, err


def test_python_m_is_the_command():
    out, err = python("-m", "torchopt_ref", "list").communicate(timeout=60)
    assert "optimizers" in out
    assert err == ""
