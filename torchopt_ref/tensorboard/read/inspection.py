"""A run read back from its event files: what ``torchopt-ref inspect`` prints."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from torchopt_ref.errors import UserError
from torchopt_ref.written import counted, number

from ..event_format import PREFIX
from .diagnosis import NOTHING, diagnose, unjudged
from .event_files import read
from .history import ABOUT, History
from .rules import Finding

SHOWN = (
    "loss",
    "accuracy",
    "learning rate/group 0",
    "update to weight/[median]",
    "gradient norm/[all]",
    "gradient cosine/[all]",
    "gradient noise scale/[all]",
    "parity drift/NumPy largest",
    "speed/samples per second",
    "step time/whole step [ms]",
)
UNITS = {
    "gradient noise scale/": "samples",
    "parity drift/": "ULP",
    "step time/": "ms",
}
"""The units of curves, by the beginning of their tags."""
BLOCKS, ASCII = "▁▂▃▄▅▆▇█", "_.-~=+*#"
WIDTH, WORST = 40, 3
FAR = 2.0
"""A layer is listed among the worst if its badness is at least this. Badness stayed below 1.8 in 24
healthy trainings: an MLP, a CNN and a network with BatchNorm, each with SGD, momentum, Adam and
AdamW, and with a constant learning rate and one that falls to 0."""
MONITOR = "monitor"
"""The folder in a training's folder to which its Monitor writes. In an experiment's folder it holds
one such folder for each training."""


@dataclass(frozen=True)
class Worst:
    """A layer far from what is usual; ``badness`` is from 0, where all is as usual, to 4."""

    layer: str
    badness: float
    what: str


@dataclass(frozen=True)
class Inspection:
    """A run's curves, its diagnosis and, where that found something, up to three worst layers.

    ``missing`` says which event files are damaged, and from where on.
    """

    run: Path
    history: History
    missing: list[str]
    worst: list[Worst]
    findings: list[Finding]

    @property
    def unjudged(self) -> list[str]:
        """What could not be checked; a run with such gaps is not called sound."""
        return self.missing + unjudged(self.history)

    def lines(self, encoding: str = "utf-8") -> list[str]:
        """For a terminal of this encoding."""
        history = self.history
        first, last_step = history.first_step(), history.last_step()
        steps = f"steps {first} to {last_step}" if first > 1 else counted(last_step, "step")
        lines = [f"{self.run}, {steps}", ""]
        for tag in shown(history):
            values = history.values(tag)
            said = f"{number(values[0], 4)} -> {number(values[-1], 4)}{unit(tag)}"
            said += ", logarithmic" if is_logarithmic(values) else ""
            lines.append(f"  {tag:28} {sparkline(values, encoding):{WIDTH}}  {said}")
        if self.worst:
            lines += ["", "Worst layers"]
            lines += [f"  {each.layer:28} {each.what}" for each in self.worst]
        lines += ["", *self.verdict()]
        if history.notes:
            lines += ["", "Notes", *(f"  {note}" for note in history.notes)]
        return lines

    def verdict(self) -> list[str]:
        """The diagnosis in words, a line each: what was found, and what could not be judged."""
        parts = [
            [
                f"{finding.kind.capitalize()}{finding.where}",
                f"  {finding.evidence}",
                f"  Try: {finding.try_this}",
            ]
            for finding in self.findings
        ]
        if self.unjudged:
            parts.append(["No verdict on the whole:", *(f"  {why}" for why in self.unjudged)])
        first, *others = parts or [[NOTHING]]
        return first + [line for part in others for line in ("", *part)]

    def as_json(self) -> dict[str, Any]:
        history = self.history
        return {
            "run": str(self.run),
            "steps": history.last_step(),
            "curves": {tag: summary(history, tag) for tag in sorted(history.curves)},
            "logged": list(history.logged),
            "worst_layers": [vars(each) for each in self.worst],
            "unjudged": self.unjudged,
            "findings": [finding.as_json() for finding in self.findings],
            "notes": history.notes,
        }


def inspect(run: Path) -> Inspection:
    """Read ``run``; ``UserError`` if it holds no event files, or those of several runs."""
    folder = run_folder(run)
    history, missing = read(folder)
    findings = diagnose(history)
    return Inspection(folder, history, missing, worst_layers(history) if findings else [], findings)


def run_folder(run: Path) -> Path:
    """``run``, or the only folder below it that has event files; a Monitor's, if there is one."""
    if not run.is_dir():
        raise UserError(f"no folder {run}: give the folder of a run")
    found = run_folders(run)
    if not found:
        raise UserError(f"no event files in {run}: give the folder of a run")
    found = [each for each in found if MONITOR in each.relative_to(run).parts] or found
    if run in found:
        return run
    if len(found) > 1:
        names = ", ".join(str(each.relative_to(run)) for each in found[:10])
        raise UserError(f"{run} holds {len(found)} runs: give one of them, such as {names}")
    return found[0]


def run_folders(parent: Path) -> list[Path]:
    """The folders of event files in ``parent``, which may be one itself."""
    return sorted({file.parent for file in parent.rglob(f"{PREFIX}*")})


def worst_layers(history: History) -> list[Worst]:
    """The layers that are farthest from what is usual.

    The badness of an update is its distance in decades from 1e-3 of the weights, at most 4. It is
    taken from the median of the whole run, as schedules end near 0. The badness of dead or
    saturated units is four times their fraction at the end.
    """
    found = []
    for name, tag in history.layers("update to weight").items():
        ratio = usual(history.values(tag))
        if ratio > 0:
            decades = abs(math.log10(ratio) + 3)
            what = f"update {number(ratio)} times the size of its weights"
            found.append(Worst(name, min(decades, 4.0), what))
    for quantity, word in (("dead units", "of its units are dead"), ("saturated", "saturated")):
        for name, tag in history.layers(quantity).items():
            values = history.values(tag)
            share = usual(values[-max(len(values) // 4, 1) :])
            found.append(Worst(name, 4 * share, f"{share:.0%} {word}"))
    far = [each for each in found if each.badness >= FAR]
    return sorted(far, key=lambda each: -each.badness)[:WORST]


def shown(history: History) -> list[str]:
    """The curves that are printed: loss and accuracy, the user's own, then a few of the Monitor's.
    Without a Monitor, nothing tells which are the user's own, so all are printed."""
    named = [tag for name in SHOWN for tag in history.curves if is_named(tag, name)]
    own = history.logged if ABOUT in history.texts else history.curves
    first = [tag for tag in named if tag in ("loss", "accuracy")]
    return list(dict.fromkeys([*first, *own, *named]))


def unit(tag: str) -> str:
    return next((f" {unit}" for start, unit in UNITS.items() if tag.startswith(start)), "")


def is_named(tag: str, name: str) -> bool:
    """Whether the tag is ``name``, or ``name`` of one of several optimizers."""
    return tag == name or tag.startswith(f"{name.removesuffix(']')} of ")


def usual(values: np.ndarray) -> float:
    """The median of the finite values."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else 0.0


def sparkline(values: np.ndarray, encoding: str = "utf-8") -> str:
    """The curve in at most 40 characters, with ``!`` for a value that is not finite."""
    try:
        BLOCKS.encode(encoding)
        levels = BLOCKS
    except UnicodeEncodeError:
        levels = ASCII
    if is_logarithmic(values):
        with np.errstate(all="ignore"):
            values = np.log(values)
    values = values[np.linspace(0, len(values) - 1, min(len(values), WIDTH)).round().astype(int)]
    finite = values[np.isfinite(values)]
    low = finite.min() if len(finite) else 0.0
    span = (finite.max() - low if len(finite) else 0.0) or 1.0
    return "".join(
        levels[int((value - low) / span * (len(levels) - 1) + 0.5)] if np.isfinite(value) else "!"
        for value in values
    )


def is_logarithmic(values: np.ndarray) -> bool:
    """Whether the curve is drawn logarithmically: it is positive and spans two decades."""
    finite = values[np.isfinite(values)]
    return bool(len(finite) and finite.min() > 0 and finite.max() > 100 * finite.min())


def summary(history: History, tag: str) -> dict[str, Any]:
    """All points of a curve, and its first, last, least and greatest value, each with its step.
    Values that are not finite are ``None``. If no value is finite, the least and the greatest are
    ``None``, and their steps, too."""
    steps, values = history.steps(tag).tolist(), history.values(tag)
    finite = np.flatnonzero(np.isfinite(values))
    places = {"first": 0, "last": len(values) - 1, "least": None, "greatest": None}
    if len(finite):
        places["least"] = int(finite[np.argmin(values[finite])])
        places["greatest"] = int(finite[np.argmax(values[finite])])
    points = [float(value) if np.isfinite(value) else None for value in values]
    found: dict[str, Any] = {}
    for name, place in places.items():
        found[name] = None if place is None else points[place]
        found[f"{name}_step"] = None if place is None else steps[place]
    return found | {"steps": steps, "values": points}
