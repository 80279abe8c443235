"""Automatic mixed precision."""

import copy
from typing import Any

import torch
from torch.optim import Optimizer

from ..comparing import require_close, require_same, require_same_state, snapshot
from ..subject import Params, Subject
from ..verdicts import Skip, refusal


def grad_scaler_skips_overflow(subject: Subject) -> None:
    """A step that ``torch.amp.GradScaler`` skips changes no parameter or state; the next counts.

    The scaler's first steps overflow by design. Fused optimizers do the skipping themselves.

    Remedy: set ``_step_supports_amp_scaling`` only where the step itself unscales by ``grad_scale``
    and skips for ``found_inf``.
    """
    if subject.traits.needs_closure:
        raise Skip("GradScaler takes no closures (needs_closure)")
    require_skips_overflow(subject, {})
    if subject.takes("fused"):
        try:
            require_skips_overflow(subject, {"fused": True})
        except Skip:
            return


def require_skips_overflow(subject: Subject, options: dict[str, Any]) -> None:
    named = f" with {', '.join(options)}" if options else ""
    params = subject.parameters()
    with refusal("|".join([*options, "option"])):
        optimizer = subject.build(params, **options)
        subject.train(optimizer, params, range(2))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    before, state = snapshot(params), copy.deepcopy(optimizer.state_dict()["state"])
    scaled_step(subject, scaler, optimizer, params, factor=float("inf"))
    require_same(f"a skipped step{named}", params, before)
    require_same_state(f"a skipped step{named}", optimizer.state_dict()["state"], state)

    scaled_step(subject, scaler, optimizer, params, factor=1.0)
    expected, _ = subject.trained(range(3), **options)
    require_close(f"the step after{named}", params, expected, rtol=1e-5, atol=1e-7)


def scaled_step(
    subject: Subject,
    scaler: torch.amp.GradScaler,
    optimizer: Optimizer,
    params: Params,
    factor: float,
) -> None:
    """Step 2 of the usual training, by way of a scaled loss."""
    optimizer.zero_grad()
    pairs = zip(params, subject.gradients(params, 2), strict=True)
    loss = sum(((param * grad).sum() for param, grad in pairs), torch.zeros(()))
    scaler.scale(loss * factor).backward()
    for param in params:
        if subject.traits.sparse_only and param.grad is not None:
            param.grad = param.grad.to_sparse(1)
    torch.manual_seed(2)
    scaler.step(optimizer)
    scaler.update()
