"""How the monitor's hooks are called: a failure in one must not end a training."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch

from .health import NonFiniteError


class Guard:
    """Wraps functions, which do nothing while ``works`` is false.

    An exception in one is handed to ``fail`` and goes no further, but for the one that a person
    asked for.
    """

    def __init__(self, fail: Callable[[Exception], None]) -> None:
        self.works = False
        self._fail = fail

    def safe(self, function: Callable) -> Callable:
        def guarded(*args: Any, **kwargs: Any) -> None:
            if not self.works:
                return
            try:
                function(*args, **kwargs)
            except NonFiniteError:
                raise
            except Exception as error:
                self._fail(error)

        return guarded

    def eager(self, hook: Callable) -> Callable:
        """A hook of a module, which stays out of the graph of a function that is compiled."""
        safe = self.safe(hook)

        def unless_compiling(*args: Any, **kwargs: Any) -> None:
            if not torch.compiler.is_compiling():
                safe(*args, **kwargs)

        return unless_compiling

    def not_compiled(self, hook: Callable) -> Callable:
        """A hook of an optimizer, which a compiled step calls as it is.

        A program that has not loaded the compiler is spared its import, which takes seconds.
        """
        safe = self.safe(hook)
        return torch.compiler.disable(safe) if "torch._dynamo" in sys.modules else safe
