"""The processes of this machine that work on a shared study."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess

from torchopt_ref.errors import UserError

from ..lab.processes import context, ignore_interrupt, one_thread
from ..lab.results import Outcome
from .objective import Objective
from .plan import SearchPlan
from .worker import Worker

LOOK = 0.2
"""Seconds between two looks at what the workers have done."""


def run_study(
    plan: SearchPlan, objective: Objective, workers: int
) -> Iterator[tuple[int, Outcome]]:
    """Finish the study by this number of processes, and yield each point with its outcome once.

    Raises ``UserError`` if all workers died.
    """
    here = Worker(plan, objective)
    seen: set[int] = set()

    def news() -> Iterator[tuple[int, Outcome]]:
        for point, outcome in here.outcomes().items():
            if point not in seen:
                seen.add(point)
                yield point, outcome

    yield from news()
    if min(workers, plan.total - len(seen)) <= 1:
        while not here.finished():
            with one_thread():
                here.step()
            yield from news()
        return
    processes = start(plan, objective, workers)
    try:
        # ``sum``, since ``any`` would not ask every process: ``is_alive`` reaps one that has died,
        # and until it is reaped, it looks alive to the workers.
        while sum(process.is_alive() for process in processes):
            time.sleep(LOOK)
            yield from news()
    finally:
        for process in processes:
            process.terminate()
            process.join()
    yield from news()
    if len(seen) < plan.total:
        codes = ", ".join(str(process.exitcode) for process in processes)
        raise UserError(
            f"all workers stopped before the search was finished (exit statuses {codes}; -9 may be "
            "a lack of memory): the same command goes on from here, with fewer --workers if need be"
        )


def start(plan: SearchPlan, objective: Objective, workers: int) -> Sequence[BaseProcess]:
    starting = context()
    # Every start method's context has ``Process``; their common base class does not declare it.
    process = starting.Process  # type: ignore[attr-defined]
    processes = [process(target=work, args=(plan, objective)) for _ in range(workers)]
    for process in processes:
        process.start()
    return processes


def work(plan: SearchPlan, objective: Objective) -> None:
    """What a process does: it works until the study is finished or its parent process is gone."""
    ignore_interrupt()
    parent = multiprocessing.parent_process()
    assert parent is not None
    with one_thread():
        worker = Worker(plan, objective)
        while not worker.finished() and parent.is_alive():
            worker.step()
