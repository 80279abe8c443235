"""Makes the parts of a training from its options.

Some imports are within functions, because they import torch's compiler, which takes longer than
torch itself: torchvision, which only an actual training needs, and what a sharded training needs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from torchopt_ref.errors import UserError
from torchopt_ref.init import initialize
from torchopt_ref.tensorboard import RunFolder
from torchopt_ref.tensorboard.run_lock import locked
from torchopt_ref.whole_file import with_digest

from .checkpoints import Checkpoints
from .config import Config, DeviceOptions
from .data import Data
from .distributed import Processes, under_torchrun
from .models import model_by_name
from .optimizers import Schedule, make_optimizer
from .options import (
    CHECKPOINTS,
    CONFIG_FILE,
    as_config,
    check_unchanged,
    read_saved,
)
from .passes import Passes, least_images
from .state import TrainingState, seed_everything
from .surgery import use_our_layers

DATA_FILE = "data.json"


def set_up_torch(options: DeviceOptions, seed: int, device: torch.device) -> None:
    """What is set for all of torch: the seed, and the switches of its backends."""
    seed_everything(seed)
    torch.backends.cuda.matmul.allow_tf32 = options.tf32
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = options.tf32
        torch.backends.cudnn.benchmark = not options.deterministic
    if options.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    if device.type == "cuda":
        torch.cuda.set_device(device)


def open_data_in_turn(config: Config, device: torch.device, processes: Processes) -> Data:
    """Open the data in the first process before the others, which find what it downloaded."""
    from .data.opening import open_data

    if not processes.first:
        processes.from_first(None)
    data = open_data(config, device, processes)
    if processes.first:
        processes.from_first(None)
    return data


def make_model(config: Config, data: Data) -> nn.Module:
    """A new model, of our layers if ``config`` says so; all processes draw the same weights."""
    model = model_by_name(config.model.model, data.shape, data.classes)
    if config.model.ours:
        use_our_layers(model)
        initialize(model, activation="relu")
    return model


def check_batches(model: nn.Module, config: Config, data: Data, processes: Processes) -> None:
    """Raise ``UserError`` if some batch is too small for a model with BatchNorm."""
    least, smallest = least_images(model, processes), data.train.smallest
    if smallest < least * processes.count:
        images, needed = data.train.images, least * processes.count
        remedy = f"choose {min(2 * needed, images)} or more"
        raise UserError(
            f"--batch-size {config.optimizer.batch_size}: the smallest batch of an epoch has "
            f"{smallest} of {images} images, and BatchNorm needs {least} in each of "
            f"{processes.count} process(es): "
            f"{remedy if images >= needed else 'train on more images'}"
        )


def make_training(
    model: nn.Module, config: Config, data: Data, device: torch.device, processes: Processes
) -> TrainingState:
    """A new training of ``model``; every process has random numbers of its own."""
    seed_everything(config.run.seed + processes.rank)
    model.to(device)
    if config.device.channels_last:
        model.to(memory_format=torch.channels_last)
    ema = None
    options = config.optimizer
    if options.ema:
        average = get_ema_multi_avg_fn(options.ema)
        ema = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
    kind = TrainingState
    if config.device.fsdp:
        from .sharding import ShardedTraining, shard

        kind = ShardedTraining
        for each in (model, *([ema.module] if ema else [])):
            shard(each, device, processes.count)
    optimizer = make_optimizer(model, options)
    steps = options.epochs * len(data.train)
    return kind(
        model=model,
        optimizer=optimizer,
        schedule=Schedule(optimizer, config.schedule, options.lr, steps),
        scaler=torch.amp.GradScaler(device.type, enabled=config.device.amp == "fp16"),
        ema=ema,
        device=device,
        processes=processes,
    )


def wrapped(training: TrainingState, options: DeviceOptions) -> nn.Module:
    """The model as it is trained: compiled if asked for, in DDP if it has several processes."""
    if options.compile or options.cuda_graphs:
        training.model.compile(mode="reduce-overhead" if options.cuda_graphs else None)
    if training.processes.count > 1 and not training.sharded:
        return DistributedDataParallel(training.model)
    return training.model


def make_passes(training: TrainingState, config: Config, data: Data) -> Passes:
    return Passes(training, config.optimizer, config.device, data.normalise)


def make_checkpoints(folder: RunFolder, config: Config, processes: Processes) -> Checkpoints:
    place, keep, options = folder.path / CHECKPOINTS, config.run.keep, config.lasting()
    if config.device.fsdp:
        from .checkpoints.sharded import ShardedCheckpoints

        return ShardedCheckpoints(place, keep, processes, options, config.device.timeout)
    return Checkpoints(place, keep, processes, options)


ORPHANS = 30
"""Seconds to wait until the processes of a torchrun that died have left the run's folder."""


def make_folder(
    config: Config, data: Data, processes: Processes, held: ExitStack
) -> tuple[RunFolder, Callable[[], None]]:
    """The run's folder, new or the named one, with the options and the classes in it.

    The first process locks it until ``held`` is left: two trainings would damage each other. The
    second value is a function that raises ``UserError`` if the folder is no longer there.
    """
    if not processes.first:
        return RunFolder(config.run.out, processes.from_first(None)), lambda: None
    folder = RunFolder(config.run.out, config.run.name or None)
    patience = min(ORPHANS, config.device.timeout / 2) if under_torchrun() else 0.0
    check_lock = held.enter_context(locked(folder.path, patience))
    if (folder.path / CONFIG_FILE).exists() and not config.run.resume:
        raise UserError(f"the run {folder.path} is there: add --resume, or choose another --name")
    saved = read_saved(folder.path)
    if saved:
        check_unchanged(as_config(saved), config, folder.path)
    keep_facts(data, folder)
    folder.write_json(CONFIG_FILE, with_digest(config.as_json() | {"name": folder.path.name}))
    processes.from_first(folder.path.name)
    return folder, check_lock


def keep_facts(data: Data, folder: RunFolder) -> None:
    """Write ``data.facts`` into the folder; ``UserError`` if the run was started with others."""
    file = folder.path / DATA_FILE
    if not file.exists():
        if (folder.path / CHECKPOINTS).exists():
            raise UserError(
                f"{file} is missing: put it back, or start another run: without it nobody knows "
                "what images the checkpoints beside it are of"
            )
        folder.write_json(DATA_FILE, data.facts)
    try:
        started_with = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {file}: {error}: start another run") from error
    if started_with != data.facts:
        known = started_with if isinstance(started_with, dict) else {}
        changed = [key for key in data.facts if known.get(key) != data.facts[key]]
        raise UserError(
            f"the images are not those that {folder.path} was started with, by {changed or file}: "
            "give back the ones of then, or start another run"
        )
