"""How the monitor's hooks are called: a failure in one must not end a training."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import torch

from .measure.health import NonFiniteError


class Guard:
    """Wraps functions. They do nothing while ``works`` is false, nor in a forked process, which has
    a copy of the training: its curves do not belong to the run.

    An exception in one of them is handed to ``fail`` and goes no further, but for
    ``NonFiniteError``, which the user asked for. Functions of the user's that they add to ``calls``
    are called after them, and an exception there ends the training.
    """

    def __init__(
        self, fail: Callable[[Exception], None], calls: list[Callable[[], object]]
    ) -> None:
        self.works = False
        self._fail, self._calls = fail, calls
        self._process = os.getpid()

    def safe(self, function: Callable) -> Callable:
        def guarded(*args: Any, **kwargs: Any) -> None:
            if not self.works or os.getpid() != self._process:
                return
            try:
                function(*args, **kwargs)
            except NonFiniteError:
                raise
            except Exception as error:
                self._fail(error)
            finally:
                while self._calls:
                    self._calls.pop(0)()

        return guarded

    def not_compiled(self, hook: Callable) -> Callable:
        """A hook of an optimizer, which a compiled step calls as it is.

        A program that has not loaded the compiler is spared its import, which takes seconds.
        """
        safe = self.safe(hook)
        return torch.compiler.disable(safe) if "torch._dynamo" in sys.modules else safe
