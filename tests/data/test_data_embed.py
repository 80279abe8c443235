import hashlib
import io
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from torchopt_ref.data._subset import SUBSET_FILE
from torchopt_ref.data.embed import build
from torchopt_ref.errors import UserError


def test_the_file_holds_the_first_images_and_labels(data_root, written):
    arrays = written["mnist"]
    with np.load(io.BytesIO(build(data_root, train=4, test=2)), allow_pickle=False) as file:
        assert set(file) == set(arrays)
        for name in file:
            assert file[name].dtype == np.uint8
            count = 4 if name.startswith("train") else 2
            np.testing.assert_array_equal(file[name], arrays[name][:count])


def test_building_again_gives_the_same_bytes(data_root):
    content = build(data_root, train=5, test=3)
    assert build(data_root, train=5, test=3) == content
    # Two builds within the two seconds of a zip date's resolution could agree by luck.
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_DEFLATED}


def test_the_shipped_file_has_the_builder_s_format(data_root):
    def members(file):
        with zipfile.ZipFile(file) as archive:
            return [(m.filename, m.date_time, m.compress_type) for m in archive.infolist()]

    assert members(SUBSET_FILE) == members(io.BytesIO(build(data_root, train=1, test=1)))


@pytest.mark.parametrize("sizes", [{"train": 6, "test": 3}, {"train": 5, "test": 4}])
def test_too_few_images_are_refused(data_root, sizes):
    with pytest.raises(UserError, match=r"raw has . (train|test) images, and the subset needs ."):
        build(data_root, **sizes)


def embed(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "torchopt_ref.data.embed", *map(str, arguments)],
        capture_output=True,
        text=True,
    )


def test_the_command_builds_the_same_file_every_time(tmp_path, write_raw):
    arrays = {}
    for split, count in (("train", 10_001), ("test", 2_001)):
        numbers = np.arange(count)
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 0, 0] = numbers % 251
        arrays |= {f"{split}_images": images, f"{split}_labels": numbers % 10}
    write_raw(tmp_path / "MNIST" / "raw", arrays)
    contents = []
    for name in ("first.npz", "second.npz"):
        result = embed(tmp_path, "--out", tmp_path / name)
        assert result.returncode == 0, result.stderr
        contents.append((tmp_path / name).read_bytes())
        digest = hashlib.sha256(contents[-1]).hexdigest()
        assert f"{len(contents[-1])} bytes, SHA-256 {digest} (the pinned one is " in result.stdout
    assert contents[0] == contents[1]
    with np.load(tmp_path / "first.npz") as file:
        assert file["train_images"].shape == (10_000, 28, 28)
        assert file["test_images"].shape == (2_000, 28, 28)
        np.testing.assert_array_equal(file["train_labels"], np.arange(10_000) % 10)


def test_the_command_prints_a_user_error_as_one_line(tmp_path):
    result = embed(tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"cannot read {tmp_path / 'MNIST' / 'raw'}")
    assert result.stderr.count("\n") == 1


def test_an_output_that_cannot_be_written_is_named(tmp_path, write_raw):
    arrays = {
        f"{split}_{kind}": np.zeros((count, *shape), np.uint8)
        for split, count in (("train", 10_000), ("test", 2_000))
        for kind, shape in (("images", (28, 28)), ("labels", ()))
    }
    write_raw(tmp_path / "MNIST" / "raw", arrays)
    out = tmp_path / "no" / "folder.npz"
    result = embed(tmp_path, "--out", out)
    assert result.returncode == 2
    assert result.stderr == f"cannot write {out}: No such file or directory: choose another --out\n"
