"""The monitor as a callback of Hugging Face's Trainer."""

from __future__ import annotations

from numbers import Real
from pathlib import Path
from typing import Any

from torchopt_ref.errors import with_hint

from .monitor import Monitor

try:
    from transformers import TrainerCallback
except ModuleNotFoundError as error:
    raise with_hint(error) from error


class MonitorCallback(TrainerCallback):
    """Watch ``Trainer.train`` with a ``Monitor``::

        Trainer(..., callbacks=[MonitorCallback("runs/mine")])

    The loss and the metrics of evaluation (``eval_...``) come from the Trainer's log, so the loss
    is known only every ``logging_steps``. A training that resumes from a checkpoint continues its
    curves. The Trainer does not tell callbacks about an exception: after one, the hooks stay until
    a training with this callback begins again. The event file is valid all the same.

    Args:
        folder: the folder of the run.
        options: further arguments of ``Monitor``.
    """

    def __init__(self, folder: str | Path, **options: Any) -> None:
        self._folder, self._options = folder, options
        self._monitor: Monitor | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._close()
        options = {"step": state.global_step} | self._options
        monitor = Monitor(kwargs["model"], kwargs["optimizer"], self._folder, **options)
        self._monitor = monitor.__enter__()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._monitor:
            logs = kwargs["logs"]
            found: dict[str, Any] = {
                name: value
                for name, value in logs.items()
                if name.startswith("eval_") and isinstance(value, Real)
            }
            self._monitor.log(loss=logs.get("loss"), **found)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._close()

    def _close(self) -> None:
        monitor, self._monitor = self._monitor, None
        if monitor:
            monitor.__exit__(None, None, None)
