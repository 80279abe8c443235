"""What the monitor writes: points and texts to the event file and the sinks; histograms, figures,
the graph and the dashboard to the event file only. The diagnosis is made during the training, and
its findings are passed to ``on_finding``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from ..read.diagnosis import as_markdown, diagnose, unjudged
from ..read.history import ABOUT, FACTS, NOT_FINITE, NOTES, History
from ..read.inspection import MONITOR
from ..read.rules import Finding
from .dashboard import layout
from .event_file import TrainingEventFile, histogram_value, readable, scalar_values
from .facts import as_text, hparams_values, indented
from .over_layers import over_layers
from .record import Record
from .sinks import Sink, Sinks

MORE = 1.1
"""The diagnosis is made again when the number of records has grown by this factor since the last
diagnosis."""


class Output:
    """Writes records, the diagnosis as a text whenever its findings change, and the dashboard
    whenever there are new curves.

    ``calls`` are the calls of ``on_finding`` that wait until the monitor's own work is done.
    ``trained``, set with the first record of a step, returns what the rules need to know besides
    the curves.
    """

    def __init__(
        self,
        folder: Path,
        first_step: int,
        sinks: Iterable[Sink],
        on_finding: Callable[[Finding], object] | None,
    ) -> None:
        self._file, self._folder = TrainingEventFile(folder, first_step), folder
        self._sinks, self._on_finding = Sinks(sinks), on_finding
        self._told: set[str] = set()
        self.calls: list[Callable[[], object]] = []
        self._history = History()
        self._first_step = first_step
        self._optimizers: Sequence[str] = []
        self._hyper_parameters: Mapping[str, Any] = {}
        self._records = self._diagnosed_at = self._laid_out = 0
        self._diagnosed: list[str] | None = None
        self.trained: Callable[[], Mapping[str, Any]] | None = None

    @property
    def tells(self) -> bool:
        """Whether findings are passed to the user, who may then end the training."""
        return self._on_finding is not None

    def describe(
        self, about: str, optimizers: Sequence[str], hyper_parameters: Mapping[str, Any]
    ) -> None:
        """Write what the run is; the hyper-parameters follow with the first metrics."""
        self.text(ABOUT, about, self._first_step)
        self._optimizers, self._hyper_parameters = optimizers, hyper_parameters

    def event(self, event: Event) -> None:
        self._file.add_event(event)

    def text(self, tag: str, text: str, step: int) -> None:
        self._history.texts[tag] = text
        self._file.add_text(tag, text, step)
        self._sinks.log({tag: text}, step)

    def note(self, text: str, step: int | None = None) -> None:
        """Write a note at ``step``, by default the first one, unless it was written before."""
        if text not in self._history.notes:
            self._history.notes.append(text)
            step = self._first_step if step is None else step
            self._file.add_text(NOTES, text, step)
            self._sinks.log({NOTES: text}, step)

    def not_finite(self, step: int, text: str) -> None:
        """Write the first value that is not finite: as a text, and as a point at its step."""
        self.text("not finite", text, step)
        found = {NOT_FINITE: float(step)}
        self._history.add(step, found)
        self._file.add(scalar_values(found), step)
        self._sinks.log(found, step)
        self.diagnose(step)

    def record(self, record: Record, metrics: list[str]) -> None:
        """Write the record; ``metrics`` are the names of what log() was given."""
        record.scalars |= over_layers(record.scalars)
        self._history.add(record.step, record.scalars)
        self._history.logged.update(dict.fromkeys(metrics))
        histograms = [histogram_value(tag, each) for tag, each in record.histograms.items()]
        points = scalar_values(record.scalars, logged=metrics)
        self._file.add([*points, *histograms], record.step)
        self._sinks.log(record.scalars, record.step)
        if metrics and self._hyper_parameters:
            # TensorBoard takes the metrics' values from the curves of these names.
            names = {name: record.scalars[name] for name in metrics if name in record.scalars}
            self._file.add(hparams_values(self._hyper_parameters, names), record.step)
            self._hyper_parameters = {}
        for note in record.notes:
            self.note(note, record.step)
        self._records += 1
        if len(self._history.curves) > self._laid_out or self._records > MORE * self._diagnosed_at:
            self.diagnose(record.step)

    def image(self, value: Summary.Value, step: int) -> None:
        self._file.add([value], step)

    def diagnose(self, step: int) -> None:
        """Diagnose the run, and write the findings if they are not those written before."""
        facts = "\n".join(indented(as_text(self.trained()))) if self.trained else ""
        if facts != self._history.texts.get(FACTS, ""):
            self.text(FACTS, facts, step)
        findings, gaps = diagnose(self._history), unjudged(self._history)
        self._diagnosed_at = self._records
        said = [*(finding.kind for finding in findings), *gaps]
        if said != self._diagnosed:
            self._diagnosed, self._laid_out = said, 0
            self.text("diagnosis", as_markdown(findings, gaps), step)
        for finding in findings:
            if self._on_finding and finding.kind not in self._told:
                self._told.add(finding.kind)
                self.calls.append(partial(self._on_finding, finding))
        if len(self._history.curves) > self._laid_out:
            self._lay_out(findings, gaps, step)

    def _lay_out(self, findings: Sequence[Finding], gaps: Sequence[str], step: int) -> None:
        self._laid_out = len(self._history.curves)
        run, history = run_name(self._folder), self._history
        found = layout(run, self._optimizers, history.curves, [*history.logged], findings, gaps)
        self._file.add([found], step)

    def close(self, step: int) -> None:
        """Write the diagnosis once more, with the numbers of the end."""
        self._diagnosed = None
        self.diagnose(step)
        self._file.close()


def run_name(folder: Path) -> str:
    """The name of the folder; if it is the monitor's in a training's folder, the name of the
    latter."""
    whole = folder.resolve()
    return readable(whole.parent.name if whole.name == MONITOR else whole.name)
