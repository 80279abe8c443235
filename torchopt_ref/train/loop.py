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

from torchopt_ref.errors import UserError
from torchopt_ref.tensorboard import Monitor, RunFolder
from torchopt_ref.written import pasted

from .checkpoints import canonical
from .config import Config
from .data import Data
from .data.batches import Batches
from .distributed import choose_device, joined_processes
from .find_lr import check_alone, find_lr
from .looks import Looks
from .memory import check_that_it_fits
from .not_finite import Diverged, NotFinite
from .output.curves import CurveFile
from .output.description import describe, memory_of, processes_here
from .output.display import Display
from .output.monitoring import findings, make_monitor
from .output.profiling import profiled
from .rehearsal import rehearse
from .setup import (
    check_batches,
    make_checkpoints,
    make_folder,
    make_model,
    make_passes,
    make_training,
    open_data_in_turn,
    set_up_torch,
    wrapped,
)
from .state import TrainingState
from .stopping import Stop, Stopped
from .warning import warn


def train(config: Config) -> Path | None:
    """Train as ``config`` says; the run's folder, or None if ``config`` asks for no training.

    Raises:
        UserError: a mistake in ``config``, in the data, or numbers that are not finite.
        Stopped: a signal came; its message says where the state is saved, if it is.
        LostProcess: another process of the training has gone.
        LostWorker: a process that loads images has gone.
    """
    config.check()
    if config.run.find_lr:
        check_alone()
    device = choose_device(config.device.device)
    with (
        Stop() as stop,
        joined_processes(device, config.device.timeout) as processes,
        ExitStack() as held,
    ):
        set_up_torch(config.device, config.run.seed, device)
        data = held.enter_context(open_data_in_turn(config, device, processes))
        rehearse(config.optimizer, config.schedule, len(data.train), device)
        model = make_model(config, data)
        check_batches(model, config, data, processes)
        shards = processes.count if config.device.fsdp else 1
        memory = memory_of(model, config.optimizer, data, processes, shards)
        training = make_training(model, config, data, device, processes)
        if config.run.dry_run:
            if processes.first:
                print(describe(training, config.optimizer.epochs, data, memory))
            return None
        check_that_it_fits(memory, device, processes_here())
        if config.run.find_lr:
            with memory_named(device):
                find_lr(training, config, data, stop)
            return None
        folder, check_lock = make_folder(config, data, processes, held)
        try:
            with memory_named(device):
                Trainer(training, config, data, folder, check_lock, stop).run()
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


class Trainer:
    """One training: from the last checkpoint of its folder to the end, then the test.

    Args:
        training: a new one; it goes on from the checkpoint, if there is one.
        config: the options that the run was started or resumed with.
        data: the images.
        folder: of the run.
        check_lock: raises ``UserError`` if the folder is no longer this training's.
        stop: tells of signals.
    """

    def __init__(
        self,
        training: TrainingState,
        config: Config,
        data: Data,
        folder: RunFolder,
        check_lock: Callable[[], None],
        stop: Stop,
    ) -> None:
        self.training: TrainingState = training
        self.config: Config = config
        self.data: Data = data
        self.folder: RunFolder = folder
        self.check_lock: Callable[[], None] = check_lock
        self.stop: Stop = stop
        self.checkpoints = make_checkpoints(folder, config, training.processes)
        self.not_finite: NotFinite = NotFinite(config.optimizer.on_nan, training, self.checkpoints)
        self.passes = make_passes(training, config, data)
        self.looks: Looks = Looks(
            training,
            self.not_finite,
            stop,
            every_batch=training.device.type == "cpu" or config.optimizer.on_nan != "stop",
            checkpoint_every=config.run.checkpoint_every,
            batches=len(data.train),
        )

    def run(self) -> None:
        """Train, test, and write the result."""
        training, run, path = self.training, self.config.run, self.folder.path
        epochs, first = self.config.optimizer.epochs, training.processes.first
        resumed = self.resume()
        position, model = training.position, wrapped(training, self.config.device)
        with (
            self.checkpoints,
            CurveFile(path if first else None, position.step) as curves,
            Display(run, first, position, epochs, len(self.data.train), training.device) as display,
            profiled(path / "profile" if run.profile and first else None) as trace_step,
            make_monitor(training, path, run.monitor, self.config.as_json()) as monitor,
        ):
            new = "Nothing to resume: writing to" if run.resume else "Writing to"
            display.say(f"{'Resuming' if resumed else new} {path}")
            while position.epoch < epochs:
                began, done_before = time.perf_counter(), position.images
                self.train_epoch(model, curves, display, trace_step, monitor)
                self.not_finite.check_state()
                row = position.row()
                loss, accuracy = row.get("loss", math.inf), row.get("accuracy", 0.0)
                if self.data.validation:
                    loss, accuracy = self.evaluate("validation", self.data.validation)
                    row |= {"validation loss": loss, "validation accuracy": accuracy}
                    points = {"loss/validation": loss, "accuracy/validation": accuracy}
                    curves.log(points, position.step)
                training.schedule.end_epoch(loss)
                is_best = accuracy > position.best
                speed = (position.images - done_before) / (time.perf_counter() - began)
                position.next_epoch(accuracy)
                self.save(is_best)
                display.epoch(row | {"images/s": speed})

            loss, accuracy = self.evaluate("test", self.data.test)
            # One step on, so that a finished run that is resumed replaces this point by its own.
            curves.log({"loss/test": loss, "accuracy/test": accuracy}, position.step + 1)
            result = {
                "epochs": position.epoch,
                "steps": position.step,
                "best validation accuracy": position.best if self.data.validation else None,
                "test loss": loss,
                "test accuracy": accuracy,
            }
            display.summary(result, path)
            self.finish(result)

    def resume(self) -> bool:
        """Go on from the last checkpoint; False if there is none.

        Raises:
            UserError: a checkpoint could not hold the state of this training.
        """
        saved = self.checkpoints.read_last(self.training)
        if saved:
            self.training.load_state_dict(saved)
        # What no checkpoint can hold is refused now, not after an epoch. Each part's own state is
        # taken, since ``training.state_dict`` would make a sharded optimizer take a step.
        for part in (self.training.model, self.training.optimizer, self.training.schedule):
            canonical(part.state_dict(), type(part).__name__)
        return saved is not None

    def train_epoch(
        self,
        model: nn.Module,
        curves: CurveFile,
        display: Display,
        trace_step: Callable[[], None],
        monitor: Monitor,
    ) -> None:
        """Train on the batches of this epoch that are left."""
        training, position, not_finite = self.training, self.training.position, self.not_finite
        training.model.train()
        for batch in self.data.train.epoch(position.epoch, position.batch):
            not_finite.before_batch()
            training.optimizer.zero_grad()
            look = self.looks.after(self.passes.train(model, *batch))
            if look:
                monitor.log(loss=look.mean_loss, accuracy=look.accuracy)
            makes_step = look is None or not_finite.step_can_be_made(look.loss, look.zero)
            position.batch += 1
            if makes_step:
                training.step(self.config.optimizer.clip)
            if look and makes_step:
                position.add(look.loss, look.hits, look.images)
                if look.draws:
                    points = {"loss/train": look.mean_loss, "accuracy/train": look.accuracy}
                    rate = training.optimizer.param_groups[0]["lr"]
                    curves.log(points | {"learning rate": rate}, position.step)
                if look.saves:
                    self.save()
            display.step(batch[-1])
            trace_step()
            if look and look.stop:
                raise self.saved_and_stopped()

    def evaluate(self, part: str, batches: Batches) -> tuple[float, float]:
        """Loss and accuracy on a ``part`` of the data.

        Raises:
            Stopped: a signal came; the state is saved.
            Diverged: the loss is not finite.
        """
        loss, accuracy, cut = self.passes.evaluate(self.training.judged, batches, self.stop)
        if cut:
            raise self.saved_and_stopped()
        self.not_finite.check_evaluation(part, loss)
        return loss, accuracy

    def save(self, best: bool = False) -> None:
        self.not_finite.check_state()
        self.check_lock()
        self.checkpoints.save(self.training.state_dict(), self.training.position.step, best)

    def saved_and_stopped(self) -> Stopped:
        """Save; return the exception. The signal may have come to another process only."""
        self.save()
        self.checkpoints.wait()
        number = self.stop.signal or signal.SIGTERM
        return Stopped(number, self.folder.path, self.checkpoints.failure)

    def finish(self, result: dict[str, Any]) -> None:
        """Write ``result``.

        Raises:
            UserError: it, or the last checkpoint, cannot be written; the message has the result.
        """
        processes, checkpoints = self.training.processes, self.checkpoints
        checkpoints.wait()
        if processes.from_first(checkpoints.failure):
            self.save()  # once more: there may be room again
            checkpoints.wait()
        self.check_lock()
        if not processes.first:
            return
        failure = checkpoints.failure
        try:
            self.folder.write_json("results.json", result)
        except UserError as error:
            failure = failure or str(error)
        if failure:
            raise UserError(
                f"the training is finished, but not saved: {failure}: make room, and add --resume "
                f"to do again what is not saved; its result is {json.dumps(result)}"
            )
