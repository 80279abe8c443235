"""The monitor as a callback of Lightning's Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torchopt_ref.errors import with_hint

from .monitor import Monitor

try:
    from lightning.pytorch import Callback
except ModuleNotFoundError as error:
    raise with_hint(error) from error

TAKEN = ("loss", "output", "target")


class MonitorCallback(Callback):
    """Watch ``Trainer.fit`` with a ``Monitor``::

        Trainer(callbacks=[MonitorCallback("runs/mine", model="net")])

    The loss of each step is that of ``training_step``, and what validation logs becomes curves. A
    fit that resumes from a checkpoint continues its curves: the checkpoint holds how many steps
    the first optimizer has made.

    In automatic optimization Lightning computes the gradients inside the optimizer's step. So there
    are no phases to time and no gradients before the step: step times, gradient cosine and noise
    scale are not measured.

    Args:
        folder: the folder of the run.
        model: path of the submodule that ``training_step`` calls: its forward pass marks the
            beginning of a step. Empty if ``training_step`` calls the LightningModule itself.
        options: further arguments of ``Monitor``.
    """

    def __init__(self, folder: str | Path, model: str = "", **options: Any) -> None:
        self._folder, self._path, self._options = folder, model, options
        self._monitor: Monitor | None = None
        self._done: int | None = None

    @property
    def state_key(self) -> str:
        return self._generate_state_key(folder=str(self._folder))

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._monitor.step if self._monitor else self._done}

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        saved: dict[str, dict[str, Any]] = checkpoint.get("callbacks", {})
        # The checkpoint may come from a callback with another folder, and so another key.
        own = saved.get(self.state_key) or next(
            (each for key, each in saved.items() if key.startswith(type(self).__qualname__)), {}
        )
        self._done = own.get("step")

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        optimizers = trainer.optimizers
        # The callback may be used again, by another trainer that starts from step 0.
        done = self._done if trainer.global_step else 0
        if done is None:
            # No checkpoint, or one without this callback. ``global_step`` counts all optimizers
            # together.
            done = trainer.global_step // max(len(optimizers), 1)
        model = pl_module.get_submodule(self._path)
        options: dict[str, Any] = {"config": dict(pl_module.hparams), "step": done}
        self._monitor = Monitor(model, optimizers, self._folder, **(options | self._options))
        self._monitor.__enter__()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if self._monitor and loss is not None:
            # Lightning has divided it by the number of batches that are accumulated.
            self._monitor.log(loss=loss * trainer.accumulate_grad_batches)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if self._monitor:
            found = trainer.callback_metrics.items()
            self._monitor.log(**{name: value for name, value in found if name not in TAKEN})

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._close(exception)

    def _close(self, error: BaseException | None = None) -> None:
        monitor, self._monitor = self._monitor, None
        if monitor:
            self._done = monitor.step
            monitor.__exit__(type(error) if error else None, error, None)
