"""Results in TensorBoard's event files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from torchopt_ref.tensorboard import RunFolder

from .report import Result


def write(parent: Path, suite: str, results: Sequence[Result], figure: Figure) -> Path:
    """Write the figure and a curve of each contestant's medians into a new folder in ``parent``.

    In a sweep the step of a curve is the size of the case; elsewhere each case has its own tag.
    """
    with RunFolder(parent, option="--tensorboard") as folder:
        folder.add_figure(suite, figure)
        for result in results:
            case = result.case
            tag = f"{suite}/{case.name}" if case.at is None else suite
            for contestant, timing in result.rows():
                writer = folder.writer(contestant.name)
                writer.add_scalar(f"{tag}/seconds", timing.seconds.median, case.at or 0)
                writer.add_scalar(f"{tag}/ratio", timing.ratio.median, case.at or 0)
    return folder.path
