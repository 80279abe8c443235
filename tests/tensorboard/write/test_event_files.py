"""Event files: valid after a kill, continued by a resumed run, and a disk that fails."""

import os
import stat
import warnings

import pytest
import torch
from torch import nn

from tests.tensorboard.trainings import batches, killed, mlp
from torchopt_ref.errors import UserError
from torchopt_ref.tensorboard import Monitor


def train(folder, steps, step=0, **options):
    model = mlp(hidden=(10,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, folder, every=10, step=step, **options) as monitor:
        for x, y in batches(steps):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    return monitor


def test_a_resumed_run_continues_its_curves_from_the_checkpoint(tmp_path, read):
    """The session before went on to step 50 after the checkpoint of step 30."""
    assert train(tmp_path, 50).step == 50
    old = read(tmp_path)["update norm/[all]"]
    assert train(tmp_path, 40, step=30).step == 70
    run = read(tmp_path)
    for tag in ("loss", "update norm/[all]", "gradient cosine/[all]"):
        assert run.steps(tag)[-7:] == [10, 20, 30, 40, 50, 60, 70]
    new = run["update norm/[all]"]
    assert {step: new[step] for step in (10, 20, 30)} == {step: old[step] for step in (10, 20, 30)}
    assert new[40] != old[40]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_run_from_the_start_replaces_what_the_folder_showed(tmp_path, read):
    train(tmp_path, 50)
    train(tmp_path, 20)
    assert read(tmp_path).steps("loss") == [1, 2, 4, 8, 10, 20]


def test_after_kill_9_the_file_is_valid_and_holds_every_record_that_was_made(
    starter, tmp_path, read
):
    said = killed(starter, tmp_path, 10)
    steps = read(tmp_path).steps("loss")
    assert steps[:5] == [1, 2, 4, 8, 10]
    assert steps[5:] == list(range(20, steps[-1] + 1, 10))
    assert steps[-1] >= said - 5


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_a_users_error(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(UserError, match=r"cannot write .*: Permission denied: make room"):
        train(tmp_path / "run", 1)


def test_a_folder_that_cannot_be_made_is_a_users_error_before_any_hook(tmp_path):
    (tmp_path / "file").touch()
    model = mlp(hidden=(10,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=f"cannot write {folder}.*another folder"):
            Monitor(model, optimizer, folder).__enter__()
    assert not optimizer._optimizer_step_pre_hooks
    assert not model._forward_pre_hooks


LIMITED = """
import resource, signal, sys, warnings, torch
from torch import nn
from torchopt_ref.tensorboard import Monitor
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
optimizer = torch.optim.Adam(model.parameters())
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with Monitor(model, optimizer, sys.argv[1], every=10) as monitor:
        for _ in range(200):
            loss = model(torch.randn(8, 4)).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)
print(monitor.step)
print(*(str(each.message) for each in caught), sep="\\n")
"""


def test_a_disk_that_becomes_full_is_one_warning_and_training_goes_on(starter, tmp_path, read):
    pytest.importorskip("resource", reason="file size limits are POSIX")
    log, folder = tmp_path / "log", tmp_path / "run"
    assert starter.wait(starter.start([folder], log, code=LIMITED)) == 0
    steps, *warned = log.read_text().splitlines()
    assert steps == "200"
    assert len(warned) == 1
    assert warned[0].startswith(f"cannot write {folder} any more: File too large: training goes")
    written = read(folder).steps("loss")
    assert written[:3] == [1, 2, 4]
    assert f"its curves end before step {written[-1] + 10}" in warned[0]


def test_histograms_of_what_is_not_finite_and_of_one_value(tmp_path, read):
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs = (torch.nan, 0.0)
    with warnings.catch_warnings(record=True), Monitor(model, optimizer, tmp_path, every=1):
        warnings.simplefilter("always")
        for value in inputs:
            model(torch.full((2, 3), value)).sum().backward()
            optimizer.step()
    histograms = read(tmp_path).histogram("activation/1 ReLU")
    assert [each.histogram_value.num for each in histograms] == [0, 0]
