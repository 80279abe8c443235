"""Running an experiment: its units in parallel, kept one by one, then claims, figures, report."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import platform
import signal
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from torchopt_ref.errors import UserError
from torchopt_ref.tensorboard import RunFolder
from torchopt_ref.tensorboard.read.inspection import MONITOR
from torchopt_ref.tensorboard.write.event_file import counted_histogram_value
from torchopt_ref.tensorboard.write.run_lock import locked
from torchopt_ref.whole_file import with_digest

from .agreement import why_curves_part
from .monitored import diagnoses
from .networks import one_thread
from .processes import context
from .progress import progress
from .report import show, write_markdown
from .reports import report_of
from .results import QUICK, Outcome, Results, Unit, bin_edges, points, unit_name
from .settings import Settings
from .summary import Damaged, read_outcome, read_summary
from .svg import Figure
from .words import LANGUAGES


class Experiment(Protocol):
    """What the module of an experiment defines, beside its ``Config``.

    One that does not consist of units defines ``outcomes(config, folder)`` instead of ``units``.
    What is said of it stands in a module of ``reports``.
    """

    NAME: str

    def units(self, config: Any) -> list[Unit]: ...
    def figures(self, results: Results, config: Any) -> dict[str, Figure]: ...


def run(experiment: Experiment, config: Settings) -> Path:
    """Run what is not finished yet; the run's folder.

    The folder's name follows from the options that decide the results, so the same call finds it
    again: finished units are not redone unless ``config.force``. ``results.json`` is the same for
    the same options, but for its ``environment``.
    """
    config.check()
    config = config.as_run()
    with RunFolder(config.out / experiment.NAME, run_name(experiment, config)) as folder:
        if (folder.path / "results.json").exists() and not config.force:
            print(f"Finished earlier (--force runs it again): {folder.path}", file=sys.stderr)
            summary = of_earlier(folder.path / "results.json", read_summary)
            options = json.loads(json.dumps(config.as_json()))
            if (summary["experiment"], summary["config"]) != (experiment.NAME, options):
                raise UserError(
                    f"{folder.path / 'results.json'} is of another run: run it again with --force"
                )
        else:
            print(f"Writing to {folder.path}", file=sys.stderr)
            collect = getattr(experiment, "outcomes", partial(unit_outcomes, experiment))
            with locked(folder.path):
                summary = conclude(experiment, config, folder, collect(config, folder))
        show(summary, config.lang)
    if config.monitor:
        print("Seen by the monitor", *diagnoses(folder.path), sep="\n  ", end="\n\n")
    return folder.path


def unit_outcomes(
    experiment: Experiment, config: Settings, folder: RunFolder
) -> dict[tuple[str, int], Outcome]:
    """The outcome of each unit: from its file if it is finished, else computed now."""
    units = experiment.units(config)
    outcomes: dict[str, Outcome] = {}
    for unit in units:
        file = folder.path / "units" / f"{unit.name}.json"
        if file.exists() and not config.force:
            outcomes[unit.name] = of_earlier(file, read_outcome)
    waiting = [unit for unit in units if unit.name not in outcomes]
    if waiting:
        first_seed = min(unit.seed for unit in units)
        if config.monitor:
            waiting = [
                unit.monitored(folder.path / MONITOR) if unit.seed == first_seed else unit
                for unit in waiting
            ]
        with progress(experiment.NAME, len(units)) as advance:
            for _ in outcomes:
                advance("finished earlier")
            for unit, outcome in computed(waiting, config.processes):
                if unit.seed == first_seed:
                    write_curves(folder, unit, outcome, config)
                # Last, since a unit that has its file is not done again.
                folder.write_json(f"units/{unit.name}.json", with_digest(outcome))
                outcomes[unit.name] = outcome
                advance(unit.name)
    return {(unit.variant, unit.seed): outcomes[unit.name] for unit in units}


def conclude(
    experiment: Experiment,
    config: Settings,
    folder: RunFolder,
    outcomes: Mapping[tuple[str, int], Outcome],
) -> dict[str, Any]:
    """Claims, figures and report from the outcomes; the content of ``results.json``."""
    results = Results(outcomes, config.engine_names)
    report = report_of(experiment.NAME)
    claims = report.claims(results, config)
    if config.quick:
        claims = [claim.undecided(QUICK) for claim in claims]
    figures = experiment.figures(results, config)
    for name, figure in figures.items():
        for lang in LANGUAGES:
            folder.write_text(f"{name}.{lang}.svg", figure.svg(lang))
            folder.write_text(f"{name}.{lang}.narrow.svg", figure.svg(lang, narrow=True))
    summary = {
        "experiment": experiment.NAME,
        "title": report.TITLE,
        "why": report.WHY,
        "tried": report.tried(config),
        "seen": report.seen(results, config),
        "sides": why_curves_part(results, report.TRAININGS),
        "config": config.as_json(),
        "figures": {name: figure.title for name, figure in figures.items()},
        "claims": [
            claim._asdict()
            | {"sides": {side: found._asdict() for side, found in claim.sides.items()}}
            for claim in claims
        ],
        "tables": [table._asdict() for table in report.tables(results, config)],
        "units": {unit_name(*key): without_seconds(value) for key, value in outcomes.items()},
        "environment": environment(outcomes),
    }
    folder.write_json("results.json", summary)
    with folder.fresh_writer("report") as writer:
        writer.add_text("report", write_markdown(folder.path, summary), 0)
    return summary


def of_earlier(file: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(file)
    except Damaged as damage:
        raise UserError(f"{file} is damaged: {damage}: run it again with --force") from damage


def run_name(experiment: Experiment, config: Settings) -> str:
    options = json.dumps([experiment.NAME, config.as_json()], sort_keys=True, default=str)
    return f"{config.dataset}-{hashlib.sha256(options.encode()).hexdigest()[:8]}"


def computed(units: list[Unit], processes: int) -> Any:
    """``(unit, outcome)`` as they are finished, by so many processes of one thread each."""
    if min(processes, len(units)) == 1:
        with one_thread():
            for unit in units:
                yield unit, unit.work(**unit.arguments)
        return
    with ProcessPoolExecutor(processes, context(), initializer=ignore_interrupt) as pool:
        futures: dict[Future[Outcome], Unit] = {pool.submit(work, unit): unit for unit in units}
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


def work(unit: Unit) -> Outcome:
    with one_thread():
        return unit.work(**unit.arguments)


def ignore_interrupt() -> None:
    """Ctrl-C is the parent's to answer: it keeps what is finished."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def write_curves(folder: RunFolder, unit: Unit, outcome: Outcome, config: Settings) -> None:
    """A unit's curves and histograms to TensorBoard, by the writer ``<variant>-<engine>``."""
    for engine in config.engine_names:
        if engine not in outcome:
            continue
        with folder.fresh_writer(f"{unit.variant}-{engine}") as writer:
            for tag, curve in outcome[engine]["curves"].items():
                for step, value in points(curve):
                    writer.add_scalars({tag: value}, step)
            for tag, histogram in outcome[engine].get("histograms", {}).items():
                counts, edges = np.array(histogram["counts"]), bin_edges(histogram)
                writer.add([counted_histogram_value(tag, counts, edges)], 0)


def without_seconds(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """An outcome as it is the same in every run of its unit, without its curves and histograms."""
    return {
        key: without_seconds(value) if isinstance(value, Mapping) else value
        for key, value in outcome.items()
        if key not in ("seconds", "curves", "histograms")
    }


def environment(outcomes: Mapping[tuple[str, int], Outcome]) -> dict[str, Any]:
    """What may differ between two runs with the same results; seconds are means over seeds."""
    seconds: dict[str, dict[str, list[float]]] = {}
    for (variant, _), outcome in outcomes.items():
        for engine, part in outcome.items():
            if isinstance(part, Mapping) and "seconds" in part:
                seconds.setdefault(variant, {}).setdefault(engine, []).append(part["seconds"])
    return {
        "finished": datetime.now().isoformat(timespec="seconds"),
        "seconds": {
            variant: {engine: round(float(np.mean(each)), 2) for engine, each in engines.items()}
            for variant, engines in seconds.items()
        },
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.processor() or platform.machine(),
    }
