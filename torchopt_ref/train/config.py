"""The options of a training."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torchopt_ref.devices import check_device
from torchopt_ref.errors import LARGEST, UserError, check_path, check_whole, unknown

CHOICES = {
    "amp": ("none", "bf16", "fp16"),
    "on_nan": ("stop", "skip", "rollback"),
}
LEAST = {
    **dict.fromkeys(("epochs", "batch_size", "accumulate", "keep", "timeout"), 1),
    **dict.fromkeys(("seed", "warmup", "workers", "checkpoint_every", "image_size"), 0),
}
MOST = {"seed": 2**62, "workers": 1024, "image_size": 2**15}
"""The largest values: each process adds its rank to the seed, and each worker takes memory."""
FRACTIONS = ("validation", "ema", "label_smoothing")
MAY_CHANGE = {
    *("device", "workers", "data_root", "download", "timeout", "checkpoint_every", "keep"),
    *("on_nan", "out", "name", "resume", "quiet", "json_log", "monitor", "profile", "dry_run"),
    *("find_lr",),
}
"""The options that may differ from the saved ones when a run is resumed."""
NOT_WITH_FIND_LR = ("resume", "dry_run", "profile", "fsdp")


@dataclass
class ModelOptions:
    """What is trained."""

    model: str = "cnn"
    """mlp, cnn, or any classification model of torchvision, such as resnet18"""
    ours: bool = False
    """this project's initial values, BatchNorm (its statistics shared by all processes), Dropout"""


@dataclass
class DataOptions:
    """The images."""

    dataset: str = "mnist"
    """mnist, fashion, cifar10, cifar100, folder (torchvision's ImageFolder) or fake"""
    data_root: Path | None = None
    """folder of the images in torchvision's layout; mnist has a subset that needs none"""
    download: bool = False
    """fetch the images into --data-root"""
    image_size: int = 0
    """pixels to which images are resized; 0: as they are, or what is usual for the data set"""
    validation: float = 0.1
    """the fraction of the training images that is held out for validation"""
    augment: bool = True
    """shift, crop and flip the training images as is usual for the data set"""
    workers: int = 0
    """processes that load images; 0: the training process itself"""


@dataclass
class OptimizerOptions:
    """The loss, and the steps that lower it."""

    epochs: int = 12
    """passes through the training images"""
    batch_size: int = 128
    """images per step of the optimizer, over all processes and parts; fewer at an epoch's end"""
    accumulate: int = 1
    """parts in which a batch goes through the model, each at least two images with BatchNorm"""
    optimizer: str = "Adam"
    """of this project (Adam, book.Adam, keras.Adam), or package.module:Class (torch.optim:Adam)"""
    lr: float = 2e-3
    """learning rate"""
    weight_decay: float = 0.0
    """of weights, for an optimizer that has it; biases and normalisation are left out"""
    optimizer_args: str = "{}"
    """further arguments of the optimizer, as a JSON object"""
    label_smoothing: float = 0.0
    """the share of the target that is spread over all classes"""
    clip: float = 0.0
    """clip the norm of all gradients together to this; 0: do not clip"""
    ema: float = 0.0
    """decay of an exponential moving average of the weights, which is then evaluated; 0: none"""
    on_nan: str = "stop"
    """when something is not finite: stop, skip the batch, or rollback to the last checkpoint"""


@dataclass
class ScheduleOptions:
    """How the learning rate changes."""

    scheduler: str = "CosineAnnealingLR"
    """one of torch.optim.lr_scheduler, package.module:Class, or none"""
    scheduler_args: str = "{}"
    """arguments of the scheduler, as a JSON object"""
    warmup: int = 100
    """optimizer steps over which the learning rate rises linearly; at most a quarter of all"""


@dataclass
class DeviceOptions:
    """Where and how it is computed."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N"""
    amp: str = "none"
    """automatic mixed precision: none, bf16 or fp16"""
    channels_last: bool = False
    """store images with the channels last"""
    compile: bool = False
    """compile the model"""
    cuda_graphs: bool = False
    """compile the model into CUDA graphs"""
    tf32: bool = False
    """matrix products and convolutions of float32 on CUDA in TensorFloat-32"""
    deterministic: bool = False
    """use only algorithms that give the same bits in every run, or fail"""
    fsdp: bool = False
    """FSDP2: each process of torchrun keeps a part of weights, gradients and optimizer, not all"""
    timeout: int = 600
    """seconds that a process waits for the others, or for --workers, before it gives up"""


@dataclass
class RunOptions:
    """The run's folder, and what is shown."""

    out: Path = Path("runs/train")
    """where the run's folder is made"""
    name: str = ""
    """name of the run's folder; by default the time"""
    resume: bool = False
    """go on with run --name, by default the latest, with its options; start it if it is new"""
    seed: int = 0
    """of weights, order, augmentation and dropout"""
    checkpoint_every: int = 0
    """optimizer steps between checkpoints; 0: at the end of each epoch only"""
    keep: int = 3
    """checkpoints to keep beside the best one"""
    quiet: bool = False
    """print nothing but warnings"""
    json_log: bool = False
    """print a JSON object for each epoch, for programs to read"""
    monitor: bool = True
    """record weights, gradients, updates and layers by a Monitor, in the run's folder monitor"""
    profile: bool = False
    """write a trace of a few steps by torch.profiler into the run's folder"""
    dry_run: bool = False
    """print the model, its parameters and an estimate of the memory, and stop"""
    find_lr: bool = False
    """suggest --lr by a range test: 200 steps at growing rates, which train nothing, and stop"""


@dataclass
class Config:
    """All options of a training, in groups; ``torchopt-ref train --help`` says what each is for.

    ``Config.of(model="mlp", lr=0.1)`` makes a ``Config``; options have the names that they have on
    the command line, with underscores.
    """

    model: ModelOptions = field(default_factory=ModelOptions)
    data: DataOptions = field(default_factory=DataOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    device: DeviceOptions = field(default_factory=DeviceOptions)
    run: RunOptions = field(default_factory=RunOptions)

    @classmethod
    def of(cls, **options: Any) -> Config:
        """A ``Config`` of ``options``, whichever group they are in; ``UserError`` if in none."""
        config = cls()
        known = config.options()
        for name, value in options.items():
            if name not in known:
                raise unknown("option", name, known)
            (group,) = (each for each in config.groups() if hasattr(each, name))
            setattr(group, name, value)
        return config

    def groups(self) -> tuple[Any, ...]:
        return self.model, self.data, self.optimizer, self.schedule, self.device, self.run

    def options(self) -> dict[str, Any]:
        """All options by their names, of all groups."""
        return {name: value for group in self.groups() for name, value in vars(group).items()}

    def as_json(self) -> dict[str, Any]:
        """All options as plain values."""
        return {
            name: str(value) if isinstance(value, Path) else value
            for name, value in self.options().items()
        }

    def lasting(self) -> dict[str, Any]:
        """The options that stay the same when a run is resumed, as plain values."""
        return {key: value for key, value in self.as_json().items() if key not in MAY_CHANGE}

    def check(self) -> None:
        """Raise ``UserError`` for an impossible value."""
        options = self.options()
        for name, choices in CHOICES.items():
            if options[name] not in choices:
                raise unknown(as_option(name), options[name], choices)
        for name, least in LEAST.items():
            check_whole(as_option(name), options[name], least, MOST.get(name, LARGEST))
        for name in FRACTIONS:
            if not 0 <= options[name] < 1:
                raise UserError(f"{as_option(name)} must be at least 0 and below 1")
        if not all(0 <= options[name] < math.inf for name in ("lr", "weight_decay", "clip")):
            raise UserError("--lr, --weight-decay and --clip must be at least 0, and finite")
        if self.run.find_lr:
            for name in NOT_WITH_FIND_LR:
                if options[name]:
                    raise UserError(
                        f"--find-lr tests learning rates from a training's start, and trains "
                        f"nothing: omit {as_option(name)}"
                    )
        for path in (self.run.out, self.data.data_root):
            check_path(path)
        if self.run.name:
            check_name(self.run.name)
        if self.device.device != "auto":
            check_device(self.device.device)


def check_name(name: str) -> None:
    """Raise ``UserError`` unless ``name`` is a folder's name that later commands can give."""
    if Path(name).name != name or name.startswith(("-", ".")) or not name.isprintable():
        raise UserError(
            f"--name {name!r}: give a plain name that begins with neither - nor ., and its folder "
            "with --out"
        )
    check_path(Path(name))


def as_option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
