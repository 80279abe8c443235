"""Starts TensorBoard, reachable from this machine only."""

from __future__ import annotations

import io
import logging
import os
import re
import time
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tensorboard import default, program
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin
from tensorboard.util.tb_logging import get_logger

from torchopt_ref.errors import UserError

from .first_view import hints, runs_in, shown

MAKE_SOME = "`torchopt-ref train` makes some; or give the folder that holds the runs"


def serve(folder: Path, port: int | None) -> None:
    """Show the runs in ``folder`` in TensorBoard until Ctrl-C, and say at which address.

    It listens on 127.0.0.1, by default on the first free port from 6006 on.

    Raises:
        UserError: there is no such folder, it holds no run, or the port is taken.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: {MAKE_SOME}")
    runs = runs_in(folder)
    if not runs:
        raise UserError(f"no run in {folder}: {MAKE_SOME}")
    get_logger().setLevel(logging.ERROR)
    os.environ.setdefault("RUST_LOG", "error")  # for the process that reads the files
    plugins = default.get_plugins()
    plugins[plugins.index(CustomScalarsPlugin)] = DashboardOfTheRunsShown
    board = program.TensorBoard(plugins)
    flags = [] if port is None else ["--port", str(port)]
    where = ["--logdir", str(shown(folder, runs)), "--host", "127.0.0.1"]
    board.configure(["tensorboard", *where, *flags])
    try:
        with redirect_stderr(io.StringIO()):  # hides TensorBoard's own messages
            url = board.launch()
        print(*hints(url, folder, runs), sep="\n", flush=True)
        while True:
            # In short waits: a signal that comes just before an endless one would go unnoticed.
            time.sleep(1)
    except program.TensorBoardServerException as error:
        raise UserError(f"cannot start TensorBoard: {error.msg}: try another --port") from error
    except KeyboardInterrupt:
        print()


class DashboardOfTheRunsShown(CustomScalarsPlugin):
    """TensorBoard's plugin merges the dashboards of all runs, so the verdicts on other runs would
    stand before that on the run that is shown. This plugin merges only the runs that the address of
    the page selects, which the browser sends as the referrer."""

    def layout_route(self, environ: dict[str, Any], start_response: Any) -> Any:
        chosen = parse_qs(urlsplit(environ.get("HTTP_REFERER", "")).query).get("runFilter", [""])[0]
        shown = CustomScalarsPlugin(TBContext(data_provider=Chosen(self._data_provider, chosen)))
        return shown.layout_route(environ, start_response)


class Chosen:
    """A data provider that has only the runs whose names match the pattern."""

    def __init__(self, provider: Any, pattern: str) -> None:
        self._provider, self._pattern = provider, pattern

    def read_tensors(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        found = self._provider.read_tensors(*args, **kwargs)
        try:
            return {
                run: tags
                for run, tags in found.items()
                if re.search(self._pattern, run, re.IGNORECASE)
            }
        except re.error:  # The user may have typed an invalid pattern into the page's field.
            return dict(found)
