"""Factories of optimizers, which are classes or functions: how to find one, and its options."""

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

import torch

from torchopt_ref.errors import UserError, json_object, unknown

from .known import BY_NAME

FLAGS = ("foreach", "fused", "capturable", "differentiable")
"""Options that choose an implementation, not a result."""


def load_target(target: str, kwargs: str = "{}") -> Callable[..., torch.optim.Optimizer]:
    """What ``package.module:Name`` names, an optimizer class or a function that makes one.

    ``kwargs`` is a JSON object of arguments to bind. Every mistake raises ``UserError``.
    """
    module_name, colon, name = target.partition(":")
    if not (module_name and colon and name):
        raise UserError(f"{target!r} names no optimizer: write package.module:Class")
    made_by = getattr(import_module(module_name), name, None)
    if made_by is None:
        raise unknown(f"name in {module_name}", name, optimizers_of(module_name))
    is_class = isinstance(made_by, type)
    if not callable(made_by) or (is_class and not issubclass(made_by, torch.optim.Optimizer)):
        raise UserError(f"{target} is not a torch.optim.Optimizer, nor a function that makes one")
    given = json_object("--kwargs", kwargs)
    check_switches("--kwargs", made_by, given)
    return functools.partial(made_by, **given) if given else made_by


def load_reference(target: str, kwargs: str = "{}") -> Callable[..., Any]:
    """What ``--reference`` names: one of ``numpy_ref`` (Adam, book.Adam), or package.module:Name.

    ``kwargs`` is a JSON object of arguments to bind. Every mistake raises ``UserError``.
    """
    by_folded = {name.casefold(): known.reference for name, known in BY_NAME.items()}
    made_by: Any = by_folded.get(target.casefold())
    module_name, colon, name = target.partition(":")
    if made_by is None and not colon:
        raise unknown("reference", target, [*BY_NAME, "torch.optim:NAME", "package.module:NAME"])
    if made_by is None:
        made_by = getattr(import_module(module_name), name, None)
    if made_by is None:
        raise unknown(f"name in {module_name}", name, optimizers_of(module_name))
    if not callable(made_by):
        raise UserError(f"{target} is neither a class nor a function: it makes no reference")
    given = json_object("--reference-kwargs", kwargs)
    check_switches("--reference-kwargs", made_by, given)
    return functools.partial(made_by, **given) if given else made_by


def import_module(name: str) -> Any:
    """Import a module, also one of the working directory, as ``python -m`` does."""
    if name not in sys.modules and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise UserError(f"cannot import {name}: {type(error).__name__}: {error}") from error


def optimizers_of(module_name: str) -> list[str]:
    """The optimizer classes that a module has, by name."""
    members = inspect.getmembers(importlib.import_module(module_name), inspect.isclass)
    found = [name for name, cls in members if issubclass(cls, torch.optim.Optimizer)]
    return [name for name in found if name != "Optimizer"]


def check_switches(option: str, made_by: Callable[..., Any], given: dict[str, Any]) -> None:
    """``UserError`` if a switch is given anything but true or false: Python takes "no" for true."""
    try:
        parameters = inspect.signature(made_by).parameters
    except (TypeError, ValueError):  # a function written in C may have no signature
        return
    for name, value in given.items():
        known = parameters.get(name)
        if known and isinstance(known.default, bool) and not isinstance(value, bool):
            raise UserError(f"{option}: {name} is true or false, not {value!r}")


def options_of(factory: Callable[..., Any]) -> dict[str, Any]:
    """A factory's parameters and defaults; if it has ``**kwargs``, its parent classes' too."""
    if isinstance(factory, functools.partial):
        return options_of(factory.func) | factory.keywords
    if not isinstance(factory, type):
        return {each.name: each.default for each in inspect.signature(factory).parameters.values()}
    options: dict[str, Any] = {}
    for cls in factory.__mro__:
        if "__init__" in vars(cls):
            parameters = inspect.signature(vars(cls)["__init__"]).parameters.values()
            options = {each.name: each.default for each in parameters} | options
            if all(each.kind is not each.VAR_KEYWORD for each in parameters):
                break
    return options


def name_of(factory: Callable[..., Any]) -> str:
    """The class or function that a factory calls, with the arguments bound to it."""
    if isinstance(factory, functools.partial):
        given = ", ".join(f"{key}={value!r}" for key, value in factory.keywords.items())
        return f"{name_of(factory.func)}({given})" if given else name_of(factory.func)
    return getattr(factory, "__qualname__", type(factory).__name__)
