"""A run's folder: its name, and what remains when something goes wrong."""

import json
import threading
from functools import partial

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.experiments.made_up_reports import summary
from torchopt_ref.cli import main
from torchopt_ref.errors import UserError
from torchopt_ref.experiments.lab.page import latest_runs, write_page
from torchopt_ref.tensorboard import RunFolder


def test_runs_of_the_same_second_have_folders_of_their_own(tmp_path):
    paths = [RunFolder(tmp_path).path for _ in range(20)]
    assert len(set(paths)) == 20
    assert set(tmp_path.iterdir()) == set(paths)


def test_threads_that_start_together_share_no_folder(tmp_path):
    paths, barrier = [], threading.Barrier(8)

    def make():
        barrier.wait()
        paths.append(RunFolder(tmp_path).path)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == 8


def test_json_is_whole_or_not_there(tmp_path):
    with RunFolder(tmp_path) as folder:
        folder.write_json("results.json", {"a": [1, None]})
        with pytest.raises(TypeError):
            folder.write_json("results.json", {"a": object()})
    assert [path.name for path in folder.path.iterdir()] == ["results.json"]
    assert (folder.path / "results.json").read_text() == '{\n  "a": [\n    1,\n    null\n  ]\n}\n'


def test_an_interruption_closes_the_event_files_and_names_the_folder(tmp_path):
    folder, threads = RunFolder(tmp_path), threading.active_count()

    def interrupted():
        with folder:
            for step in range(100):
                folder.writer("a").add_scalar("loss", step, step)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as interrupt:
        interrupted()
    assert interrupt.value.args == (folder.path,)
    assert threading.active_count() == threads
    events = EventAccumulator(str(folder.path / "a"))
    events.Reload()
    assert [event.value for event in events.Scalars("loss")] == list(range(100))


def test_an_output_that_cannot_be_written_is_a_users_error(tmp_path):
    folder = RunFolder(tmp_path)
    (folder.path / "a").touch()
    with pytest.raises(UserError, match=r"cannot write .*/a: .* --out"), folder:
        folder.writer("a")


def test_other_errors_pass(tmp_path):
    with pytest.raises(ZeroDivisionError), RunFolder(tmp_path) as folder:
        folder.writer("a").add_scalar("x", 1 / 0, 1)


@pytest.mark.parametrize("name", ["report.html", "results.json"])
def test_what_was_there_stays_when_there_is_no_room_for_the_new(tmp_path, name):
    """The system's own full device takes the place of the file that is written first."""
    folder = RunFolder(tmp_path / "experiment", "run")
    folder.write_json("results.json", summary("e", "T"))
    assert main(["report", str(tmp_path)]) == 0
    file = tmp_path / name if name == "report.html" else folder.path / name
    before = file.read_text()
    file.with_name(f"{file.name}.partial").symlink_to("/dev/full")
    write = partial(folder.write_json, name, {"a": 1})
    if name == "report.html":
        write = partial(write_page, file, latest_runs(tmp_path, []), "en")
    with pytest.raises(UserError, match=f"cannot write {file}: No space left on device"):
        write()
    assert file.read_text() == before
    assert not file.with_name(f"{file.name}.partial").is_symlink()
    assert json.loads((folder.path / "results.json").read_text())["title"] == ["T?", "T吗？"]
