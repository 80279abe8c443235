"""Addresses that open TensorBoard on a page with curves: of the newest run, and of the others.

If there are too many runs, TensorBoard selects none of them, and the page is empty. The parameters
of the address fill the filter fields of the page, where the user can change them: ``runFilter``
selects the runs on Time Series, ``regexInput``, after the ``#``, those on all other pages. With
``tagFilter=.``, which matches every tag, Time Series shows all curves. Without it, only the first
two groups of tags are open, counted over all runs, and the selected run may have no curve in them.
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
from .run_lock import LOCK

CUSTOM_SCALARS, TIME_SERIES = 40, 500
"""TensorBoard selects all folders of event files by default if there are at most this many, on the
page Custom Scalars and on the page Time Series."""
AS_IT_WAS = "_smoothingWeight=0"
"""Turns off TensorBoard's smoothing, which hides the jumps of a loss."""
LISTED = 10
"""At most this many older runs are printed with their addresses, after the newest."""
HEAD = 4096
"""How many bytes of an event file are searched for a Monitor's settings, which are its first
entry."""


@dataclass(frozen=True)
class Run:
    """The output of one command: its folder, and the folders of event files that belong to it."""

    folder: Path
    parts: tuple[Path, ...]

    @property
    def page(self) -> str:
        """The page of TensorBoard to open: one that is not empty with this many parts."""
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

    The folder of an experiment or a training is recognised by the lock file in it. Any other folder
    of event files, such as that of a Monitor, is a run by itself. If there is no lock file at all,
    ``folder`` as a whole is one run, so that its curves can be compared, unless it has more folders
    of event files than TensorBoard can show.
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
    """``part`` or the nearest of its parents within ``folder`` that has a lock file; else
    ``part``."""
    around = [part, *(each for each in part.parents if each.is_relative_to(folder))]
    return next((each for each in around if (each / LOCK).exists()), part)


def has_dashboard(part: Path) -> bool:
    """Whether a Monitor wrote to this folder, which then has a dashboard."""
    for path in event_files(part):
        with path.open("rb") as file:
            if ABOUT.encode() in file.read(HEAD):
                return True
    return False


def event_files(part: Path) -> Iterator[Path]:
    return (file for file in part.glob(f"{PREFIX}*") if file.is_file())


def shown(folder: Path, runs: Sequence[Run]) -> Path:
    """The folder to pass to TensorBoard: ``folder``, or only that of the newest run if ``folder``
    has so many parts that TensorBoard would select none, whatever the address says."""
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
    others contain it. TensorBoard ignores case."""
    name = re.sub(r"([][\\^$.|?*+(){}])", r"\\\1", str(run.folder.relative_to(folder)))
    others = [str(part.relative_to(folder)) for each in runs if each != run for part in each.parts]
    alone = not any(re.search(name, other, re.IGNORECASE) for other in others)
    return name if alone else f"^{name}(/|$)"
