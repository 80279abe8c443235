"""What a hyper-parameter may be, in the words of ``torch.optim``."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .rule import Group

NONNEGATIVE = {"lr": "learning rate", "eps": "epsilon value"} | {
    name: f"{name} value"
    for name in (
        *("momentum", "alpha", "weight_decay", "lr_decay", "initial_accumulator_value"),
        *("eps_root", "initial_scale"),
    )
}


def check_options(options: Group) -> None:
    """Raise torch's error for a value out of range, or options that exclude each other."""
    if isinstance(options.get("lr"), Tensor) and options["lr"].numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    for name, words in NONNEGATIVE.items():
        if name in options and not 0.0 <= options[name]:
            raise ValueError(f"Invalid {words}: {options[name]}")
    if "betas" in options:
        check_betas(options["betas"])
        if options.get("foreach") and not options.get("capturable"):
            refuse_tensors(options)
    if options.get("fused") and options.get("differentiable"):
        raise RuntimeError("`fused` does not support `differentiable`")
    if options.get("fused") and options.get("foreach"):
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")


def check_betas(betas: Any) -> None:
    if len(betas) != 2:
        raise ValueError(f"Invalid betas: {betas}: a pair is needed")
    for index, beta in enumerate(betas):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"Invalid beta parameter at index {index}: {beta}")
        if isinstance(beta, Tensor) and beta.numel() != 1:
            raise ValueError(f"Tensor betas[{index}] must be 1-element")
    if not any(all(isinstance(beta, kind) for beta in betas) for kind in (float, Tensor)):
        raise ValueError("betas must be either both floats or both Tensors")


def refuse_tensors(options: Group) -> None:
    """Refuse tensors as hyper-parameters, as ``torch.optim.Adam`` does with ``foreach=True``."""
    names = ("lr", "betas[0]", "betas[1]")
    for name, value in zip(names, (options.get("lr"), *options["betas"]), strict=True):
        if isinstance(value, Tensor):
            why = "is not supported for capturable=False and foreach=True"
            raise ValueError(f"{name} as a Tensor {why}")


def refuse_weight_decay(hyper: Group) -> None:
    if hyper.get("weight_decay", 0) != 0:
        raise RuntimeError("weight_decay option is not compatible with sparse gradients")


FUSED_DEVICES = ("cpu", "cuda", "xpu")
CAPTURABLE_DEVICES = ("cuda", "xpu", "hpu", "xla")


def check_engine(group: Group, params: Iterable[Tensor]) -> None:
    """Refuse parameters that torch refuses with the group's ``fused`` or ``capturable``."""
    fused = group.get("fused")
    # The compiler captures by itself, so under it the flag makes no demands.
    capturable = group.get("capturable") and not torch.compiler.is_compiling()
    for param in params:
        device = param.device.type
        if fused and not (param.is_floating_point() and device in FUSED_DEVICES):
            raise RuntimeError(
                "`fused=True` requires all the params to be floating point Tensors of supported "
                f"devices: {', '.join(FUSED_DEVICES)} but {param.dtype} and {device}"
            )
        if capturable and device not in CAPTURABLE_DEVICES:
            raise AssertionError(
                "If capturable=True, params and state_steps must be on supported devices: "
                f"{', '.join(CAPTURABLE_DEVICES)}."
            )


def check_steps(group: Group, steps: Iterable[Any]) -> None:
    for step in steps:
        if not isinstance(step, Tensor):
            raise RuntimeError("API has changed, a state's `step` must be a singleton tensor")
        if group["differentiable"] and step.requires_grad:
            raise RuntimeError("`requires_grad` is not supported for `step` in differentiable mode")
