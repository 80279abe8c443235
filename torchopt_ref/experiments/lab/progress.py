"""What a person sees while an experiment runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress(task: str, total: int) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal; elsewhere, as in a log, a plain line for each finished step.

    Yields a function to call after each of the ``total`` steps with a note, such as its name.
    """
    console = Console(stderr=True)
    columns = [
        TextColumn(f"{task:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ]
    done = 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        bar_id = bar.add_task(task, total=total, note="")

        def advance(note: str) -> None:
            nonlocal done
            done += 1
            bar.update(bar_id, advance=1, note=note)
            if not console.is_terminal:
                print(f"{task}: {done} of {total}, {note}", file=console.file, flush=True)

        yield advance
