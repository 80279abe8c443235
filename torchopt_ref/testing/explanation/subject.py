"""One of the two optimizers: what makes it, what its options are called, and how it is stepped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch

from torchopt_ref import optim
from torchopt_ref.errors import UserError, short_line, unknown
from torchopt_ref.optim import keras, optax
from torchopt_ref.sides import (
    BY_NAME,
    FLAGS,
    check_switches,
    load_target,
    name_of,
    optimizer_name,
    options_of,
)

NO_OPTIONS = (*FLAGS, "params", "dialect", "decoupled_weight_decay", "param_names")
"""What stands in a param group but is no hyper-parameter."""

FRAMEWORKS = {"keras": ("Keras", keras.NAMES), "optax": ("Optax", optax.NAMES)}
"""What the framework of a dialect calls an option that has another name here."""

ROLES = {name: ours for name, ours in keras.NAMES.items() if "[" not in ours}
ROLES |= {"beta_1": "beta1", "beta_2": "beta2"}
"""From another name that a class may have for an option to torch's name. (Optax' ``decay`` is left
out: elsewhere that means the decay of the weights or of the learning rate.)"""


@dataclass(frozen=True)
class Subject:
    """An optimizer with the options ``given``, under a name for the reader."""

    name: str
    factory: Callable[..., torch.optim.Optimizer]
    given: Mapping[str, Any]

    def make(self, params: Iterable[torch.nn.Parameter], **options: Any) -> torch.optim.Optimizer:
        """Make the optimizer, if possible one that steps one parameter after the other."""
        one_by_one = {"foreach": False} if self.takes("foreach") else {}
        return self.factory(list(params), **(one_by_one | dict(self.given) | options))

    def takes(self, option: str) -> bool:
        return option in options_of(self.factory) or (option in FLAGS and self.is_ours)

    @property
    def is_ours(self) -> bool:
        return isinstance(self.factory, type) and issubclass(self.factory, optim.Optimizer)

    @property
    def dialect(self) -> str:
        return getattr(self.factory, "dialect", "torch")

    @cached_property
    def options(self) -> dict[str, Any]:
        """The hyper-parameters as they stand in a param group, numbers as Python's."""
        group = self.make([torch.nn.Parameter(torch.zeros(1))]).param_groups[0]
        return {key: plain(value) for key, value in group.items() if key not in NO_OPTIONS}

    @cached_property
    def numbers(self) -> dict[str, float]:
        """The options that are numbers; of pairs each part: ``beta1``, ``beta2`` of ``betas``."""
        all_pieces = [pieces(key, value) for key, value in self.options.items()]
        return {
            called: each
            for of_one in all_pieces
            for called, each in of_one.items()
            if is_number(each)
        }

    def own_name(self, role: str) -> str | None:
        """What the class calls the number that torch calls ``role``; None where it has none."""
        for called in self.numbers:
            if ROLES.get(called, called) == role:
                return called
        return None

    def with_numbers(self, numbers: Mapping[str, float]) -> Subject:
        """The same with these numbers, under the names of ``self.numbers``."""
        changed = {
            key: assembled(key, value, numbers)
            for key, value in self.options.items()
            if pieces(key, value).keys() & numbers.keys() and self.takes(key)
        }
        return replace(self, given={**self.given, **changed})

    def require_makeable(self, option: str) -> None:
        """``UserError`` unless an optimizer can be made. The message names ``option``, by which the
        user gives options."""
        try:
            made = self.make([torch.nn.Parameter(torch.zeros(1))])
        except (Exception, SystemExit) as error:  # of whatever class a user names
            why = f"{short_line(error)}: see {option}"
            raise UserError(f"cannot make {self.name}: {why}") from error
        if not isinstance(made, torch.optim.Optimizer):
            raise UserError(f"{self.name} makes no torch.optim.Optimizer")

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        try:
            optimizer.step()
        except (Exception, SystemExit) as error:
            raise UserError(
                f"cannot take a step of {self.name} with the gradients of one parameter: "
                f"{short_line(error)}"
            ) from error

    def set(self, optimizer: torch.optim.Optimizer, numbers: Mapping[str, float]) -> None:
        """Change numbers of a training under way, as schedulers do."""
        for group in optimizer.param_groups:
            for key in self.options:
                if pieces(key, group[key]).keys() & numbers.keys():
                    group[key] = assembled(key, group[key], numbers)


def plain(value: Any) -> Any:
    return value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def pieces(key: str, value: Any) -> dict[str, Any]:
    """An option's numbers by their names in formulas."""
    if not isinstance(value, tuple | list):
        return {key: value}
    stem = "beta" if key == "betas" else key
    return {f"{stem}{k}": each for k, each in enumerate(value, start=1)}


def assembled(key: str, value: Any, numbers: Mapping[str, float]) -> Any:
    """The option's value, in which each piece whose name is in ``numbers`` is replaced."""
    if not isinstance(value, tuple | list):
        return numbers.get(key, value)
    return tuple(numbers.get(name, each) for name, each in pieces(key, value).items())


def subject(what: Any, kwargs: Mapping[str, Any], option: str) -> Subject:
    """What a name ("Adam", "keras.Adam", "torch.optim:NAdam"), a class or a function stands for.

    ``option`` is where the user gave ``kwargs``. Every mistake raises ``UserError``.
    """
    given = dict(kwargs)
    if isinstance(what, partial):
        given, what = {**what.keywords, **given}, what.func
    if not isinstance(what, str):
        if not callable(what):
            raise UserError(f"{what!r} is no optimizer: give a class, or its name")
        called = name_of(what)
        if isinstance(what, type) and issubclass(what, optim.Optimizer):
            called = optimizer_name(what)
        found = Subject(called, what, given)
    elif ":" in what:
        found = Subject(what, load_target(what), given)
    else:
        by_folded = {known.casefold(): known for known in BY_NAME}
        if what.casefold() not in by_folded:
            choices = [*BY_NAME, "torch.optim:NAME", "package.module:CLASS"]
            raise unknown("optimizer", what, choices)
        known = by_folded[what.casefold()]
        found = Subject(known, BY_NAME[known].ours, given)
    check_switches(option, found.factory, given)
    found.require_makeable(option)
    return found


def with_the_same_numbers(a: Subject, b: Subject) -> tuple[Subject, Subject]:
    """Both with the same numbers for all options that both have, so that only formulas differ.

    A number that the user gave comes before a default. Of two defaults, one that is not 0 comes
    before 0, so that both do what one of them does, such as weight decay. Otherwise A's number is
    taken.
    """
    ours: dict[str, float] = {}
    theirs: dict[str, float] = {}
    for called, mine in a.numbers.items():
        other = b.own_name(ROLES.get(called, called))
        if other is None:
            continue
        yours = b.numbers[other]
        chosen = mine
        if not gives(a, called) and (gives(b, other) or mine == 0):
            chosen = yours
        ours[called] = theirs[other] = chosen
    return (
        a.with_numbers({key: v for key, v in ours.items() if v != a.numbers[key]}),
        b.with_numbers({key: v for key, v in theirs.items() if v != b.numbers[key]}),
    )


def their_name(subject: Subject, called: str) -> str | None:
    """What the user of a subject's own framework calls an option, if it is another name."""
    framework, names = FRAMEWORKS.get(subject.dialect, ("", {}))
    by_ours = {
        ours.replace("betas[0]", "beta1").replace("betas[1]", "beta2"): theirs
        for theirs, ours in names.items()
    }
    if called in by_ours:
        return f"{framework}: {by_ours[called]}"
    return called if called in ROLES else None


def gives(subject: Subject, called: str) -> bool:
    return any(called in pieces(key, value) for key, value in subject.given.items())
