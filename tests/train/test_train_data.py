"""Data sets, their errors, and the order in which images come."""

import hashlib
import pickle
from itertools import chain

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets
from training_cases import last_state, results

from torchopt_ref.errors import UserError
from torchopt_ref.train import Config
from torchopt_ref.train.data import Shares, open_data
from torchopt_ref.train.distributed import Processes

CPU = torch.device("cpu")


def open_as(**options):
    return open_data(Config(**options), CPU, Processes())


def seen(batches, epoch=0, first=0):
    return torch.cat([labels for _, labels, _, _ in batches.epoch(epoch, first)])


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_all_processes_together_see_the_batches_of_one(processes):
    def shares(rank, count):
        return [share.indices for share in Shares(23, 5, Processes(rank, count), seed=3)]

    parts = zip(*(shares(rank, processes) for rank in range(processes)), strict=True)
    for whole, of_all in zip(shares(0, 1), parts, strict=True):
        assert sorted(chain(*of_all)) == sorted(whole)
        assert max(map(len, of_all)) - min(map(len, of_all)) <= 1
    everything = list(chain(*shares(0, 1)))
    assert sorted(everything) == list(range(23))
    assert everything != list(range(23))


def test_an_epoch_can_begin_in_its_middle_and_epochs_differ():
    data = open_as(model="mlp", batch_size=500)
    whole = list(data.train.epoch(1))
    for (x, y, *counts), (x_again, y_again, *counts_again) in zip(
        whole[7:], data.train.epoch(1, 7), strict=True
    ):
        assert torch.equal(x, x_again)
        assert torch.equal(y, y_again)
        assert counts == counts_again
    assert not torch.equal(seen(data.train, 0), seen(data.train, 1))
    assert torch.equal(seen(data.test), seen(data.test))


def test_held_out_images_are_not_trained_on():
    data = open_as(augment=False, batch_size=1000, validation=0.2)
    assert (data.train.images, data.validation.images, data.test.images) == (8000, 2000, 2000)

    def digests(batches):
        images = torch.cat([images for images, *_ in batches.epoch()])
        return {hashlib.sha256(image.numpy().tobytes()).digest() for image in images}

    train, validation = digests(data.train), digests(data.validation)
    assert not train & validation
    everything = open_as(augment=False, batch_size=1000, validation=0)
    assert everything.validation is None
    assert digests(everything.train) == train | validation


def test_augmentation_shifts_training_images_only():
    data, plain = open_as(), open_as(augment=False)
    (shifted, *_), (still, *_) = next(data.train.epoch()), next(plain.train.epoch())
    assert (shifted != still).flatten(1).any(1).float().mean() > 0.9
    inside = still[:, :, 2:-2, 2:-2]
    windows = torch.nn.functional.pad(shifted, (2, 2, 2, 2)).unfold(2, 24, 1).unfold(3, 24, 1)
    same = (windows == inside[:, :, None, None]).all(-1).all(-1)[:, :, :9, :9]
    assert same.any(-1).any(-1).float().mean() > 0.9
    for mine, its in zip(data.test.epoch(), plain.test.epoch(), strict=True):
        assert torch.equal(mine[0], its[0])


def test_augmentation_leaves_the_random_numbers_of_the_training_alone():
    data = open_as()
    before = torch.get_rng_state()
    next(data.train.epoch())
    assert torch.equal(torch.get_rng_state(), before)


def test_inputs_are_normalised():
    data = open_as(augment=False, validation=0, batch_size=10_000)
    x = data.normalise(next(data.train.epoch())[0])
    assert (x.dtype, x.shape[1:]) == (torch.float32, data.shape)
    assert x.mean().abs() < 0.01
    assert x.std() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"model": "resnet18"}, (3, 28, 28)),
        ({"model": "cnn", "image_size": 20}, (1, 20, 20)),
        ({"model": "cnn", "dataset": "fake"}, (3, 32, 32)),
        ({"model": "resnet18", "dataset": "fake", "image_size": 64}, (3, 64, 64)),
    ],
)
def test_shapes(options, shape):
    data = open_as(**options, batch_size=100)
    assert data.shape == shape
    assert data.normalise(next(data.train.epoch())[0]).shape == (100, *shape)


def write_images(root, classes=("cat", "dog"), count=10):
    rng = np.random.default_rng(0)
    for split, name, number in (
        (s, c, n) for s in ("train", "val") for c in classes for n in range(count)
    ):
        folder = root / split / name
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (30 + number, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels // 2 + 127 * (name == "dog")).save(folder / f"{number}.png")
    return root


FOLDER = ["--dataset", "folder", "--image-size", "16", "--batch-size", "6", "--model", "cnn"]


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_folder_of_images(train, tmp_path, workers):
    root = write_images(tmp_path / "images")
    folder = train(*FOLDER, "--data-root", str(root), "--augment", "--workers", workers)
    assert last_state(folder)["model"]["10.bias"].shape == (2,)
    assert results(folder)["steps"] == 6
    image = root / "train" / "dog" / "3.png"
    image.write_bytes(image.read_bytes()[:40])
    train(*FOLDER, "--data-root", str(root), "--workers", workers, name="bad", status=2)
    assert train.err.splitlines()[-1].startswith(f"torchopt-ref: cannot read the image {image}: ")


def test_a_folder_that_is_not_there_or_has_other_classes(tmp_path):
    with pytest.raises(UserError, match=f"cannot read the images of {tmp_path}/train"):
        open_as(dataset="folder", data_root=tmp_path)
    root = write_images(tmp_path / "images")
    (root / "val" / "bird").mkdir()
    Image.new("RGB", (8, 8)).save(root / "val" / "bird" / "0.png")
    with pytest.raises(UserError, match="have 3 classes, those for training 2"):
        open_as(dataset="folder", data_root=root)


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """A folder in CIFAR-10's layout, of which torchvision knows the digests."""
    place = tmp_path / "cifar-10-batches-py"
    place.mkdir()
    rng = np.random.default_rng(0)

    def write(name, content):
        (place / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((place / name).read_bytes()).hexdigest()]

    def images(count):
        pixels = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        return {"data": pixels, "labels": rng.integers(0, 10, count).tolist()}

    names = {"label_names": [str(n) for n in range(10)]}
    meta = dict(zip(("filename", "md5"), write("batches.meta", names), strict=True))
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [write("data_batch_1", images(40))])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [write("test_batch", images(20))])
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta | {"key": "label_names"})
    return tmp_path


def test_cifar(cifar):
    data = open_as(dataset="cifar10", data_root=cifar, batch_size=9, validation=0.25)
    assert (data.train.images, data.shape, data.classes) == (30, (3, 32, 32), 10)
    bad = cifar / "cifar-10-batches-py" / "data_batch_1"
    bad.write_bytes(bad.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{bad} is missing or corrupt"):
        open_as(dataset="cifar10", data_root=cifar)
