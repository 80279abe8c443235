"""Names of a package that are imported when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from .errors import with_hint


def on_demand(package: str, homes: dict[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of ``package``. ``homes`` has the module of each name, e.g. ``".loop"``.

    A package of the extra ``lab`` that is missing is an error with the command that installs it.
    """

    def attribute(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            return getattr(import_module(homes[name], package), name)
        except ModuleNotFoundError as error:
            raise with_hint(error) from error

    return attribute
