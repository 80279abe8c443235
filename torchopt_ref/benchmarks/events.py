"""Results in TensorBoard's event files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from torchopt_ref.tensorboard import RunFolder

from .report import Result


def write(parent: Path, suite: str, results: Sequence[Result], figure: Figure) -> Path:
    """Write the figure and a curve of each contestant's medians into a new folder in ``parent``.

    In a sweep each case is a point of the curves, with its size as the step; otherwise each case
    has its own tag.
    """
    with RunFolder(parent, option="--tensorboard") as folder:
        folder.add_figure(suite, figure)
        for result in results:
            case = result.case
            tag = f"{suite}/{case.name}" if case.at is None else suite
            for contestant, timing in result.rows():
                writer = folder.writer(contestant.name)
                found = {"seconds": timing.seconds.median, "ratio": timing.ratio.median}
                curves = {f"{tag}/{name}": value for name, value in found.items()}
                writer.add_scalars(curves, case.at or 0)
    return folder.path
