import gzip
import os
import struct

import numpy as np
import pytest

from torchopt_ref.data import load
from torchopt_ref.errors import UserError

IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def idx(type_code, shape, items):
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, type_code, len(shape), *shape) + bytes(items)


CORRUPT = {
    "empty": (IMAGES, b"", "ends inside its header, after 0 bytes"),
    "header cut": (IMAGES, idx(8, (3, 28, 28), [])[:15], "ends inside its header, after 15 bytes"),
    "no items": (IMAGES, idx(8, (3, 28, 28), []), "is truncated: 16 bytes .* says 2368"),
    "one byte short": (IMAGES, idx(8, (3, 28, 28), [1] * 2351), "is truncated: 2367 .* 2368"),
    "one byte long": (IMAGES, idx(8, (3, 28, 28), [1] * 2353), "is too long: 2369 .* 2368"),
    "huge promise": (IMAGES, idx(8, (2**32 - 1, 28, 28), [1] * 784), "is truncated: 800 bytes"),
    "floats": (IMAGES, idx(13, (3, 28, 28), [1] * 2352), "starts with 00000d03, not with 00000803"),
    "not IDX": (IMAGES, b"<html>404 not found</html>", "starts with 3c68746d, not with 00000803"),
    "not zeros": (IMAGES, bytes([1, 0, 8, 3]) + bytes(2364), "starts with 01000803, not with 0000"),
    "labels as images": (IMAGES, idx(8, (20,), [1] * 20), "starts with 00000801, not .* 00000803"),
    "images as labels": (LABELS, idx(8, (3, 28, 28), [1] * 2352), "starts with 00000803, not"),
    "wrong size": (IMAGES, idx(8, (3, 28, 27), [1] * 2268), r"shape \(3, 28, 27\), not \(N, 28, 2"),
    "no images": (IMAGES, idx(8, (0, 28, 28), []), r"shape \(0, 28, 28\), not .*N > 0"),
    "no labels": (LABELS, idx(8, (0,), []), r"has the shape \(0,\), not \(N\), N > 0"),
    "label 10": (LABELS, idx(8, (3,), [0, 10, 9]), "holds the label 10, and labels go from 0 to 9"),
    "labels short": (LABELS, idx(8, (3,), [0, 1]), "is truncated: 10 bytes .* says 11"),
    "label missing": (LABELS, idx(8, (2,), [0, 1]), f"holds 2 labels for 3 images in .*{IMAGES}"),
}


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("case", CORRUPT)
def test_a_corrupt_file_is_named_with_its_fault_and_a_remedy(data_root, case, compressed):
    name, content, fault = CORRUPT[case]
    path = data_root / "MNIST" / "raw" / name
    if compressed:
        path.unlink()
        path = path.with_name(f"{name}.gz")
        content = gzip.compress(content)
    path.write_bytes(content)
    with pytest.raises(UserError, match=fault) as caught:
        load("mnist", data_root)
    message = str(caught.value)
    assert message.startswith(f"{path} ")
    assert message.endswith(": delete it and fetch it again with --download")
    load("fashion", data_root)


def gz_copies(raw):
    for path in list(raw.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


def test_gz_files_are_read(data_root):
    plain = load("fashion", data_root)
    gz_copies(data_root / "FashionMNIST" / "raw")
    compressed = load("fashion", data_root)
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(compressed, name), getattr(plain, name))


def test_a_plain_file_comes_before_its_gz(data_root):
    path = data_root / "MNIST" / "raw" / f"{IMAGES}.gz"
    path.write_bytes(b"left over from an interrupted download")
    load("mnist", data_root)


GZ_DAMAGE = {
    "cut": lambda content: content[:-20],
    "block type that does not exist": lambda content: content[:10] + b"\x07" + content[11:],
    "wrong CRC": lambda content: content[:-8] + bytes(8),
    "not gzip": lambda content: b"plain text",
}


@pytest.mark.parametrize("damage", GZ_DAMAGE.values(), ids=GZ_DAMAGE)
def test_a_damaged_gz_is_named(data_root, damage):
    raw = data_root / "MNIST" / "raw"
    gz_copies(raw)
    path = raw / f"{IMAGES}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"does not decompress .*: delete it and fetch") as caught:
        load("mnist", data_root)
    assert str(caught.value).startswith(f"{path} ")


def test_a_missing_file_is_named(data_root):
    path = data_root / "MNIST" / "raw" / LABELS
    path.unlink()
    with pytest.raises(UserError, match=r"No such file.*--data-root.*--download") as caught:
        load("mnist", data_root)
    assert str(caught.value).startswith(f"cannot read {path}: ")


def test_a_folder_in_place_of_a_file_is_named(data_root):
    path = data_root / "MNIST" / "raw" / LABELS
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=f"cannot read .*{LABELS}: "):
        load("mnist", data_root)


def test_a_file_in_place_of_the_root_is_named(data_root):
    path = data_root / "MNIST" / "raw" / LABELS
    with pytest.raises(UserError, match=f"cannot read .*{LABELS}.*train-images"):
        load("mnist", path)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="no permission stops this user"
)
def test_an_unreadable_folder_is_named(data_root):
    raw = data_root / "MNIST" / "raw"
    raw.chmod(0)
    try:
        with pytest.raises(UserError, match=r"cannot read .*: Permission denied"):
            load("mnist", data_root)
    finally:
        raw.chmod(0o755)
