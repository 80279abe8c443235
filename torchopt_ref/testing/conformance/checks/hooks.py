"""Hooks, the profiler, and how an optimizer shows itself."""

import inspect
from typing import Any
from unittest import mock

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from ..subject import Subject
from ..verdicts import require


def step_hooks_fire_once(subject: Subject) -> None:
    """Step hooks, its own and the global ones, fire exactly once per step, also after loading.

    Libraries count steps, log and clip in them; a hook that fires twice clips twice. torch adds the
    hooks to the ``step`` of each class that has had an instance: where a ``step`` calls that of its
    parent class, they fire twice as soon as somebody makes an optimizer of the parent class.

    Remedy: override ``step`` without calling the parent's; leave ``_patch_step_function`` and the
    hooks' dicts alone.
    """
    params, optimizer = subject.trained(range(1))
    add_hooks_to_parents(type(optimizer))
    fired: list[str] = []
    handles = [
        register_optimizer_step_pre_hook(lambda *_: fired.append("global pre")),
        register_optimizer_step_post_hook(lambda *_: fired.append("global post")),
        optimizer.register_step_pre_hook(lambda *_: fired.append("pre")),
        optimizer.register_step_post_hook(lambda *_: fired.append("post")),
    ]
    expected = ["global pre", "pre", "post", "global post"]
    try:
        subject.train(optimizer, params, range(1, 2))
        require(fired == expected, f"one step fired {fired}, not {expected}")
        fired.clear()
        optimizer.load_state_dict(optimizer.state_dict())
        subject.train(optimizer, params, range(2, 3))
        require(fired == expected, f"a step after loading fired {fired}, not {expected}")
    finally:
        for handle in handles:
            handle.remove()


def add_hooks_to_parents(cls: type[Optimizer]) -> None:
    """Add the hooks to the ``step`` of the parent classes, as making an optimizer of them does."""
    for parent in cls.__mro__[1:]:
        makeable = parent is not Optimizer and not inspect.isabstract(parent)
        if issubclass(parent, Optimizer) and makeable:
            object.__new__(parent)._patch_step_function()


def state_dict_hooks_fire_once(subject: Subject) -> None:
    """``state_dict`` calls its pre and post hooks once, and returns what the post hook returns.

    Wrappers (sharding, renaming) rewrite the state dict in them.

    Remedy: override ``state_dict`` by one call of ``super().state_dict()``, and return what it
    returns.
    """
    _, optimizer = subject.trained(range(1))
    fired: list[str] = []

    def post(optimizer: Any, state_dict: dict[str, Any]) -> dict[str, Any]:
        fired.append("post")
        return state_dict | {"added": 1}

    optimizer.register_state_dict_pre_hook(lambda _: fired.append("pre"))
    optimizer.register_state_dict_post_hook(post)
    returned = optimizer.state_dict()
    require(fired == ["pre", "post"], f"one state_dict() fired {fired}, not ['pre', 'post']")
    require("added" in returned, "what the post hook returned was dropped")


def load_state_dict_hooks_fire_once(subject: Subject) -> None:
    """``load_state_dict`` calls its pre and post hooks once, and loads what the pre hook returns.

    Old checkpoints are adapted in them.

    Remedy: override ``load_state_dict`` by one call of ``super().load_state_dict(...)``.
    """
    params, optimizer = subject.trained(range(1))
    saved = optimizer.state_dict()
    other = subject.build(params)
    fired: list[str] = []

    def pre(optimizer: Any, state_dict: dict[str, Any]) -> dict[str, Any]:
        fired.append("pre")
        groups = [group | {"added": 1} for group in state_dict["param_groups"]]
        return state_dict | {"param_groups": groups}

    other.register_load_state_dict_pre_hook(pre)
    other.register_load_state_dict_post_hook(lambda _: fired.append("post"))
    other.load_state_dict(saved)
    require(fired == ["pre", "post"], f"one load_state_dict() fired {fired}, not ['pre', 'post']")
    require("added" in other.param_groups[0], "what the pre hook returned was not loaded")


def profiler_sees_the_step(subject: Subject) -> None:
    """A step is one ``Optimizer.step#Name.step`` in torch's profiler.

    It is how the optimizer's share of a training step is found.

    Remedy: override ``step`` without calling the parent's, and call ``super().__init__``.
    """
    params, optimizer = subject.trained(range(1))
    add_hooks_to_parents(type(optimizer))
    # A running profiler writes to stderr; so only the calls of record_function are counted.
    profiler = torch.autograd.profiler
    running = mock.patch.object(profiler, "_is_profiler_enabled", True)
    told = mock.patch.object(profiler, "record_function", wraps=profiler.record_function)
    with running, told as recorded:
        subject.train(optimizer, params, range(1, 2))
    wanted = f"Optimizer.step#{type(optimizer).__name__}.step"
    count = recorded.call_args_list.count(mock.call(wanted))
    require(count == 1, f"{wanted} was recorded {count} times in one step")


def repr_names_the_class(subject: Subject) -> None:
    """``repr(optimizer)`` works before and after steps, and names the class.

    Experiment trackers log it.

    Remedy: do not override ``__repr__``, or name the class in it.
    """
    params = subject.parameters()
    optimizer = subject.build(params)
    before = repr(optimizer)
    subject.train(optimizer, params, range(2))
    for text in (before, repr(optimizer)):
        require(type(optimizer).__name__ in text, f"the repr is {text[:60]!r}")
