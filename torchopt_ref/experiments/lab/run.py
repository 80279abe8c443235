"""Running an experiment: units in parallel, each saved at its end, then figures, claims, report."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from torchopt_ref.errors import UserError
from torchopt_ref.tensorboard import RunFolder
from torchopt_ref.tensorboard.read import MONITOR, inspect, run_folders
from torchopt_ref.tensorboard.run_lock import locked
from torchopt_ref.tensorboard.write import counted_histogram_value
from torchopt_ref.whole_file import with_digest
from torchopt_ref.written import near

from .agreement import why_curves_part
from .processes import computed, progress
from .report import show, write_markdown
from .results import QUICK, Claim, Outcome, Results, Table, Unit, bin_edges, points, unit_name
from .settings import Settings
from .summary import Damaged, read_outcome, read_summary
from .svg import Figure
from .words import LANGUAGES, Words


class Experiment(Protocol):
    """What the module of an experiment defines, beside its ``Config``.

    One that does not consist of units defines ``outcomes(config, folder)`` instead of ``units``.
    """

    NAME: str

    def units(self, config: Any) -> list[Unit]: ...
    def figures(self, results: Results, config: Any) -> dict[str, Figure]: ...


class ExperimentReport(Protocol):
    """What an experiment's module of ``reports`` defines: a question, and what was found.

    ``config`` has the options that really ran.
    """

    TITLE: Words
    WHY: Words
    TRAININGS: Mapping[str, str | Words]
    """The names by which the report calls the trainings whose sides are compared."""

    def tried(self, config: Any) -> Words: ...
    def seen(self, results: Results, config: Any) -> Words: ...
    def claims(self, results: Results, config: Any) -> list[Claim]: ...
    def tables(self, results: Results, config: Any) -> list[Table]: ...


def run_experiment(experiment: Experiment, report: ExperimentReport, config: Settings) -> Path:
    """Run what is not finished yet, and return the run's folder.

    The folder's name follows from the options that decide the results, so the same call finds it
    again. Finished units are not run again unless ``config.force``. ``results.json`` is the same
    for the same options, except for its ``environment``.
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
                outcomes = collect(config, folder)
                summary = conclude(experiment, report, config, folder, outcomes)
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
                unit.with_monitor(folder.path / MONITOR) if unit.seed == first_seed else unit
                for unit in waiting
            ]
        with progress(experiment.NAME, len(units)) as advance:
            for _ in outcomes:
                advance("finished earlier")
            for unit, outcome in computed(waiting, config.processes):
                if unit.seed == first_seed:
                    write_curves(folder, unit, outcome, config)
                # Last, since a unit whose file is there is not computed again.
                folder.write_json(f"units/{unit.name}.json", with_digest(outcome))
                outcomes[unit.name] = outcome
                advance(unit.name)
    return {(unit.variant, unit.seed): outcomes[unit.name] for unit in units}


def conclude(
    experiment: Experiment,
    report: ExperimentReport,
    config: Settings,
    folder: RunFolder,
    outcomes: Mapping[tuple[str, int], Outcome],
) -> dict[str, Any]:
    """Write figures, ``results.json`` and report; return the content of ``results.json``."""
    results = Results(outcomes, config.side_names)
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
        "units": {unit_name(*key): for_the_summary(value) for key, value in outcomes.items()},
        "environment": environment(outcomes),
    }
    folder.write_json("results.json", summary)
    with folder.fresh_writer("report") as writer:
        writer.add_text("report", write_markdown(folder.path, summary), 0)
    return summary


def of_earlier(file: Path, read: Callable[[Path], Any]) -> Any:
    """What an earlier run left in a file; ``UserError`` if it is damaged."""
    try:
        return read(file)
    except Damaged as damage:
        raise UserError(f"{file} is damaged: {damage}: run it again with --force") from damage


def run_name(experiment: Experiment, config: Settings) -> str:
    options = json.dumps([experiment.NAME, config.as_json()], sort_keys=True, default=str)
    return f"{config.dataset}-{hashlib.sha256(options.encode()).hexdigest()[:8]}"


def write_curves(folder: RunFolder, unit: Unit, outcome: Outcome, config: Settings) -> None:
    """Write a unit's curves and histograms for TensorBoard, each side as a run of its own."""
    for side in config.side_names:
        if side not in outcome:
            continue
        with folder.fresh_writer(f"{unit.variant}-{side}") as writer:
            for tag, curve in outcome[side]["curves"].items():
                for step, value in points(curve):
                    writer.add_scalars({tag: value}, step)
            for tag, histogram in outcome[side].get("histograms", {}).items():
                counts, edges = np.array(histogram["counts"]), bin_edges(histogram)
                writer.add([counted_histogram_value(tag, counts, edges)], 0)


def for_the_summary(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an outcome for ``results.json``, which is the same in every run of its unit."""
    return {
        key: for_the_summary(value) if isinstance(value, Mapping) else value
        for key, value in outcome.items()
        if key not in ("seconds", "curves", "histograms")
    }


def environment(outcomes: Mapping[tuple[str, int], Outcome]) -> dict[str, Any]:
    """What may differ between two runs of the same options; the seconds are means over seeds."""
    seconds: dict[str, dict[str, list[float]]] = {}
    for (variant, _), outcome in outcomes.items():
        for side, part in outcome.items():
            if isinstance(part, Mapping) and "seconds" in part:
                seconds.setdefault(variant, {}).setdefault(side, []).append(part["seconds"])
    return {
        "finished": datetime.now().isoformat(timespec="seconds"),
        "seconds": {
            variant: {side: round(float(np.mean(each)), 2) for side, each in sides.items()}
            for variant, sides in seconds.items()
        },
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.processor() or platform.machine(),
    }


def diagnoses(run: Path) -> Iterator[str]:
    """A line for each training that a monitor watched, and the command that shows more."""
    folders = run_folders(run / MONITOR)
    for folder in folders:
        seen = inspect(folder)
        found = [f"{each.kind}{each.where}" for each in seen.findings]
        found += [f"no verdict on the whole: {why}" for why in seen.unjudged]
        name = folder.relative_to(run / MONITOR)
        yield f"{name}: {'; '.join(found) or 'nothing stands out'}"
    if folders:
        yield f"Why, and what to try: torchopt-ref inspect {near(run / MONITOR)}/NAME"
    else:
        yield "no training was watched: there is none, or it was finished before (see --force)"
