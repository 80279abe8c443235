"""What a step does with gradients."""

from typing import Any

import torch
from torch import Tensor

from ..comparing import dense, difference, require_same, same, snapshot
from ..subject import UNDER_WAY, Params, Subject
from ..verdicts import Failure, Skip, refusal, require

SWITCHES = ("maximize", "foreach", "fused", "amsgrad", "centered", "nesterov")
"""Options with another path through the step; one that the optimizer refuses is not tried."""


def leaves_gradients_alone(subject: Subject) -> None:
    """A step does not write ``p.grad``, nor put another tensor there, whatever options are on.

    Users log gradient norms after the step, accumulate over micro-batches, and share gradients
    between optimizers; DDP's gradients are views of its buckets. torch's own tests hold every
    optimizer of ``torch.optim`` to it.

    Remedy: work on a copy: ``grad = grad.add(param, alpha=weight_decay)`` in place of
    ``grad.add_(...)``.
    """
    variants: list[dict[str, Any]] = [{}]
    variants += [{flag: True} for flag in SWITCHES if subject.takes(flag)]
    for options in variants:
        named = f" with {', '.join(options)}" if options else ""
        params = subject.parameters()
        try:
            with refusal("|".join([*options, "option"])):
                optimizer = subject.build(params, **options)
        except Skip:
            continue
        for group in optimizer.param_groups:
            if "weight_decay" in group:
                group["weight_decay"] = 0.1
        for step in range(3):
            grads = subject.gradients(params, step)
            given = subject.step(optimizer, params, grads, step)
            for index, (param, was, grad) in enumerate(zip(params, given, grads, strict=True)):
                seen = f"p.grad of parameter {index}{named}"
                require(param.grad is not None, f"{seen} is gone after the step")
                require(param.grad is was, f"{seen} is another tensor after the step")
                if was is not None and not same(dense(was), grad):
                    raise Failure(f"{seen} {difference(was, grad)}")


def leaves_parameters_without_gradient_alone(subject: Subject) -> None:
    """A parameter whose ``grad`` is None is not touched, not even by weight decay.

    Frozen layers and unused branches have no gradient; they must stay as they are. Where the step
    of one parameter depends on the others, this is tried on one that never had a gradient.

    Remedy: begin the loop over the parameters with ``if param.grad is None: continue``, before
    weight decay.
    """
    params = subject.parameters()
    optimizer = subject.build(params)
    for group in optimizer.param_groups:
        if "weight_decay" in group:
            group["weight_decay"] = 0.1
    for step in range(3):
        before = snapshot(params)
        idle = 1 if subject.traits.couples_parameters else step % 2
        grads: list[Tensor | None] = list(subject.gradients(params, step))
        grads[idle] = None
        subject.step(optimizer, params, grads, step)
        require_same(f"without a gradient at step {step + 1}", [params[idle]], [before[idle]])


def nan_gradient_stays_where_it_is(subject: Subject) -> None:
    """A NaN gradient of one parameter changes no other parameter, and raises nothing.

    What to do about NaN is the user's decision; it must not spread through the optimizer.

    Remedy: share no sum, norm or test of finiteness between parameters; or declare
    couples_parameters.
    """
    require_other_parameters_untouched(subject, float("nan"))


def infinite_gradient_stays_where_it_is(subject: Subject) -> None:
    """An infinite gradient of one parameter changes no other parameter, and raises nothing.

    Overflow in one layer must not spread through the optimizer to the others.

    Remedy: share no sum, norm or test of finiteness between parameters; or declare
    couples_parameters.
    """
    require_other_parameters_untouched(subject, float("inf"))


def require_other_parameters_untouched(subject: Subject, value: float) -> None:
    subject.require_independent_parameters()

    def gradients(params: Params, step: int) -> list[Tensor]:
        grads = subject.gradients(params, step)
        if step == 1:
            grads[0].fill_(value)
        return grads

    expected, _ = subject.trained(range(4))
    params = subject.parameters()
    optimizer = subject.build(params)
    with refusal("nan|inf|finite"):
        subject.train(optimizer, params, range(4), gradients)
    require_same(f"beside a gradient of {value}", params[1:], expected[1:])


def sparse_gradients_descend(subject: Subject) -> None:
    """A sparse gradient moves its rows downhill, and no other row at the first step; or is refused.

    Embeddings with ``sparse=True`` give them. What must not happen: that they are taken for dense
    ones without a word.

    Remedy: raise RuntimeError("... does not support sparse gradients") where ``grad.is_sparse``.
    """
    param = torch.nn.Parameter(torch.ones(6, 2))
    rows, values = torch.tensor([[1, 4]]), torch.tensor([[1.0, -2.0], [3.0, -4.0]])
    grad = torch.sparse_coo_tensor(rows, values, (6, 2))
    with refusal("sparse|layout|strides"):
        optimizer = subject.build([param])
        for group in optimizer.param_groups:
            if "weight_decay" in group:
                group["weight_decay"] = 0.0
        take_sparse_step(subject, optimizer, param, grad)
        moved = param.detach() - 1
        for _ in range(UNDER_WAY):
            take_sparse_step(subject, optimizer, param, grad)
    others = [row for row in range(6) if row not in (1, 4)]
    count = int(torch.count_nonzero(moved[others]))
    require(not count, f"the first step moved {count} elements of rows without a gradient")
    along = (param.detach() - 1)[rows[0]] * values
    require((along < 0).all(), f"rows with a gradient moved {float(along.max()):.3g} along it")


def take_sparse_step(
    subject: Subject, optimizer: torch.optim.Optimizer, param: torch.nn.Parameter, grad: Tensor
) -> None:
    def closure() -> Tensor:
        param.grad = grad.clone()
        return torch.ones(())

    closure()
    if subject.traits.needs_closure:
        optimizer.step(closure)  # type: ignore[arg-type]
    else:
        optimizer.step()


def maximize_mirrors(subject: Subject) -> None:
    """``maximize=True`` with a gradient is a minimizing step with its negative, to equal values.

    The option is documented as the same optimizer on the negated objective.

    Remedy: negate the gradient first, ``grad = -grad if maximize else grad``, and apply weight
    decay after that.
    """
    subject.require_option("maximize")

    def negated(params: Params, step: int) -> list[Tensor]:
        return [-grad for grad in subject.gradients(params, step)]

    params = subject.parameters()
    with refusal("maximize"):
        subject.train(subject.build(params, maximize=True), params, range(5))
    expected = subject.parameters()
    subject.train(subject.build(expected, maximize=False), expected, range(5), negated)
    require_same("maximize=True against the negated gradient", params, expected)


def zero_grad_to_none(subject: Subject) -> None:
    """``zero_grad()`` sets every gradient to None.

    It is the default since torch 2.0: the memory is given back, and a parameter that the next
    backward pass does not reach is skipped by the next step.

    Remedy: do not override ``zero_grad``, or end with ``super().zero_grad(set_to_none)``.
    """
    params, optimizer = subject.trained(range(2))
    optimizer.zero_grad()
    left = [index for index, param in enumerate(params) if param.grad is not None]
    require(not left, f"parameters {left} still have a gradient")


def zero_grad_to_zero(subject: Subject) -> None:
    """``zero_grad(set_to_none=False)`` fills the same gradient tensors with zeros.

    Whoever holds a gradient's buffer (gradient views of DDP, CUDA graphs) needs it kept.

    Remedy: do not override ``zero_grad``, or end with ``super().zero_grad(set_to_none)``.
    """
    params, optimizer = subject.trained(range(2))
    before = [param.grad for param in params]
    optimizer.zero_grad(set_to_none=False)
    for index, (param, grad) in enumerate(zip(params, before, strict=True)):
        require(param.grad is grad, f"p.grad of parameter {index} is another tensor")
        left = 0 if grad is None else int(torch.count_nonzero(dense(grad)))
        require(not left, f"p.grad of parameter {index} has {left} elements that are not zero")
