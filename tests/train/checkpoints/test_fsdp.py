"""``--fsdp`` on the CPU: the losses of one process, and checkpoints in the background."""

import signal

import pytest
import torch
import torch.distributed.checkpoint as dcp

from tests.starter import DEADLINE
from tests.thinned import only
from tests.train.training_cases import EQUAL, TINY, curves, nearly, results
from torchopt_ref.train.checkpoints.files import digest_of

FEW = [*TINY, "--batch-size", "150", "--no-monitor"]
"""Three steps an epoch: a step of shards takes ten times as long as another."""


@pytest.fixture
def fsdp(starter, tmp_path, small_mnist):
    """``fsdp(2, "--lr", "0.1", name="a")``: train in two processes; the exit statuses."""

    def run(count, *options, name="run", tiny=FEW, **environment):
        arguments = ["train", *tiny, *small_mnist, "--out", str(tmp_path), "--name", name]
        arguments += ["--fsdp", *options]
        pids = starter.start_many(count, arguments, f"{tmp_path.name}-{name}", **environment)
        return [starter.wait(pid, DEADLINE) for pid in pids]

    def log(rank, name="run"):
        return (starter.folder / f"{tmp_path.name}-{name}-{rank}").read_text()

    run.log, run.folder = log, tmp_path
    return run


def weights(checkpoint):
    """What a folder of torch.distributed.checkpoint holds of a model, in whole tensors."""
    metadata = dcp.FileSystemReader(checkpoint).read_metadata().state_dict_metadata
    held = {
        key: torch.empty(each.size, dtype=each.properties.dtype)
        for key, each in metadata.items()
        if hasattr(each, "size")
    }
    dcp.load(held, checkpoint_id=checkpoint, no_dist=True)
    return held


def last(folder):
    return max(folder.glob("checkpoints/step-*"))


@pytest.mark.parametrize("case", only([*EQUAL][:2], EQUAL))
def test_shards_have_the_losses_of_one_process(fsdp, starter, tmp_path, forty_images, case):
    """But for sums in another order: to 1e-6 of every loss."""
    count, options = EQUAL[case]
    arguments = ["train", *TINY, *forty_images, "--out", str(tmp_path), *options]
    one = starter.start([*arguments, "--name", "one"])
    assert fsdp(count, *forty_images, *options) == [0] * count, fsdp.log(0)
    assert starter.wait(one, DEADLINE) == 0
    expected = curves(tmp_path / "one")
    assert "loss/train" in expected
    assert curves(tmp_path / "run") == nearly(expected)


@pytest.mark.parametrize(
    "options",
    [
        ["--amp", "fp16", "--optimizer", "Momentum", "--lr", "0.05", "--epochs", "1"],
        pytest.param(["--compile"], marks=pytest.mark.slow),
    ],
)
def test_shards_have_the_losses_of_ddp(fsdp, starter, tmp_path, small_mnist, options):
    """In float16 the gradient of half a batch is rounded otherwise than that of the whole.

    By Momentum, since Adam's square root is torch's for shards, NumPy's for whole parameters: a
    last bit that differs becomes 1e-3 where it decides how a weight is rounded to float16.
    """
    arguments = ["train", *TINY, *small_mnist, "--out", str(tmp_path), *options, "--name", "ddp"]
    ddp = starter.start_many(2, arguments, "ddp")
    assert fsdp(2, *options, tiny=TINY) == [0, 0], fsdp.log(0)
    assert [starter.wait(pid, DEADLINE) for pid in ddp] == [0, 0]
    assert curves(tmp_path / "run") == nearly(curves(tmp_path / "ddp"))


def test_killed_stopped_and_resumed_the_weights_are_those_of_an_uninterrupted_run(fsdp):
    """The third attempt finds its latest checkpoint damaged."""
    long = ["--epochs", "3", "--ema", "0.9", "--checkpoint-every", "1", "--keep", "99", "--resume"]
    assert fsdp(2, *long, name="whole") == [0, 0], fsdp.log(0, "whole")
    interrupted = [*long, "--optimizer", "troublemakers:Interrupted"]
    first, second = fsdp(2, *interrupted, name="run", TROUBLE="KILL 5")
    assert (first, second) == (1, -signal.SIGKILL), fsdp.log(0)
    assert "torchopt-ref: process 0 lost another one" in fsdp.log(0)
    unfinished = fsdp.folder / "run" / "checkpoints" / "partial"
    unfinished.mkdir(exist_ok=True)
    (unfinished / "__7_0.distcp").touch()
    assert fsdp(2, *interrupted, name="run", TROUBLE="TERM 3") == [143, 143], fsdp.log(0)
    bad = last(fsdp.folder / "run")
    content = bytearray((bad / "__1_0.distcp").read_bytes())
    content[len(content) // 2] ^= 1
    (bad / "__1_0.distcp").write_bytes(content)
    assert fsdp(2, "--resume", name="run", tiny=[]) == [0, 0], fsdp.log(0)
    assert f"the checkpoint {bad} is damaged" in fsdp.log(0)
    assert not list(fsdp.folder.glob("run/checkpoints/*/__7_0.distcp"))
    whole, resumed = (weights(last(fsdp.folder / name)) for name in ("whole", "run"))
    assert whole.keys() == resumed.keys()
    assert any(key.startswith("optimizer.state") for key in whole)
    assert any(key.startswith("ema.module") for key in whole)
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    assert results(fsdp.folder / "run") == results(fsdp.folder / "whole")


def test_the_last_ones_and_the_best_are_kept_whole_and_others_can_go_on_with_them(fsdp):
    """But not where metadata were exchanged, with a digest to match: what they ask is not run."""
    assert fsdp(2, "--epochs", "4", "--keep", "2") == [0, 0], fsdp.log(0)
    names = sorted(path.name for path in fsdp.folder.glob("run/checkpoints/*"))
    assert [name.rpartition("-")[0] for name in names][1:] == ["step-00000009", "step-00000012"]
    assert names[0].startswith("best-")
    for path in fsdp.folder.glob("run/checkpoints/*"):
        assert path.name.endswith(digest_of(path))
    state = torch.load(last(fsdp.folder / "run") / "training.pt", weights_only=True)
    assert (state["position"]["epoch"], state["position"]["step"]) == (4, 12)
    assert fsdp(3, "--resume", tiny=[]) == [0, 0, 0], fsdp.log(0)
    assert results(fsdp.folder / "run")["steps"] == 12
    latest, made = last(fsdp.folder / "run"), fsdp.folder / "made"
    (latest / ".metadata").write_bytes(f"cos\nmkdir\n(V{made}\ntR.".encode())
    latest.rename(latest.with_name(f"step-99999999-{digest_of(latest)}"))
    before = len(fsdp.log(0).splitlines())
    assert fsdp(2, "--resume", tiny=[]) == [2, 2], fsdp.log(0)
    (line,) = fsdp.log(0).splitlines()[before:]
    assert ".metadata is not what a checkpoint has (it names os.mkdir)" in line
    assert not made.exists()


def test_no_process_is_in_the_way_of_another_that_is_slower(fsdp):
    assert fsdp(2, "--optimizer", "troublemakers:SlowToDelete") == [0, 0], fsdp.log(0)
    assert "no checkpoint" not in fsdp.log(0)


def test_a_full_disk_leaves_the_old_checkpoints_and_the_training_goes_on(fsdp):
    """To its end, where it is no success: the last weights are nowhere."""
    full = ["--epochs", "3", "--optimizer", "troublemakers:FullDisk"]
    assert fsdp(2, *full, TROUBLE="6")[0] == 2, fsdp.log(0)
    assert "the training is finished, but not saved: writing failed" in fsdp.log(0)
    assert "no checkpoint of step 6: writing failed, perhaps for want of room" in fsdp.log(0)
    (kept,) = fsdp.folder.glob("run/checkpoints/step-*")
    assert kept.name == f"step-00000003-{digest_of(kept)}"


def test_rollback_goes_back_to_the_last_checkpoint(fsdp):
    options = ["--optimizer", "troublemakers:Exploding", "--on-nan", "rollback"]
    assert fsdp(2, *options, TROUBLE="6") == [0, 0], fsdp.log(0)
    assert "the weights are those of step 3 again" in fsdp.log(0)
    assert all(value.isfinite().all() for value in weights(last(fsdp.folder / "run")).values())


def test_without_torchrun_it_says_so(train):
    train("--fsdp", status=2)
    assert "start it by torchrun" in train.err
