"""A guard around the monitor's hooks: a failure in one must not end the training."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import torch

from .measure.health import NonFiniteError


class Guard:
    """Wraps functions, such as hooks. A wrapped function does nothing while ``works`` is false, and
    nothing in a forked process: such a process has a copy of the training, whose curves do not
    belong to the run.

    An exception in a wrapped function is passed to ``fail`` and not raised, except
    ``NonFiniteError``, which the user asked for. A wrapped function may append callbacks of the
    user to ``calls``: they are called after it, and an exception in one of them does end the
    training.
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
        """A wrapped hook of an optimizer, which is not compiled even if the optimizer's step is.

        If the program has not imported the compiler, it is not imported here either: that takes
        seconds.
        """
        safe = self.safe(hook)
        return torch.compiler.disable(safe) if "torch._dynamo" in sys.modules else safe
