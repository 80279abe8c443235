"""A trace of some steps, by torch.profiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import profiler

from ..warning import warn


@contextmanager
def profiled(folder: Path | None) -> Iterator[Callable[[], None]]:
    """Trace the steps 4 to 8 into ``folder``, if it is not None.

    The function that it yields is to be called after each step.

    The trace opens in https://ui.perfetto.dev and in chrome://tracing.
    """
    if folder is None:
        yield lambda: None
        return

    def write(trace: profiler.profile) -> None:
        try:
            profiler.tensorboard_trace_handler(str(folder))(trace)
        except (OSError, RuntimeError) as error:
            warn(f"cannot write the trace to {folder}: {error}: the training goes on without it")

    with profiler.profile(
        schedule=profiler.schedule(wait=2, warmup=1, active=5, repeat=1),
        on_trace_ready=write,
        record_shapes=True,
        profile_memory=True,
    ) as trace:
        yield trace.step
