"""The processes that share an experiment's work, and what a person sees while they do."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.context import BaseContext

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from threadpoolctl import threadpool_limits

from torchopt_ref.errors import UserError

from .results import Outcome, Unit


def cores() -> int:
    """How many cores this process may use or, where the system does not say, how many there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def context() -> BaseContext:
    """A context of ``multiprocessing`` whose processes need not spend seconds on imports.

    They are forks of a server that has imported what they need and has done nothing else. A fork of
    the calling process would inherit the locks that the caller's threads hold at that moment. Where
    there is no forking, each process imports for itself.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    server = multiprocessing.get_context("forkserver")
    # torch imports its compiler, ``torch._dynamo``, when the first optimizer is made.
    server.set_forkserver_preload(["torchopt_ref.experiments.lab.run", "torch._dynamo"])
    return server


def computed(units: list[Unit], processes: int) -> Iterator[tuple[Unit, Outcome]]:
    """Yield ``(unit, outcome)`` as soon as a unit is finished; each process has one thread."""
    if min(processes, len(units)) == 1:
        with one_thread():
            for unit in units:
                yield unit, unit.work(**unit.arguments)
        return
    with ProcessPoolExecutor(processes, context(), initializer=ignore_interrupt) as pool:
        futures: dict[Future[Outcome], Unit] = {pool.submit(run_unit, unit): unit for unit in units}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "a process of the experiment was killed, perhaps for want of memory: the same "
                "command goes on with what is not finished, with fewer --jobs if need be"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def run_unit(unit: Unit) -> Outcome:
    with one_thread():
        return unit.work(**unit.arguments)


def ignore_interrupt() -> None:
    """Leave Ctrl-C to the parent process, which keeps what is finished."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let NumPy and torch compute in one thread: that is fastest for small matrix products."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def progress(task: str, total: int) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal; elsewhere, as in a log, a plain line for each finished step.

    Yields a function to call after each of the ``total`` steps with a note, such as its name.
    """
    console = Console(stderr=True)
    columns = [
        TextColumn(f"{task:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ]
    done = 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        bar_id = bar.add_task(task, total=total, note="")

        def advance(note: str) -> None:
            nonlocal done
            done += 1
            bar.update(bar_id, advance=1, note=note)
            if not console.is_terminal:
                print(f"{task}: {done} of {total}, {note}", file=console.file, flush=True)

        yield advance
