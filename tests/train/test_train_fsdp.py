"""``--fsdp`` on several processes on the CPU: the losses of one, and checkpoints in the background."""

import os
import signal

import pytest
import torch
import torch.distributed.checkpoint as dcp
from starter import Starter
from training_cases import DEADLINE, TINY, curves, results, wait_for

from torchopt_ref.train.checkpoints import digest_of


@pytest.fixture(scope="module")
def starter(tmp_path_factory):
    with Starter(tmp_path_factory.mktemp("logs")) as starter:
        yield starter


@pytest.fixture
def fsdp(starter, tmp_path, small_mnist):
    """``fsdp(2, "--lr", "0.1", name="a")``: train in two processes; the exit statuses."""

    def run(count, *options, name="run", tiny=TINY, **environment):
        pids = run.start(count, *options, name=name, tiny=tiny, **environment)
        return [starter.wait(pid, DEADLINE) for pid in pids]

    def start(count, *options, name="run", tiny=TINY, **environment):
        arguments = ["train", *tiny, *small_mnist, "--out", str(tmp_path), "--name", name]
        return starter.start_many(count, [*arguments, "--fsdp", *options], name, **environment)

    def log(rank, name="run"):
        return (starter.folder / f"{name}-{rank}").read_text()

    run.start, run.log, run.folder = start, log, tmp_path
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


EQUAL = {
    "two": (2, []),
    "four, with a last batch of two images": (4, ["--batch-size", "64"]),
    "three, in parts, averaged, clipped": (
        3,
        ["--augment", "--accumulate", "2", "--ema", "0.9", "--clip", "0.5"],
    ),
    "float16": (2, ["--amp", "fp16", "--clip", "1"]),
    "BatchNorm over all": (2, ["--model", "shufflenet_v2_x0_5", "--ours", "--lr", "1e-6"]),
}


@pytest.mark.parametrize(("count", "options"), EQUAL.values(), ids=EQUAL)
def test_shards_have_the_losses_of_one_process(
    fsdp, starter, tmp_path, small_mnist, count, options
):
    arguments = ["train", *TINY, *small_mnist, "--out", str(tmp_path), *options]
    one = starter.start([*arguments, "--name", "one"])
    assert fsdp(count, *options) == [0] * count, fsdp.log(0)
    assert starter.wait(one, DEADLINE) == 0
    expected, actual = curves(tmp_path / "one"), curves(tmp_path / "run")
    assert expected.keys() == actual.keys()
    for tag, points in expected.items():
        for (a, b), (c, d) in zip(points, actual[tag]):
            print(tag, a == c, b, d, abs(b - d) / max(abs(b), 1e-9))
    assert 0
