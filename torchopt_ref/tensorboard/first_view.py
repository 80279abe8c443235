"""Where TensorBoard shows something at once: the address of the newest run, and of the others.

Of too many runs TensorBoard selects none, and the page is empty. What the address says is written
into the fields of the page, where it can be changed: ``runFilter`` chooses the runs of Time Series,
``regexInput``, behind the ``#``, those of all other pages. With ``tagFilter=.``, which every curve
fits, Time Series shows them all; without, those of the first two groups of all runs' curves only,
and the chosen ones may have none of these.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from torchopt_ref.written import pasted

from .event_format import PREFIX
from .read.history import ABOUT
from .read.inspection import run_folders
from .write.run_lock import LOCK

CUSTOM_SCALARS, TIME_SERIES = 40, 500
"""Folders of event files up to which TensorBoard selects all by itself, on these pages."""
AS_IT_WAS = "_smoothingWeight=0"
"""Without TensorBoard's smoothing, which hides the jumps of a loss."""
LISTED = 10
"""Runs whose addresses are printed beside that of the newest."""
HEAD = 4096
"""Bytes at the beginning of an event file, in which a Monitor's text of settings begins."""


@dataclass(frozen=True)
class Run:
    """What one command has left: its folder, and the folders of event files that belong to it."""

    folder: Path
    parts: tuple[Path, ...]

    @property
    def page(self) -> str:
        """TensorBoard's page that shows its curves at once."""
        if len(self.parts) <= CUSTOM_SCALARS and any(map(has_dashboard, self.parts)):
            return f"custom_scalars&{AS_IT_WAS}"
        return "timeseries" if len(self.parts) <= TIME_SERIES else "hparams"

    @property
    def written(self) -> float:
        """When it was last written to."""
        files = (file for part in self.parts for file in event_files(part))
        return max((file.stat().st_mtime for file in files), default=0.0)


def runs_in(folder: Path) -> list[Run]:
    """The runs in ``folder``, the newest first.

    Experiments and trainings mark their folder by its lock. What lies beside them, such as a
    Monitor's, is a run for each folder of event files. Where nothing is marked, all of it is one
    run, to be compared, as far as TensorBoard can show so many.
    """
    parts = [part for part in run_folders(folder) if any(event_files(part))]
    by_run: dict[Path, list[Path]] = {}
    for part in parts:
        by_run.setdefault(owner(part, folder), []).append(part)
    marked = any((run / LOCK).exists() for run in by_run)
    if not marked and 0 < len(parts) <= TIME_SERIES:
        by_run = {folder: parts}
    runs = [Run(run, tuple(each)) for run, each in by_run.items()]
    return sorted(runs, key=lambda run: run.written, reverse=True)


def owner(part: Path, folder: Path) -> Path:
    """The nearest folder around ``part``, up to ``folder``, that has a lock; else ``part``."""
    around = [part, *(each for each in part.parents if each.is_relative_to(folder))]
    return next((each for each in around if (each / LOCK).exists()), part)


def has_dashboard(part: Path) -> bool:
    """Whether a Monitor wrote there, and so a dashboard."""
    for path in event_files(part):
        with path.open("rb") as file:
            if ABOUT.encode() in file.read(HEAD):
                return True
    return False


def event_files(part: Path) -> Iterator[Path]:
    return (file for file in part.glob(f"{PREFIX}*") if file.is_file())


def shown(folder: Path, runs: Sequence[Run]) -> Path:
    """The folder to give to TensorBoard: ``folder``, or that of the newest run if there are too
    many, of which TensorBoard would select none, whatever the address says."""
    return folder if sum(len(run.parts) for run in runs) <= TIME_SERIES else runs[0].folder


def hints(url: str, folder: Path, runs: Sequence[Run]) -> list[str]:
    """The lines to print: the address that shows the newest run, then those of the others."""
    newest, *others = runs
    if not others:
        return [f"Open {url}#{newest.page} (Ctrl-C ends it)"]
    if shown(folder, runs) != folder:
        return [
            f"Open {url}#{newest.page} (Ctrl-C ends it)",
            f"It shows {newest.folder}, the newest of {len(runs)} runs: TensorBoard shows no curve "
            f"where there are more than {TIME_SERIES}.",
            f"Another one: {pasted('tensorboard', others[0].folder)}",
        ]
    names = [str(run.folder.relative_to(folder)) for run in others[:LISTED]]
    width = max(map(len, names))
    older = len(others) - LISTED
    return [
        f"Open {address(url, newest, folder, runs)} (Ctrl-C ends it)",
        f"It shows the newest of {len(runs)} runs. The others:",
        *(
            f"  {name:{width}}  {address(url, run, folder, runs)}"
            for name, run in zip(names, others, strict=False)
        ),
        *([f"  and {older} older"] if older > 0 else []),
        f"All of them: {url}#timeseries",
    ]


def address(url: str, run: Run, folder: Path, runs: Sequence[Run]) -> str:
    """The address of the page that shows only ``run`` of the ``runs`` in ``folder``."""
    chosen = quote(os.fsencode(pattern(run, folder, runs)), safe="/")
    return f"{url}?runFilter={chosen}&tagFilter=.#{run.page}&regexInput={chosen}"


def pattern(run: Run, folder: Path, runs: Sequence[Run]) -> str:
    """A regular expression that only the run's parts match: its name, with anchors if the names of
    others contain it. TensorBoard ignores upper and lower case."""
    name = re.sub(r"([][\\^$.|?*+(){}])", r"\\\1", str(run.folder.relative_to(folder)))
    others = [str(part.relative_to(folder)) for each in runs if each != run for part in each.parts]
    alone = not any(re.search(name, other, re.IGNORECASE) for other in others)
    return name if alone else f"^{name}(/|$)"
