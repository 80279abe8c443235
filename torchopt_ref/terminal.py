"""What is printed by rich, to a reader that may go away."""

from rich import console


class Console(console.Console):
    """rich's; where the reader has gone, ``BrokenPipeError`` reaches the command line."""

    def on_broken_pipe(self) -> None:
        raise  # what rich has just caught
