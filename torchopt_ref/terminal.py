"""rich's console, for output into a pipe whose reader may stop reading."""

from rich import console


class Console(console.Console):
    """rich's console, but ``BrokenPipeError`` reaches the command line instead of ending Python."""

    def on_broken_pipe(self) -> None:
        raise  # the BrokenPipeError that rich has just caught
