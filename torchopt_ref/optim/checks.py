"""What a hyper-parameter may be, in the words of ``torch.optim``."""

from typing import Any

import torch
from torch import Tensor

from .rule import Group

NONNEGATIVE = {
    "lr": "learning rate",
    "momentum": "momentum value",
    "alpha": "alpha value",
    "eps": "epsilon value",
    "weight_decay": "weight_decay value",
    "lr_decay": "lr_decay value",
    "initial_accumulator_value": "initial_accumulator_value value",
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
    if options.get("flat"):
        for other in ("foreach", "capturable", "differentiable", "fused"):
            if options.get(other):
                raise RuntimeError(f"`flat` and `{other}` cannot be `True` together.")
    if options.get("fused"):
        if options.get("differentiable"):
            raise RuntimeError("`fused` does not support `differentiable`")
        if options.get("foreach"):
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


def check_foreach_tensors(options: Group) -> None:
    """Refuse, as ``torch.optim.Adam``, tensors as hyper-parameters of an uncaptured ``foreach``."""
    if not options["foreach"] or options["capturable"]:
        return
    tensors = {"lr": options["lr"]} | {
        f"betas[{index}]": beta for index, beta in enumerate(options["betas"])
    }
    for name, value in tensors.items():
        if isinstance(value, Tensor):
            raise ValueError(
                f"{name} as a Tensor is not supported for capturable=False and foreach=True"
            )


def refuse_weight_decay(hyper: Group) -> None:
    if hyper.get("weight_decay", 0) != 0:
        raise RuntimeError("weight_decay option is not compatible with sparse gradients")


FUSED_DEVICES = ("cpu", "cuda", "xpu")
CAPTURABLE_DEVICES = ("cuda", "xpu", "hpu", "xla")


def check_fused(param: Tensor) -> None:
    if not param.is_floating_point() or param.device.type not in FUSED_DEVICES:
        raise RuntimeError(
            "`fused=True` requires all the params to be floating point Tensors of supported "
            f"devices: {', '.join(FUSED_DEVICES)} but {param.dtype} and {param.device.type}"
        )


def check_capturable(param: Tensor) -> None:
    # Under the compiler, which captures by itself, the flag asks for nothing.
    if not torch.compiler.is_compiling() and param.device.type not in CAPTURABLE_DEVICES:
        raise AssertionError(
            "If capturable=True, params and state_steps must be on supported devices: "
            f"{', '.join(CAPTURABLE_DEVICES)}."
        )
