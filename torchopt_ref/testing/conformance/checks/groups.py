"""Parameter groups."""

from typing import Any

import torch

from ..comparing import require_same, same, snapshot
from ..subject import UNDER_WAY, Subject, set_lr
from ..verdicts import Skip, refusal, require

GROUPS = "group|per-parameter"


def lr_zero_moves_nothing(subject: Subject) -> None:
    """With lr = 0 from the start, nothing moves, not even by weight decay.

    Warm-up and annealing reach 0, and users freeze a group this way.

    Remedy: multiply all that moves a parameter by the lr, decoupled weight decay too; add nothing
    to the lr.
    """
    params = subject.parameters()
    optimizer = subject.build(params)
    subject.require_lr(optimizer)
    set_lr(optimizer, 0.0)
    for group in optimizer.param_groups:
        if "weight_decay" in group:
            group["weight_decay"] = 0.1
    before = snapshot(params)
    subject.train(optimizer, params, range(3))
    require_same("with lr = 0", params, before)


def options_are_per_group(subject: Subject) -> None:
    """Every group is stepped with its own options, as if it had an optimizer of its own.

    Fine-tuning gives the head another lr, and biases no weight decay.

    Remedy: read options from ``group`` within the loop over ``self.param_groups``, not from
    ``self`` or ``self.defaults``.
    """
    subject.require_independent_parameters()
    skip_if_draws_are_shared(subject)
    first, second, _ = subject.parameters()
    options = changed_options(subject)
    with refusal(GROUPS):
        together = subject.build([{"params": [first]}, {"params": [second]} | options])
    subject.train(together, [first, second], range(3))

    alone_first, alone_second, _ = subject.parameters()
    subject.train(subject.build([alone_first]), [alone_first], range(3))
    alone = subject.build([{"params": [alone_second]} | options])
    subject.train(alone, [alone_second], range(3))
    named = ", ".join(f"{name}={value:g}" for name, value in options.items()) or "no options"
    require_same("a first group without options", [first], [alone_first])
    require_same(f"a second group with {named}", [second], [alone_second])

    if "lr" in options and not subject.traits.lr_free:
        default, slower = subject.parameters()[1], subject.parameters()[1]
        subject.train(subject.build([default]), [default], range(UNDER_WAY))
        own_lr = [{"params": [slower], "lr": options["lr"]}]
        subject.train(subject.build(own_lr), [slower], range(UNDER_WAY))
        require(not same(default, slower), "a group's own lr changed nothing")


def changed_options(subject: Subject) -> dict[str, Any]:
    """The real-valued defaults, halved, and some weight decay."""
    defaults = subject.build(subject.parameters()).defaults
    options = {
        name: value / 2
        for name, value in defaults.items()
        if isinstance(value, float) and value not in (0.0, float("inf"))
    }
    return options | ({"weight_decay": 0.05} if "weight_decay" in defaults else {})


def splitting_a_group_changes_nothing(subject: Subject) -> None:
    """The same parameters in two groups of equal options take steps to equal values.

    Groups are made for convenience (names, decay, logging), not to alter the training.

    Remedy: keep nothing per group that the step of a parameter depends on; or declare
    couples_parameters.
    """
    subject.require_independent_parameters()
    skip_if_draws_are_shared(subject)
    expected, _ = subject.trained(range(5))
    params = subject.parameters()
    with refusal(GROUPS):
        optimizer = subject.build([{"params": params[:1]}, {"params": params[1:]}])
    subject.train(optimizer, params, range(5))
    require_same("in two groups", params, expected)


def order_of_parameters_changes_nothing(subject: Subject) -> None:
    """Given in the opposite order, the parameters take steps to equal values.

    Nobody expects the order in which layers were defined to matter.

    Remedy: look a parameter's state up by the parameter, ``self.state[param]``, not by position; or
    declare couples_parameters.
    """
    subject.require_independent_parameters()
    skip_if_draws_are_shared(subject)
    expected, _ = subject.trained(range(5))
    params = subject.parameters()
    subject.train(subject.build(params[::-1]), params, range(5))
    require_same("in the opposite order", params, expected)


def skip_if_draws_are_shared(subject: Subject) -> None:
    if subject.traits.stochastic:
        raise Skip("all parameters draw from one stream of random numbers (stochastic)")


def group_added_during_training_is_trained(subject: Subject) -> None:
    """``add_param_group`` after some steps: the new parameters move, the old ones go on as before.

    Layers are unfrozen during fine-tuning this way.

    Remedy: make state when a parameter is first stepped, not in the constructor.
    """
    params = subject.parameters()
    optimizer = subject.build(params[:2])
    subject.train(optimizer, params[:2], range(3))
    before = snapshot(params)
    with refusal(GROUPS):
        optimizer.add_param_group({"params": [params[2]]})
        subject.train(optimizer, params, range(3, 3 + UNDER_WAY))
    require(torch.isfinite(params[2]).all(), "a parameter of the new group is not finite")
    moved = not same(params[2].detach(), before[2])
    require(moved, f"the new group did not move in {UNDER_WAY} steps")
    if not (subject.traits.couples_parameters or subject.traits.stochastic):
        expected = subject.parameters()[:2]
        subject.train(subject.build(expected), expected, range(3 + UNDER_WAY))
        require_same("after a group was added", params[:2], expected)


def named_parameters_are_taken(subject: Subject) -> None:
    """``model.named_parameters()`` is taken, and the names stand in the state dict.

    torch 2.6 added it; checkpoints are then matched by name instead of by position.

    Remedy: pass ``params`` on to ``super().__init__(params, defaults)`` untouched.
    """
    expected, _ = subject.trained(range(3))
    params = subject.parameters()
    names = ["first", "second", "third"]
    optimizer = subject.build(list(zip(names, params, strict=True)))
    subject.train(optimizer, params, range(3))
    require_same("built of named parameters", params, expected)
    seen = [
        name
        for group in optimizer.state_dict()["param_groups"]
        for name in group.get("param_names", [])
    ]
    require(seen == names, f"param_names of the state dict are {seen}, not {names}")
