import itertools
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from torchopt_ref.data import Dataset, load, load_split
from torchopt_ref.data._subset import SUBSET_FILE, read_subset
from torchopt_ref.errors import UserError


def test_embedded_subset_is_the_start_of_mnist():
    data = load()
    assert isinstance(data, Dataset)
    assert data.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert data.train_images.shape == (10_000, 784)
    assert data.test_images.shape == (2_000, 784)
    assert data.train_labels.shape == (10_000,)
    assert data.test_labels.shape == (2_000,)
    assert data.train_images.dtype == data.test_images.dtype == np.float32
    assert data.train_labels.dtype == data.test_labels.dtype == np.int64
    for images in (data.train_images, data.test_images):
        assert images.min() == 0
        assert images.max() == 1
        assert images.flags.c_contiguous
        assert images.flags.writeable
    assert set(data.train_labels) == set(data.test_labels) == set(range(10))


def test_the_pixels_show_the_digits():
    # Two images of one digit resemble each other: assigning each test image to the nearest mean
    # training image gets 76 % right, where shuffled labels get 10 %.
    data = load()
    means = np.stack([data.train_images[data.train_labels == digit].mean(0) for digit in range(10)])
    scores = 2 * data.test_images @ means.T - (means**2).sum(1)
    assert (scores.argmax(1) == data.test_labels).mean() > 0.75


def test_embedded_file_is_small():
    assert SUBSET_FILE.stat().st_size < 2_000_000


# Byte 10 is the date in the archive's first header, which no reader of the arrays looks at.
@pytest.mark.parametrize("position", [10, 1_000_000, -1])
def test_a_flipped_bit_in_the_embedded_file_is_found(tmp_path, position):
    content = bytearray(SUBSET_FILE.read_bytes())
    content[position] ^= 1
    copy = tmp_path / "subset.npz"
    copy.write_bytes(content)
    with pytest.raises(UserError, match=r"is corrupt .SHA-256.*: reinstall torchopt-ref") as caught:
        read_subset("train", copy)
    assert str(copy) in str(caught.value)


def test_a_missing_embedded_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*gone\.npz: No such file.*: reinstall"):
        read_subset("test", tmp_path / "gone.npz")


@pytest.mark.parametrize("dataset", ["mnist", "fashion"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_root_gives_its_pixels_over_255(data_root, written, dataset, dtype):
    data = load(dataset, data_root, dtype=dtype)
    arrays = written[dataset]
    for split in ("train", "test"):
        images = getattr(data, f"{split}_images")
        pixels = arrays[f"{split}_images"].astype(dtype)
        assert images.dtype == dtype
        np.testing.assert_array_equal(images, (pixels / dtype(255)).reshape(-1, 784))
        labels = getattr(data, f"{split}_labels")
        assert labels.dtype == np.int64
        np.testing.assert_array_equal(labels, arrays[f"{split}_labels"])


@pytest.mark.parametrize(("split", "other"), [("train", "t10k"), ("test", "train")])
@pytest.mark.parametrize("dataset", ["mnist", "fashion"])
def test_one_split_is_read_without_the_files_of_the_other(data_root, dataset, split, other):
    whole = load(dataset, data_root, flatten=False, dtype=np.float64)
    folder = data_root / {"mnist": "MNIST", "fashion": "FashionMNIST"}[dataset] / "raw"
    for kind in ("images-idx3", "labels-idx1"):
        (folder / f"{other}-{kind}-ubyte").unlink()
    images, labels = load_split(split, dataset, data_root, flatten=False, dtype=np.float64)
    assert images.dtype == np.float64
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(images, getattr(whole, f"{split}_images"))
    np.testing.assert_array_equal(labels, getattr(whole, f"{split}_labels"))


@pytest.mark.parametrize("split", ["train", "test"])
def test_one_embedded_split_is_read_without_decompressing_the_other(split, monkeypatch):
    whole, opened, open_member = load(), [], zipfile.ZipFile.open

    def recorded(self, name, *arguments, **options):
        opened.append(getattr(name, "filename", name))
        return open_member(self, name, *arguments, **options)

    monkeypatch.setattr(zipfile.ZipFile, "open", recorded)
    images, labels = load_split(split)
    # To read a member, NumPy 2.2 opens it twice.
    members = [member for member, _ in itertools.groupby(opened)]
    assert members == [f"{split}_images.npy", f"{split}_labels.npy"]
    np.testing.assert_array_equal(images, getattr(whole, f"{split}_images"))
    np.testing.assert_array_equal(labels, getattr(whole, f"{split}_labels"))


def test_unknown_split():
    with pytest.raises(UserError, match="unknown split 'tset': did you mean 'test'"):
        load_split("tset")


def test_unflattened_images_have_one_channel(data_root):
    flat, square = load("mnist", data_root), load("mnist", data_root, flatten=False)
    assert square.train_images.shape == (5, 1, 28, 28)
    assert square.test_images.shape == (3, 1, 28, 28)
    np.testing.assert_array_equal(square.train_images.reshape(5, 784), flat.train_images)


def test_root_may_be_a_string_and_start_with_a_tilde(data_root, monkeypatch):
    monkeypatch.setenv("HOME", str(data_root.parent))
    monkeypatch.setenv("USERPROFILE", str(data_root.parent))
    np.testing.assert_array_equal(
        load("fashion", "~/data").train_images, load("fashion", str(data_root)).train_images
    )


def test_arrays_can_be_changed_without_changing_the_next_load():
    first = load()
    first.train_images[:] = 7
    first.train_labels[:] = 7
    assert load().train_images.max() == 1
    assert load().train_labels[0] == 5


def test_unknown_dataset():
    with pytest.raises(UserError, match="unknown dataset 'mnits': did you mean 'mnist'"):
        load("mnits")


def test_fashion_needs_a_root():
    with pytest.raises(UserError, match=r"fashion is not part.*--data-root.*--download"):
        load("fashion")


@pytest.mark.parametrize("dataset", ["mnist", "fashion"])
def test_download_needs_a_root(dataset):
    with pytest.raises(UserError, match=r"--download needs a folder.*--data-root"):
        load(dataset, download=True)


def test_loading_imports_neither_torch_nor_torchvision(data_root):
    script = (
        "import sys\n"
        "from torchopt_ref.data import load\n"
        "load('fashion', sys.argv[1])\n"
        "assert not {'torch', 'torchvision'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(data_root)], check=True)
