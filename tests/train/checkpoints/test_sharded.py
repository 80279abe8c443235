"""Sharded checkpoints read back, and nothing in them runs or lies elsewhere."""

import os
import pickle

import pytest
import torch
import torch.distributed.checkpoint as dcp

from torchopt_ref.errors import UserError
from torchopt_ref.train.checkpoints.sharded import SafePlanner, SafeReader


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
