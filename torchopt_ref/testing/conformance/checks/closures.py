"""``step(closure)``."""

import torch
from torch import Tensor

from ..comparing import require_same
from ..subject import Subject
from ..verdicts import Skip, require


def closure_is_called_with_gradients_enabled(subject: Subject) -> None:
    """``step(closure)`` calls the closure with autograd on, and leaves the grad mode as it was.

    The closure runs the model backward; under the optimizer's own ``no_grad`` it would fail.

    Remedy: ``with torch.enable_grad(): loss = closure()``, within a step under ``torch.no_grad()``.
    """
    params = subject.parameters()
    optimizer = subject.build(params)
    modes = []

    def closure() -> Tensor:
        modes.append(torch.is_grad_enabled())
        return set_gradients(subject, params)

    set_gradients(subject, params)
    optimizer.step(closure)  # type: ignore[arg-type]
    require(modes, "the closure was not called")
    require(all(modes), "autograd was off within the closure")
    require(torch.is_grad_enabled(), "autograd is off after the step")


def closure_loss_is_returned(subject: Subject) -> None:
    """``step(closure)`` returns the loss that the closure returned first.

    Training loops log it: ``loss = optimizer.step(closure)``.

    Remedy: end the step with ``return loss``, also when nothing was stepped.
    """
    params = subject.parameters()
    optimizer = subject.build(params)
    losses: list[Tensor] = []

    def closure() -> Tensor:
        set_gradients(subject, params)
        losses.append(torch.tensor(3.0 + len(losses)))
        return losses[-1]

    set_gradients(subject, params)
    returned = optimizer.step(closure)  # type: ignore[arg-type]
    require(returned is not None, "step(closure) returned None")
    require(losses, "the closure was not called")
    require(float(returned) == 3.0, f"step(closure) returned {float(returned)}, not 3.0")


def closure_gradients_are_used(subject: Subject) -> None:
    """``step(closure)`` steps with the gradients that this closure computes, not older ones.

    Otherwise a closure trains one step behind, which shows only as slower learning.

    Remedy: call the closure before ``param.grad`` is read.
    """
    if subject.traits.needs_closure:
        raise Skip("it takes no other gradients (needs_closure)")
    params = subject.parameters()
    optimizer = subject.build(params)
    for param in params:
        param.grad = subject.laid_out(torch.full_like(param, 100.0))
    torch.manual_seed(0)
    optimizer.step(lambda: set_gradients(subject, params))  # type: ignore[arg-type, return-value]
    expected, _ = subject.trained(range(1))
    require_same("step(closure) against backward and step()", params, expected)


def set_gradients(subject: Subject, params: list[torch.nn.Parameter]) -> Tensor:
    for param, grad in zip(params, subject.gradients(params, 0), strict=True):
        param.grad = subject.laid_out(grad)
    return torch.ones(())
