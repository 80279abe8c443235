"""A training of the zoo is run, and what the diagnosis says of it, live and at the end, judged."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from torchopt_ref.tensorboard import Finding, History, Monitor, diagnose
from torchopt_ref.tensorboard.event_format import PREFIX
from torchopt_ref.tensorboard.read.event_files import add, events

from . import Specimen


@dataclass(frozen=True)
class Verdict:
    """``word`` is "quiet" or "false" of a healthy training, "named", "partly" (something true is
    said, but not the cause), "missed" or "misleading" of a broken one."""

    name: str
    word: str
    says: str


def trained(training: Specimen, folder: Path) -> None:
    """Run it; each of its monitors writes a folder of its own below ``folder``."""
    made: list[Monitor] = []

    def watch(model: Any, optimizer: Any, **options: Any) -> Monitor:
        made.append(Monitor(model, optimizer, folder / str(len(made)), **options))
        return made[-1]

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", "the monitor stopped")
            training.run(watch)
    finally:
        torch.set_num_threads(threads)
    (folder / "done").touch()


def judged(training: Specimen, folder: Path) -> Verdict:
    runs = [findings(run) for run in sorted(folder.iterdir()) if run.is_dir()]
    end = [found for run in runs for found in run[-1][1]]
    live = {found.kind: step for run in runs for step, each in run for found in each}
    if not training.causes:
        word = "false" if live else "quiet"
    elif any(found.kind in training.causes for found in end):
        word = "named"
    else:
        word = "partly" if end else "missed"
    if training.causes and {found.kind for found in end} - {*training.causes, *training.also}:
        word = "misleading"
    ended = {found.kind for found in end}
    lines = [f"  {found.kind}{found.where}: {found.evidence}" for found in end]
    lines += [f"  (in step {step}: {kind})" for kind, step in live.items() if kind not in ended]
    title = f"{word:10} {training.name} {list(training.causes) or ''}"
    says = "" if word in ("quiet", "named") else "\n".join([title, *lines])
    return Verdict(training.name, word, says)


def findings(run: Path) -> list[tuple[int, list[Finding]]]:
    """What was found when each event was written, and at the end, once more."""
    history, texts = History(), {}
    found = []
    for file in sorted(run.glob(f"{PREFIX}*")):
        for event in events(file):
            add(event, history, texts)
            history.texts = {tag: said[-1][1] for tag, said in texts.items()}
            history.curves = {tag: points for tag, points in history.curves.items() if points}
            if any(value.HasField("simple_value") for value in event.summary.value):
                found.append((event.step, diagnose(history)))
    return [*found, (history.last_step(), diagnose(history))]
