"""Flags that choose an implementation, not a result."""

from typing import Any

import torch

from torchopt_ref.sides import FLAGS

from ..comparing import require_close, require_same, require_same_state, same
from ..subject import UNDER_WAY, Params, Subject
from ..verdicts import refusal, require


def foreach_equals_per_tensor(subject: Subject) -> None:
    """``foreach=True`` takes the steps of ``foreach=False``, to 1e-5 relative or 1e-7.

    It is documented as an implementation only. The bound covers fused multiply-adds over 10 steps.

    Remedy: compare the two paths option by option: weight decay, maximize and bias correction
    first.
    """
    require_equals_per_tensor(subject, "foreach")


def fused_equals_per_tensor(subject: Subject) -> None:
    """``fused=True`` takes the steps of the per-tensor path, to 1e-5 relative or 1e-7.

    It is documented as an implementation only. The bound covers fused multiply-adds over 10 steps.

    Remedy: compare the two paths option by option: weight decay, maximize and bias correction
    first.
    """
    require_equals_per_tensor(subject, "fused")


def capturable_equals_per_tensor(subject: Subject) -> None:
    """``capturable=True`` takes the steps of ``capturable=False``, to 1e-5 relative or 1e-7.

    It makes a step fit for CUDA graphs. On a device without them it may be refused.

    Remedy: compare the two paths option by option: weight decay, maximize and bias correction
    first.
    """
    require_equals_per_tensor(subject, "capturable")


def require_equals_per_tensor(subject: Subject, flag: str) -> None:
    subject.require_option(flag)
    device = "cuda" if flag == "capturable" and torch.cuda.is_available() else "cpu"
    with refusal(f"{flag}|device"):
        params = after_ten_steps(subject, device, {flag: True})
    off: dict[str, Any] = {name: False for name in FLAGS if subject.takes(name)}
    expected = after_ten_steps(subject, device, off)
    require_close(f"{flag}=True against False", params, expected, rtol=1e-5, atol=1e-7)


def after_ten_steps(subject: Subject, device: str, options: dict[str, Any]) -> Params:
    params = [torch.nn.Parameter(param.detach().to(device)) for param in subject.parameters()]
    optimizer = subject.build(params, **options)
    for group in optimizer.param_groups:
        if "weight_decay" in group:
            group["weight_decay"] = 0.1

    def gradients(params: Params, step: int) -> list[torch.Tensor]:
        return [grad.to(device) for grad in subject.gradients(params, step)]

    subject.train(optimizer, params, range(10), gradients)
    return params


def differentiable_steps_keep_the_graph(subject: Subject) -> None:
    """``differentiable=True`` takes the same step, and a gradient flows back through it.

    Meta-learning differentiates through the training; a step that cuts the graph gives it zeros.

    Remedy: step under ``torch.set_grad_enabled(differentiable)``, without ``.data``, ``.detach()``
    or ``.item()``; or refuse the option in words.
    """
    subject.require_option("differentiable")
    starts = subject.parameters()
    # Not leaves, as in meta-learning, and so no nn.Parameter.
    params: list[Any] = [start.clone() for start in starts]
    with refusal("differentiable"):
        optimizer = subject.build(params, differentiable=True)
        # One step; more for optimizers that do not move at first.
        for step in range(UNDER_WAY):
            subject.train(optimizer, params, [step])
            if not same(params[0].detach(), starts[0].detach()):
                break
    expected, _ = subject.trained(range(step + 1), differentiable=False)
    require_close("differentiable=True against False", params, expected, rtol=1e-5, atol=1e-7)
    sum(param.sum() for param in params).backward()
    for index, (param, start) in enumerate(zip(params, starts, strict=True)):
        through = type(param.grad_fn).__name__ != "CloneBackward0" and start.grad is not None
        require(through, f"the step of parameter {index} is not in the graph")
        require(
            start.grad is not None and torch.isfinite(start.grad).all(),
            f"the gradient through the step of parameter {index} is not finite",
        )


def runs_are_reproducible(subject: Subject) -> None:
    """Two runs from the same values and seed end in equal values, parameters and state.

    Without it no result can be looked into twice.

    Remedy: draw random numbers from torch's generator only; iterate over no set.
    """
    params, optimizer = subject.trained(range(5))
    again, other = subject.trained(range(5))
    require_same("a second run", again, params)
    require_same_state(
        "the state of a second run", other.state_dict()["state"], optimizer.state_dict()["state"]
    )
