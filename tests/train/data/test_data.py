"""Data sets, their errors, and the order in which images come."""

import hashlib
import io
import os
import pickle
import struct
from itertools import chain
from zlib import compress, crc32

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import datasets

from tests.train.training_cases import last_state, results
from torchopt_ref import nn as ours
from torchopt_ref.errors import UserError
from torchopt_ref.train import Config
from torchopt_ref.train.data.batches import Shares
from torchopt_ref.train.data.image_folder import read_image
from torchopt_ref.train.data.opening import open_data
from torchopt_ref.train.distributed import Processes
from torchopt_ref.train.passes import least_images, parts_of_batch

CPU = torch.device("cpu")


def open_as(**options):
    return open_data(Config.of(**options), CPU, Processes())


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


@pytest.mark.parametrize("batch", [1, 2, 3, 8, 128])
def test_no_batch_has_less_than_half_of_the_others(batch):
    for count in range(batch, 4 * batch + 2):
        sizes = Shares(count, batch, Processes(), seed=3).sizes
        assert sum(sizes) == count
        assert len(sizes) == -(-count // batch)
        assert all(size == batch for size in sizes[:-2])
        assert batch / 2 <= min(sizes) <= max(sizes) <= batch


def norms(**options):
    return nn.Sequential(nn.Flatten(), ours.BatchNorm1d(784, **options))


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize(
    "model", [nn.Sequential(nn.BatchNorm1d(784)), norms(), norms(sync=True), nn.Flatten()]
)
def test_no_part_of_a_batch_is_too_small_for_a_batchnorm(processes, model):
    """Of what a process has of a batch, split as evenly as may be, the smallest part."""
    processes = Processes(0, processes)
    least = least_images(model, processes)
    shared = model[-1].sync if isinstance(model, nn.Sequential) and len(model) == 2 else False
    alone = 0 if isinstance(model, nn.Flatten) else 1 if shared and processes.count > 1 else 2
    assert least == alone
    for whole in range(max(1, least * processes.count), 40):
        for accumulate in range(1, 20):
            parts = parts_of_batch(whole, least, accumulate, processes)
            assert 1 <= parts <= accumulate
            assert (whole // processes.count) // parts >= least


NORMS = ["--model", "small_norms", "--epochs", "1", "--no-monitor", "--validation", "0.98"]
"""A model whose last BatchNorm sees one value of an image and channel, and ten images for it."""


def test_no_batchnorm_gets_a_single_image(train):
    folder = train(*NORMS, "--batch-size", "9", "--accumulate", "4")
    assert results(folder)["steps"] == 2


@pytest.mark.parametrize("batch", ["1", "2"])
def test_a_batch_of_one_image_that_cannot_be_avoided_is_found_before_the_training(train, batch):
    folder = train(*NORMS, "--validation", "0.982", "--batch-size", batch, status=2)
    said = f"--batch-size {batch}: the smallest batch of an epoch has 1 of 9 images, and BatchNorm "
    said += "needs 2 in each of 1 process(es): choose 4 or more"
    assert train.err == f"torchopt-ref: {said}\n"
    assert not folder.exists()


@pytest.mark.parametrize(
    ("held_out", "remedy"), [("0.994", "choose 3 or"), ("0.998", "train on more")]
)
def test_no_batch_size_is_advised_that_the_images_do_not_have(train, held_out, remedy):
    batch = "2" if held_out == "0.994" else "1"
    train(*NORMS, "--validation", held_out, "--batch-size", batch, status=2)
    assert remedy in train.err


def test_an_epoch_can_begin_in_its_middle_and_epochs_differ():
    data = open_as(model="mlp", batch_size=10, validation=0.98)
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


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=f"cannot read the images of {tmp_path}/train"):
        open_as(dataset="folder", data_root=tmp_path)


@pytest.mark.parametrize(
    ("rename", "said"),
    [
        ({"cat": "ant"}, "'cat' only to train, 'ant' only to test: make"),  # as many, other numbers
        ({"cat": "Cat"}, "only to test .'cat' in another case or form of Unicode.: make"),
        ({"cat": "dog/cat"}, "'cat' only to train: make"),
    ],
)
def test_classes_are_compared_by_their_names(rename, said, tmp_path):
    root = write_images(tmp_path)
    for old, new in rename.items():
        (root / "val" / old).rename(root / "val" / new)
    with pytest.raises(UserError, match=f"the classes .* are not the same: .*{said}"):
        open_as(dataset="folder", data_root=root)


def test_what_is_hidden_is_neither_a_class_nor_an_image(tmp_path):
    root = write_images(tmp_path)
    options = {"dataset": "folder", "data_root": root, "batch_size": 2}
    plain = open_as(**options)
    for hidden in (".ipynb_checkpoints", "__MACOSX", "cat/.ipynb_checkpoints", "@eaDir"):
        (root / "train" / hidden).mkdir()
        Image.new("RGB", (8, 8)).save(root / "train" / hidden / "0-checkpoint.png")
    for hidden in (".DS_Store", "cat/.DS_Store", "cat/._0.png", "cat/Thumbs.db", "README.txt"):
        (root / "train" / hidden).write_bytes(b"no image")
    assert open_as(**options).facts == plain.facts
    (root / "train" / "empty").mkdir()
    with pytest.raises(UserError, match="no valid file for the classes empty"):
        open_as(**options)


def test_links_that_lead_nowhere_or_back_are_named(tmp_path):
    """The first would leave out a class, the second show its images once for each level."""
    root = write_images(tmp_path)
    link = root / "train" / "lion"
    link.symlink_to(root / "nowhere")
    with pytest.raises(UserError, match="lion leads nowhere"):
        open_as(dataset="folder", data_root=root)
    link.unlink()
    (root / "train" / "cat" / "again").symlink_to(root / "train" / "cat")
    with pytest.raises(UserError, match="again leads back to a folder above it"):
        open_as(dataset="folder", data_root=root)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_a_pipe_is_no_image_to_wait_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UserError, match="it is no file"):
        read_image(tmp_path / "pipe.png")


RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
GREY = np.stack([RAMP] * 3)
COLOUR = np.stack([RAMP, RAMP[::-1], RAMP.T])


def png(width, height, bits, colour, rows):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def png_of_16_bits(channels):
    """In colour: Pillow does not write that."""
    pixels = np.moveaxis(channels.astype(">u2") * 257, 0, -1)
    return png(16, 16, 16, 2, b"".join(b"\0" + row.tobytes() for row in pixels))


def as_file(image, kind="png", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def image_of(channels, mode):
    return Image.fromarray(np.moveaxis(channels, 0, -1), "RGB").convert(mode)


def with_alpha(channels):
    image = image_of(channels, "RGB")
    image.putalpha(Image.fromarray(RAMP))
    return image


SIXTEEN = RAMP.astype(np.uint16) * 257
TURNED = Image.Exif()
TURNED[274] = 6
KNOWN_IMAGES = {
    "grey of 16 bits": (as_file(Image.fromarray(SIXTEEN)), GREY),
    "grey of 16 bits, lower bits": (as_file(Image.fromarray(SIXTEEN // 256 * 256 + 255)), GREY),
    "grey of 16 bits in TIFF": (as_file(Image.fromarray(SIXTEEN), "tiff"), GREY),
    "grey of 16 bits whose white is zero": (
        as_file(Image.fromarray(65535 - SIXTEEN), "tiff", tiffinfo={262: 0}),
        GREY,
    ),
    "grey of 12 bits in PGM": (
        b"P5 16 16 4095\n" + (RAMP.astype(">u2") * 16 + RAMP // 16).astype(">u2").tobytes(),
        GREY,
    ),
    "colour of 16 bits": (png_of_16_bits(COLOUR), COLOUR),
    "grey": (as_file(Image.fromarray(RAMP)), GREY),
    "black and white": (as_file(Image.fromarray(RAMP > 99)), (GREY > 99) * np.uint8(255)),
    "a palette": (as_file(image_of(GREY, "L").convert("P")), GREY),
    "grey and alpha": (as_file(Image.merge("LA", [Image.fromarray(RAMP)] * 2)), GREY),
    "alpha": (as_file(with_alpha(COLOUR)), COLOUR),
    "CMYK": (as_file(image_of(COLOUR, "CMYK"), "tiff"), COLOUR),
    "turned by EXIF": (as_file(image_of(COLOUR, "RGB"), exif=TURNED), COLOUR),
}
BAD_IMAGES = {
    "floats": (as_file(Image.fromarray(RAMP / np.float32(255)), "tiff"), "its pixels are floats"),
    "32 bits": (as_file(Image.fromarray(RAMP.astype(np.int32)), "tiff"), "integers of 32 bits"),
    "empty": (b"", "cannot identify"),
    "text": (b"<html>404</html>", "cannot identify"),
    "a half": (as_file(image_of(COLOUR, "RGB"))[:60], ""),
    "a bomb": (png(99999, 99999, 1, 0, b"\0"), "exceeds limit"),
}


@pytest.mark.parametrize(("content", "pixels"), KNOWN_IMAGES.values(), ids=KNOWN_IMAGES)
def test_an_image_has_the_range_of_its_own_pixels(content, pixels, tmp_path):
    (tmp_path / "image").write_bytes(content)
    assert np.array_equal(read_image(tmp_path / "image").numpy(), pixels)


@pytest.mark.parametrize(("content", "said"), BAD_IMAGES.values(), ids=BAD_IMAGES)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_that_cannot_be_read_is_named(content, said, tmp_path):
    file = write_images(tmp_path) / "val" / "dog" / "0.png"
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"cannot read the image {file}: .*{said}"):
        read_image(file)
    if said:  # seen in its first bytes: before the training, though it comes after it
        with pytest.raises(UserError, match=f"cannot read the image {file}: "):
            open_as(dataset="folder", data_root=tmp_path, batch_size=2)


def test_a_resumed_run_wants_the_images_that_it_was_started_with(train, tmp_path):
    root = write_images(tmp_path / "images")
    arguments = [*FOLDER, "--data-root", str(root), "--epochs", "1"]
    folder = train(*arguments)
    moved = root.rename(tmp_path / "elsewhere")
    train("--resume", "--data-root", str(moved), tiny=[])
    (moved / "train" / "dog" / "3.png").unlink()
    train("--resume", "--data-root", str(moved), tiny=[], status=2)
    assert f"the images are not those that {folder} was started with" in train.err
    for split in ("train", "val"):
        (moved / split / "cat").rename(moved / split / "lion")
    train("--resume", "--data-root", str(moved), tiny=[], status=2)
    assert "'classes'" in train.err


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
