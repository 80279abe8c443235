"""The reference of an optimizer under test: another torch optimizer, or one in NumPy."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchopt_ref.errors import UserError, short_line
from torchopt_ref.sides import BY_NAME, FLAGS, name_of, options_of

from .subject import Subject

NEVER_HANDED_OVER = (*FLAGS, "decoupled_weight_decay")
"""Options that choose an implementation, and one that is part of the formula."""


def is_of_torch(reference: Callable[..., Any]) -> bool:
    """Whether it makes an optimizer from parameters, as torch's classes do; NumPy's take none."""
    if isinstance(reference, functools.partial):
        return is_of_torch(reference.func)
    if isinstance(reference, type):
        return issubclass(reference, torch.optim.Optimizer)
    parameters = inspect.signature(reference).parameters.values()
    return any(
        each.default is each.empty and each.kind < each.VAR_POSITIONAL for each in parameters
    )


def options_for(reference: Callable[..., Any], subject: Subject) -> dict[str, Any]:
    """The options that optimizer and reference share, with the optimizer's values.

    Left out are those that are bound to the reference already (``functools.partial``), flags that
    choose an implementation, ``decoupled_weight_decay``, and any other switch that the optimizer's
    own constructor does not have: such a switch is part of the formula.
    """
    bound = reference.keywords if isinstance(reference, functools.partial) else {}
    known = options_of(reference)
    found = {}
    for name, value in subject.build(subject.parameters()).defaults.items():
        hidden = isinstance(value, bool) and not subject.takes(name)
        if name not in known or name in bound or name in NEVER_HANDED_OVER or hidden:
            continue
        value = value.item() if isinstance(value, Tensor) else value
        if isinstance(value, float | int | tuple | list):
            found[name] = value
    return without_refused(found, reference, subject)


def without_refused(
    options: dict[str, Any], reference: Callable[..., Any], subject: Subject
) -> dict[str, Any]:
    """Leave out what the reference's class sets for itself, as Nesterov does ``nesterov``."""
    try:
        make(reference, subject, options)
    except TypeError as error:
        named = [name for name in options if f"argument '{name}'" in str(error)]
        if named and "missing" not in str(error):
            rest = {name: value for name, value in options.items() if name not in named}
            return without_refused(rest, reference, subject)
    except (Exception, SystemExit):
        return options  # require_makeable reports why it cannot be made.
    return options


def make(reference: Callable[..., Any], subject: Subject, options: dict[str, Any]) -> Any:
    if is_of_torch(reference):
        return reference(subject.parameters(), **options)
    return reference(**options)


def suggestion(factory: Callable[..., Any]) -> str | None:
    """The reference that an optimizer's name suggests: one of ours, or one of ``torch.optim``."""
    if isinstance(factory, functools.partial):
        return suggestion(factory.func)
    name = getattr(factory, "__name__", "").casefold()
    of_torch = getattr(factory, "__module__", "").startswith("torch.optim")
    classes = [key for key, value in vars(torch.optim).items() if isinstance(value, type)]
    torchs = [] if of_torch else [f"torch.optim:{key}" for key in classes if key != "Optimizer"]
    for reference in [*BY_NAME, *torchs]:
        if reference.rpartition(":")[2].casefold() == name:
            return reference
    return None


def require_makeable(reference: Callable[..., Any], subject: Subject) -> None:
    """``UserError`` for a reference that cannot be made, or is no optimizer."""
    try:
        made = make(reference, subject, options_for(reference, subject))
    except (Exception, SystemExit) as error:
        raise UserError(
            f"cannot make the reference {name_of(reference)}: {short_line(error)}: "
            "see --reference-kwargs"
        ) from error
    is_optimizer = isinstance(made, torch.optim.Optimizer)
    if not is_optimizer and not (
        callable(getattr(made, "update", None)) and hasattr(made, "state")
    ):
        raise UserError(
            f"{name_of(reference)} makes no reference: that is a torch.optim.Optimizer, or an "
            "object with update(params, grads) and state"
        )
