"""Which run ``torchopt-ref tensorboard`` opens, and the addresses that it prints."""

import os
import re
from urllib.parse import parse_qs, urlsplit

import pytest
import torch

from tests.tensorboard.trainings import mlp, train
from torchopt_ref.cli import main
from torchopt_ref.tensorboard import Monitor
from torchopt_ref.tensorboard.first_view import hints, runs_in, shown
from torchopt_ref.tensorboard.run_lock import locked
from torchopt_ref.tensorboard.write.event_file import EventFile, scalar_values

URL = "http://127.0.0.1:6006/"


def write(folder, parts=("",), at=0, by_command=True):
    """Event files in the ``parts`` of a run's folder, of the time ``at``."""
    for part in parts:
        file = EventFile(folder / part, 1)
        file.add(scalar_values({"loss": 1.0}), 1)
        file.close()
        for path in (folder / part).glob("events*"):
            os.utime(path, (at, at))
    if by_command:
        with locked(folder):
            pass


def seen(address, folder):
    """The folders of event files that TensorBoard shows at the address."""
    query = parse_qs(urlsplit(address).query)
    fragment = parse_qs(urlsplit(address).fragment)
    assert query.get("runFilter") == fragment.get("regexInput")
    pattern = query.get("runFilter", [""])[0]
    names = {str(path.parent.relative_to(folder)) for path in folder.rglob("events*")}
    return {name for name in names if re.search(pattern, name, re.IGNORECASE)}


def test_the_newest_run_is_opened_and_the_others_are_listed_after_it(tmp_path):
    write(tmp_path / "optimizers" / "mnist-1", ["SGD-torch", "figures"], at=1)
    write(tmp_path / "train" / "first", ["", "monitor"], at=3)
    write(tmp_path / "mine", at=2, by_command=False)
    runs = runs_in(tmp_path)
    names = ["train/first", "mine", "optimizers/mnist-1"]
    assert [str(run.folder.relative_to(tmp_path)) for run in runs] == names
    first, said, *others, everything = hints(URL, tmp_path, runs)
    opened = re.fullmatch(r"Open (\S+) \(Ctrl-C ends it\)", first)[1]
    assert seen(opened, tmp_path) == {"train/first", "train/first/monitor"}
    assert said == "It shows the newest of 3 runs. The others:"
    assert [line.split()[0] for line in others] == names[1:]
    optimizers = others[1].split()[1]
    assert seen(optimizers, tmp_path) == {
        "optimizers/mnist-1/SGD-torch",
        "optimizers/mnist-1/figures",
    }
    assert everything == f"All of them: {URL}#timeseries"


NAMES = ["a", "q", "Q-3", "b/a", "lr=0.1 (a+b)", "lr=001 (aab)", "50%&x=#?", "[x]", "x", "é"]


def test_an_address_chooses_one_run_whatever_the_names_are(tmp_path):
    for name in NAMES:
        write(tmp_path / name, ["", "monitor"])
    write(tmp_path)
    runs = runs_in(tmp_path)
    assert len(runs) == len(NAMES) + 1
    first, _, *others, _, _ = hints(URL, tmp_path, runs)
    addresses = [first.split()[1], *(line.split()[-1] for line in others)]
    for run, address in zip(runs, addresses, strict=False):
        parts = {str(part.relative_to(tmp_path)) for part in run.parts}
        assert seen(address, tmp_path) == parts, address


def test_a_run_a_monitors_folder_and_runs_without_any_command_are_shown_whole(tmp_path):
    """Without a filter: there is nothing beside them."""
    write(tmp_path / "train" / "one", ["", "monitor"])
    write(tmp_path / "sweep", ["0.1", "0.01"], by_command=False)
    for folder in ("train/one", "train/one/monitor", "train", "sweep"):
        runs = runs_in(tmp_path / folder)
        assert hints(URL, tmp_path / folder, runs) == [f"Open {URL}#timeseries (Ctrl-C ends it)"]


def test_the_page_is_one_that_selects_the_run(tmp_path):
    """The dashboard up to 40 folders of event files, Time Series up to 500, then the table."""
    model = mlp(hidden=(10,))
    optimizer = torch.optim.SGD(model.parameters())
    with Monitor(model, optimizer, tmp_path / "run" / "0", every=1, record=["health"]) as monitor:
        train(model, optimizer, monitor, steps=1)
    pages = {}
    for count in (40, 41, 500, 501):
        write(tmp_path / "run", [str(i) for i in range(1, count)])
        (run,) = runs_in(tmp_path)
        pages[count] = run.page
    assert pages == {
        40: "custom_scalars&_smoothingWeight=0",
        41: "timeseries",
        500: "timeseries",
        501: "hparams",
    }


def test_where_no_page_would_select_any_the_newest_run_is_shown_alone(tmp_path):
    write(tmp_path / "old", [str(i) for i in range(499)], at=1)
    write(tmp_path / "new", ["a", "b"], at=2)
    runs = runs_in(tmp_path)
    assert shown(tmp_path, runs) == tmp_path / "new"
    opened, said, other = hints(URL, tmp_path, runs)
    assert opened == f"Open {URL}#timeseries (Ctrl-C ends it)"
    assert said.startswith(f"It shows {tmp_path / 'new'}, the newest of 2 runs: ")
    assert other == f"Another one: torchopt-ref tensorboard {tmp_path / 'old'}"


@pytest.mark.parametrize("kind", ["dead link", "pipe", "folder"])
def test_what_only_has_the_name_of_an_event_file_is_no_run(kind, tmp_path):
    write(tmp_path / "run")
    (tmp_path / "other").mkdir()
    file = tmp_path / "other" / "events.out.tfevents.1.host.1"
    if kind == "dead link":
        file.symlink_to(tmp_path / "gone")
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.mkdir()
    assert [run.parts for run in runs_in(tmp_path)] == [(tmp_path / "run",)]


@pytest.mark.parametrize(("count", "runs"), [(500, 1), (501, 501)])
def test_folders_of_no_command_are_compared_if_tensorboard_can_show_so_many(count, runs, tmp_path):
    for number in range(count):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "events.out.tfevents.1").touch()
    assert len(runs_in(tmp_path)) == runs


@pytest.mark.parametrize("arguments", [[], ["."], ["nowhere"]])
def test_where_there_is_no_run_one_line_says_what_makes_one(
    arguments, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(["tensorboard", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(
        r"torchopt-ref: no (folder|run in) (runs|\.|nowhere): `torchopt-ref train` makes some; "
        "or give the folder that holds the runs\n",
        err,
    )
