"""TensorBoard itself, bound to this machine."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from tensorboard import default, program
from tensorboard.util.tb_logging import get_logger

from torchopt_ref.errors import UserError


def serve(runs: Path, port: int | None) -> None:
    """Show ``runs`` in TensorBoard until Ctrl-C; on 127.0.0.1, on a free port from 6006 by default.

    Raises:
        UserError: no such folder, or the port is taken.
    """
    if not runs.is_dir():
        raise UserError(f"no folder {runs}: give the folder that holds the runs")
    get_logger().setLevel(logging.ERROR)
    board = program.TensorBoard(default.get_plugins())
    chosen = [] if port is None else ["--port", str(port)]
    board.configure(["tensorboard", "--logdir", str(runs), "--host", "127.0.0.1", *chosen])
    try:
        print(f"Open {board.launch()}#custom_scalars (Ctrl-C ends it)", flush=True)
        while True:
            # A signal that comes just before a wait without end would not be seen.
            time.sleep(1)
    except program.TensorBoardServerException as error:
        raise UserError(f"cannot start TensorBoard: {error.msg}: try another --port") from error
    except KeyboardInterrupt:
        print()
