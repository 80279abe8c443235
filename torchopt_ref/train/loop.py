"""The training, from top to bottom."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from torchopt_ref.errors import UserError
from torchopt_ref.tensorboard import RunFolder
from torchopt_ref.written import pasted

from .checkpoints import canonical
from .config import Config
from .data import Data
from .distributed import choose_device, joined_processes
from .find_lr import check_alone, find_lr
from .memory import check_that_it_fits
from .not_finite import Diverged, NotFinite
from .output.curves import Curves
from .output.description import describe, memory_of, processes_here
from .output.display import Display
from .output.monitoring import findings, monitored
from .output.profiling import profiled
from .passes import Passes, least_images
from .rehearsal import rehearse
from .setup import (
    check_batches,
    make_checkpoints,
    make_folder,
    make_model,
    make_training,
    open_data_in_turn,
    set_up_torch,
)
from .state import Training
from .stopping import Stop, Stopped
from .warning import warn

LOOK_EVERY = 10
"""Steps between two points of a curve, and between two looks at what a GPU has computed."""


def train(config: Config) -> Path | None:
    """Train as ``config`` says; the run's folder, or None where ``config`` asks for no training.

    Raises:
        UserError: a mistake in ``config``, in the data, or numbers that are not finite.
        Stopped: a signal came, and the state is saved.
        LostProcess: another process of the training has gone.
        LostWorker: a process that loads images has gone.
    """
    config.check()
    if config.find_lr:
        check_alone()
    device = choose_device(config.device)
    with (
        Stop() as stop,
        joined_processes(device, config.timeout) as processes,
        ExitStack() as held,
    ):
        set_up_torch(config, device)
        data = held.enter_context(open_data_in_turn(config, device, processes))
        rehearse(config, len(data.train), device)
        model = make_model(config, data)
        check_batches(model, config, data, processes)
        memory = memory_of(model, config, data, processes)
        training = make_training(model, config, data, device, processes)
        if config.dry_run:
            if processes.first:
                print(describe(training, config, data, memory))
            return None
        check_that_it_fits(memory, device, processes_here())
        if config.find_lr:
            with memory_named(device):
                find_lr(training, config, data, stop)
            return None
        folder, check_lock = make_folder(config, data, processes, held)
        try:
            with memory_named(device):
                fit(training, config, data, folder, check_lock, stop)
        except Diverged:
            if processes.first:
                for finding in findings(folder.path):
                    warn(finding)
                warn(f"see more: {pasted('inspect', folder.path)}")
            raise
        except (UserError, Stopped, BrokenPipeError):
            raise
        except Exception:
            warn(f"the run {folder.path} ended by an error; --resume goes on from its checkpoint")
            raise
        return folder.path


@contextmanager
def memory_named(device: torch.device) -> Iterator[None]:
    """``UserError`` where ``device`` has no memory left."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{device} is out of memory: lower --batch-size or --image-size, raise "
            f"--accumulate, or use --amp bf16 ({error})"
        ) from error


def fit(
    training: Training,
    config: Config,
    data: Data,
    folder: RunFolder,
    check_lock: Callable[[], None],
    stop: Stop,
) -> None:
    """Train from where the last checkpoint of ``folder`` is to the end, then test."""
    device, processes, scaler = training.device, training.processes, training.scaler
    checkpoints = make_checkpoints(folder, config, processes)

    def save(best: bool = False) -> None:
        not_finite.check_state()
        check_lock()
        checkpoints.save(training.state(), training.position.step, best)

    def saved_and_stopped() -> Stopped:
        save()
        checkpoints.wait()
        return Stopped(stop.signal or signal.SIGTERM, folder.path, checkpoints.failure)

    saved = checkpoints.read_last(training)
    if saved:
        training.load(saved)
    # What could not be saved is refused now, not after an epoch. (Why not training.state(): of a
    # sharded optimizer without state it makes torch take a step.)
    for part in (training.model, training.optimizer, training.schedule):
        canonical(part.state_dict(), type(part).__name__)
    position, parameters = training.position, list(training.model.parameters())
    least = least_images(training.model, processes)
    passes = Passes(config, data.normalise, device, processes, least)
    not_finite = NotFinite(config.on_nan, training, checkpoints)
    model: nn.Module = training.model
    if config.compile or config.cuda_graphs:
        model.compile(mode="reduce-overhead" if config.cuda_graphs else None)
    if processes.count > 1 and not training.sharded:
        model = DistributedDataParallel(model)
    # loss, hits, images; signals; a zero that is NaN when something is not finite
    sums = torch.zeros(5, dtype=torch.float64, device=device)

    with (
        checkpoints,
        Curves(folder.path if processes.first else None, position.step) as curves,
        Display(config, processes.first, len(data.train), position, device) as display,
        profiled(folder.path / "profile" if config.profile and processes.first else None) as traced,
        monitored(training, config, folder.path) as monitor,
    ):
        display.say(f"{'Resuming' if saved else 'Writing to'} {folder.path}")
        while position.epoch < config.epochs:
            began, done_before = time.perf_counter(), position.images
            training.model.train()
            for batch in data.train.epoch(position.epoch, position.batch):
                not_finite.before()
                training.optimizer.zero_grad()
                sums[:3] += passes.train(model, scaler, *batch)
                sums[3] = stop.signal

                # A look waits for the GPU and for the other processes.
                step = position.step + 1
                ends = position.batch + 1 == len(data.train)
                draws = step % LOOK_EVERY == 0
                # The end of the epoch has its own, with which the validation is not drawn twice.
                every = config.checkpoint_every
                saves = every > 0 and step % every == 0 and not ends
                looks = device.type == "cpu" or config.on_nan != "stop" or saves or draws or ends
                can_be_made, signals = True, 0.0
                if looks:
                    sums[4] = not_finite.zero()
                    loss, hits, images, signals, zero = processes.sum(sums).tolist()
                    sums.zero_()
                    monitor.log(loss=loss / max(images, 1), accuracy=hits / max(images, 1))
                    can_be_made = not_finite.step_can_be_made(loss, zero)
                position.batch += 1
                if can_be_made:
                    if config.clip:
                        scaler.unscale_(training.optimizer)
                        clip_grad_norm_(parameters, config.clip)
                    scaler.step(training.optimizer)
                    scaler.update()
                    training.schedule.step()
                    if training.ema:
                        training.ema.update_parameters(training.model)
                    position.step = step
                    if looks:
                        position.add(loss, hits, images)
                    if draws:
                        curves.log(
                            {
                                "loss/train": loss / images,
                                "accuracy/train": hits / images,
                                "learning rate": training.optimizer.param_groups[0]["lr"],
                            },
                            step,
                        )
                    if saves:
                        save()
                display.step(batch[-1])
                traced()
                if signals:
                    raise saved_and_stopped()

            not_finite.check_state()
            row = position.row()
            loss, accuracy = row.get("loss", math.inf), row.get("accuracy", 0.0)
            if data.validation:
                loss, accuracy, cut = passes.evaluate(training.judged, data.validation, stop)
                if cut:
                    raise saved_and_stopped()
                not_finite.check_evaluation("validation", loss)
                row |= {"validation loss": loss, "validation accuracy": accuracy}
                curves.log({"loss/validation": loss, "accuracy/validation": accuracy}, row["step"])
            training.schedule.end_epoch(loss)
            is_best = accuracy > position.best
            speed = (position.images - done_before) / (time.perf_counter() - began)
            position.next_epoch(accuracy)
            save(is_best)
            display.epoch(row | {"images/s": speed})

        loss, accuracy, cut = passes.evaluate(training.judged, data.test, stop)
        if cut:
            raise saved_and_stopped()
        not_finite.check_evaluation("test", loss)
        # One step on, where it is replaced if a finished run is resumed and tests again.
        curves.log({"loss/test": loss, "accuracy/test": accuracy}, position.step + 1)
        result = {
            "epochs": position.epoch,
            "steps": position.step,
            "best validation accuracy": position.best if data.validation else None,
            "test loss": loss,
            "test accuracy": accuracy,
        }
        display.summary(result, folder.path)
        checkpoints.wait()
        if processes.from_first(checkpoints.failure):
            save()  # once more: there may be room again
            checkpoints.wait()
        check_lock()
        if processes.first:
            finish(folder, result, checkpoints.failure)


def finish(folder: RunFolder, result: dict[str, Any], failure: str) -> None:
    """Write the result; an error that names it, where it or the last weights cannot be written."""
    try:
        folder.write_json("results.json", result)
    except UserError as error:
        failure = failure or str(error)
    if failure:
        raise UserError(
            f"the training is finished, but not saved: {failure}: make room, and add --resume to "
            f"do again what is not saved; its result is {json.dumps(result)}"
        )
