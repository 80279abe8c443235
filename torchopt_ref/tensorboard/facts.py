"""What a run was: its configuration, code, versions and seed, as text and as hyper-parameters."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pprint import pformat
from typing import Any

import torch
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import summary

from torchopt_ref.sides import optimizer_name

from .by_layer import group_values
from .ends import Ends
from .event_file import readable
from .layers import Layers
from .watched import Watched

ABOUT = "settings and versions"
"""The tag of the text that says what the run is, the first thing in a Monitor's event file."""
NOT_OF_THE_FORMULA = (
    *("foreach", "fused", "capturable", "differentiable"),
    *("max_lr", "min_lr", "decoupled_weight_decay"),
)
"""How a step is computed, where a scheduler keeps its rates, and what the class says already."""
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


def trained(layers: Layers, watched: Sequence[Watched], ends: Ends | None) -> dict[str, Any]:
    """What is trained, and with what options, for the rules of the diagnosis."""
    optimizers = [each.optimizer for each in watched]
    return {
        "param groups": [
            {
                "optimizer": type(optimizer).__name__,
                "maximize": bool(group.get("maximize")),
                **group_values(group),
            }
            for optimizer in optimizers
            for group in optimizer.param_groups
        ],
        "layers of each optimizer": {
            each.name or "all": layers.charts_of(each.optimizer) for each in watched
        },
        "frozen layers": layers.frozen(),
        "layers in no param group": layers.forgotten(optimizers),
        "parameters outside of the model": layers.outside(optimizers, ends.leaves if ends else []),
        "floating input": bool(ends and ends.takes_floats),
    }


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
    """What makes the formula, of the first group: numbers, and of what is yes or no what is yes, as
    TensorBoard shows five columns at first. The learning rate is the one that was set; a scheduler
    has put the first one of its warm-up in its place."""
    group = optimizer.param_groups[0]
    found: dict[str, bool | float] = {**group_values(group)}
    found |= {key: True for key, value in group.items() if value is True}
    if "initial_lr" in group:
        found["lr"] = float(group.get("max_lr", group["initial_lr"]))
    return {key: value for key, value in found.items() if key not in NOT_OF_THE_FORMULA}


def plain(value: Any) -> float | str:
    """As HParams can hold it: a number too large for a float is a text, and so is yes or no, which
    would be shown as 1.0000 or 0.0000."""
    if isinstance(value, float):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**1000:
        return float(value) if abs(value) > 2**63 else value
    return readable(str(value))


def as_text(config: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(config), indent=2, default=str)
    except (TypeError, ValueError):  # A key that JSON has not, or a value that holds itself.
        return pformat(dict(config))


def hparams_values(values: Mapping[str, Any], metrics: Mapping[str, float]) -> list[Summary.Value]:
    parts = summary.hparams(dict(values), dict(metrics))
    return [value for part in parts for value in part.value]


def git_commit() -> str:
    """Of the working directory; ``+ changes`` where tracked files differ from it."""
    try:
        commit = git("rev-parse", "HEAD")
        return f"{commit} + changes" if git("status", "--porcelain", "-uno") else commit
    except (OSError, subprocess.SubprocessError):
        return ""


def git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        capture_output=True,
        text=True,
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
