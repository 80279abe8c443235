"""What a person sees while an experiment runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress(task: str, total: int) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal, one plain line at the end elsewhere.

    Yields a function to call after each of the ``total`` steps with a note, such as the loss.
    """
    console = Console(stderr=True)
    note = ""
    columns = [
        TextColumn(f"{task:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ]
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        bar_id = bar.add_task(task, total=total, note="")

        def advance(latest: str) -> None:
            nonlocal note
            note = latest
            bar.update(bar_id, advance=1, note=note)

        yield advance
    if not console.is_terminal:
        print(f"{task}: {total} of {total}, {note}", file=console.file, flush=True)
