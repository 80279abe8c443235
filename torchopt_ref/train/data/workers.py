"""The processes that load images: how they died, and how they are ended."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

DYING = 2.0
"""Seconds within which a worker has ended after its connections were closed."""


class LostWorker(Exception):
    """A process that loads images has ended, or delivers none any more."""


def death(workers: list[BaseProcess]) -> str:
    """How one of ``workers`` died, in words; empty if all live."""
    closed = wait([worker.sentinel for worker in workers], timeout=DYING)
    for worker in workers:
        if worker.sentinel in closed:
            worker.join(DYING)
        code = worker.exitcode
        if code is not None:
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
            return (
                f"process {worker.pid}, which loaded images, ended {how}: if memory was short, "
                "lower --workers"
            )
    return ""


def end(workers: list[BaseProcess]) -> None:
    """Kill ``workers``: they ignore SIGTERM; torch and Python would send it and wait for ever."""
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join()


@contextmanager
def without_errors_of_torch() -> Iterator[None]:
    """Within the context torch raises no error about a dead worker.

    torch's handler of SIGCHLD raises it wherever this process is at that moment, which may be late:
    the worker's connection breaks before the system tells of its death. Windows has no such signal.
    """
    if sys.platform == "win32":
        yield
        return
    handler = signal.getsignal(signal.SIGCHLD)
    with suppress(RuntimeError):  # raised by the handler, if the signal is pending
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)


def leave_signals_to_the_parent(worker: int) -> None:
    """Ignore Ctrl-C and SIGTERM, which reach the workers, too: the training still needs images."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
