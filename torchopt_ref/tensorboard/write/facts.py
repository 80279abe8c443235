"""What a run was: its configuration, code, versions and seed, as text and as hyper-parameters."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pprint import pformat
from typing import Any

import torch
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import summary

from torchopt_ref.sides import optimizer_name

from .event_file import readable

NOT_OF_THE_FORMULA = (
    *("foreach", "fused", "capturable", "differentiable"),
    *("max_lr", "min_lr", "decoupled_weight_decay"),
)
"""Options that do not change the formula: they choose how a step is computed, were added by a
scheduler, or follow from the class."""
PACKAGES = ("torch", "numpy", "torchvision", "tensorboard", "torchopt-ref")


def about(
    config: Mapping[str, Any], optimizers: Mapping[str, torch.optim.Optimizer], device: torch.device
) -> str:
    """The run in Markdown. The seed is that of torch's default generator, ``initial_seed``."""
    facts = {
        "command": " ".join(sys.argv),
        "git commit": git_commit(),
        "seed": torch.initial_seed(),
        "device": device,
        "python": platform.python_version(),
        **{name: found for name in PACKAGES if (found := installed(name))},
    }
    lines = ["| | |", "|---|---|", *(f"| {key} | `{value}` |" for key, value in facts.items())]
    for name, optimizer in optimizers.items():
        title = f"**Optimizer {name}**" if name else "**Optimizer**"
        lines += ["", title, "", *indented(str(optimizer))]
    if config:
        lines += ["", "**Config**", "", *indented(as_text(config))]
    return "\n".join(lines)


def hyper_parameters(
    config: Mapping[str, Any], optimizers: Mapping[str, torch.optim.Optimizer]
) -> dict[str, Any]:
    """For TensorBoard's HParams: the optimizers' first groups, then ``config``."""
    found: dict[str, Any] = {}
    for name, optimizer in optimizers.items():
        before = f"{name} " if name else ""
        found[f"{before}optimizer"] = optimizer_name(type(optimizer))
        found |= {f"{before}{key}": value for key, value in options(optimizer).items()}
    found |= config
    return {readable(str(key)): plain(value) for key, value in found.items()}


def options(optimizer: torch.optim.Optimizer) -> dict[str, bool | float]:
    """The options of the first group that the formula depends on: numbers, and flags that are set.
    Other flags are omitted, as TensorBoard shows five columns at first. The learning rate is the
    one that the user set, even if a scheduler has replaced it by the first one of its warm-up."""
    group = optimizer.param_groups[0]
    found: dict[str, bool | float] = {**group_values(group)}
    found |= {key: True for key, value in group.items() if value is True}
    if "initial_lr" in group:
        found["lr"] = float(group.get("max_lr", group["initial_lr"]))
    return {key: value for key, value in found.items() if key not in NOT_OF_THE_FORMULA}


def group_values(group: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among a param group's values; ``betas`` as ``beta1`` and ``beta2``."""
    found: dict[str, float] = {}
    for key, value in group.items():
        if isinstance(value, bool) or key in ("params", "initial_lr"):
            continue
        if isinstance(value, int | float) or (
            isinstance(value, torch.Tensor) and value.numel() == 1
        ):
            found[key] = float(value)
        elif key == "betas":
            found |= {f"beta{i}": float(beta) for i, beta in enumerate(value, start=1)}
    return found


def plain(value: Any) -> float | str:
    """The value as HParams can hold it. Numbers too large for a float become texts, and so do
    booleans, which would be shown as 1.0000 or 0.0000."""
    if isinstance(value, float):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**1000:
        return float(value) if abs(value) > 2**63 else value
    return readable(str(value))


def as_text(config: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(config), indent=2, default=str)
    except (TypeError, ValueError):  # A key that JSON lacks, or a value that contains itself.
        return pformat(dict(config))


def hparams_values(values: Mapping[str, Any], metrics: Mapping[str, float]) -> list[Summary.Value]:
    parts = summary.hparams(dict(values), dict(metrics))
    return [value for part in parts for value in part.value]


def git_commit() -> str:
    """The commit of the working directory; ``+ changes`` if tracked files differ from it."""
    try:
        commit = git("rev-parse", "HEAD")
        return f"{commit} + changes" if git("status", "--porcelain", "-uno") else commit
    except (OSError, subprocess.SubprocessError):
        return ""


def git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=True,
        timeout=10,
    )
    return done.stdout.strip()


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def indented(text: str) -> list[str]:
    return [f"    {line}" for line in text.splitlines()]
