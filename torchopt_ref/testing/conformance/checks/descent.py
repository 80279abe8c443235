"""It optimizes."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..subject import FACTORS, Subject, has_lr, seed_torch, set_lr
from ..verdicts import Failure

STEPS = 100
FELL = 0.999
"""The loss must fall below this share of its first value. Some defaults are slow: 100 steps of 1e-4
move a parameter by 0.01, and those of LARS by half of that."""


def descends_on_a_quadratic(subject: Subject) -> str:
    """It lowers a convex quadratic within 100 steps, at its default lr, a tenth or a hundredth.

    An optimizer that does not is of no use; a wrong sign shows here first.

    Remedy: check the sign of the step; if its default lr is too large or small for a small problem,
    give another with --kwargs, or declare lr_free.
    """
    curvature = torch.tensor([[1.0, 0.5], [0.25, 0.75]])
    start = torch.tensor([[1.0, -1.0], [-0.5, 2.0]])
    return descend(subject, start, lambda x: (curvature * x * x).sum() / 2)


def descends_on_rosenbrock(subject: Subject) -> str:
    """It lowers Rosenbrock's function within 100 steps, at its default lr, a tenth or a hundredth.

    Networks' losses are curved and not convex: a step must follow the gradient where it turns.

    Remedy: see that the step uses the gradient of this step, not one kept from before.
    """
    start = torch.tensor([[-1.2, 1.0], [-0.5, 0.5]])
    return descend(subject, start, rosenbrock)


def rosenbrock(x: Tensor) -> Tensor:
    """Each row a point; a hundredth of the usual function, so that usual lrs suit it."""
    return ((1 - x[:, 0]) ** 2 / 100 + (x[:, 1] - x[:, 0] ** 2) ** 2).sum()


def descend(subject: Subject, start: Tensor, loss_of: Callable[[Tensor], Tensor]) -> str:
    first = float(loss_of(start))
    seen = {}
    for factor in FACTORS:
        last = loss_after(subject, start, loss_of, factor)
        seen[factor] = f"{last:.3g} {FACTORS[factor]}"
        if last < FELL * first:
            return f"loss {first:.3g} -> {seen[factor]}"
    raise Failure(f"after {STEPS} steps a loss of {first:.3g} was {', '.join(seen.values())}")


def loss_after(
    subject: Subject, start: Tensor, loss_of: Callable[[Tensor], Tensor], factor: float
) -> float:
    param = torch.nn.Parameter(start.clone())
    optimizer = subject.build([param])
    if has_lr(optimizer):
        set_lr(optimizer, factor)

    def closure() -> Tensor:
        param.grad = None
        loss = loss_of(param)
        loss.backward()
        if subject.traits.sparse_only and param.grad is not None:
            param.grad = param.grad.to_sparse(1)
        return loss

    for step in range(STEPS):
        seed_torch(step)
        closure()
        if subject.traits.needs_closure:
            optimizer.step(closure)  # type: ignore[arg-type]
        else:
            optimizer.step()
    return float(loss_of(param.detach()))
