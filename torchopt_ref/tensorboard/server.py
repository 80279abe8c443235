"""TensorBoard itself, bound to this machine."""

from __future__ import annotations

import io
import logging
import os
import time
from contextlib import redirect_stderr
from pathlib import Path

from tensorboard import default, program
from tensorboard.util.tb_logging import get_logger

from torchopt_ref.errors import UserError

from .first_view import hints, runs_in, shown

MAKE_SOME = "`torchopt-ref train` makes some; or give the folder that holds the runs"


def serve(folder: Path, port: int | None) -> None:
    """Show the runs in ``folder`` in TensorBoard until Ctrl-C, and say at which address.

    It listens on 127.0.0.1, on a free port from 6006 by default.

    Raises:
        UserError: no such folder, no run in it, or the port is taken.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: {MAKE_SOME}")
    runs = runs_in(folder)
    if not runs:
        raise UserError(f"no run in {folder}: {MAKE_SOME}")
    get_logger().setLevel(logging.ERROR)
    os.environ.setdefault("RUST_LOG", "error")  # of the process that reads the files for it
    board = program.TensorBoard(default.get_plugins())
    flags = [] if port is None else ["--port", str(port)]
    where = ["--logdir", str(shown(folder, runs)), "--host", "127.0.0.1"]
    board.configure(["tensorboard", *where, *flags])
    try:
        with redirect_stderr(io.StringIO()):  # TensorBoard's notes on itself
            url = board.launch()
        print(*hints(url, folder, runs), sep="\n", flush=True)
        while True:
            # A signal that comes just before a wait without end would not be seen.
            time.sleep(1)
    except program.TensorBoardServerException as error:
        raise UserError(f"cannot start TensorBoard: {error.msg}: try another --port") from error
    except KeyboardInterrupt:
        print()
