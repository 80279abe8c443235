#!/usr/bin/env python
"""Survey: the conformance checks over the optimizers of installed packages, as a Markdown table.

    scripts/survey.py torch.optim optimi timm.optim pytorch_optimizer

docs/conformance-survey.md says what it found and how to install the packages. ``ENTRIES`` has, for
some optimizers, what their design makes necessary: arguments that they need, and traits.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from typing import Any, NamedTuple

import torch

from torchopt_ref.testing.conformance import ConformanceReport, Traits, check_optimizer
from torchopt_ref.testing.conformance.report import FAILED


class Entry(NamedTuple):
    """Arguments and traits of an optimizer; ``left_out`` says why it is not checked."""

    kwargs: dict[str, Any] = {}
    traits: str = ""
    left_out: str = ""


ENTRIES: dict[str, dict[str, Entry]] = {
    "torch.optim": {
        "LBFGS": Entry(traits="needs_closure couples_parameters history"),
        "Muon": Entry(traits="two_dimensional_only"),
        "Rprop": Entry(traits="lr_free"),
        "SparseAdam": Entry(traits="sparse_only"),
    },
    "optimi": {
        name: Entry({"lr": 1e-3})
        for name in ("Adam", "AdamW", "Adan", "Lion", "RAdam", "Ranger", "SGD")
    }
    | {"StableAdamW": Entry({"lr": 1e-3, "triton": False})},
    "timm.optim": {
        "Adafactor": Entry({"lr": 1e-3}),
        "Adahessian": Entry(left_out="it differentiates the gradient again"),
        "Lamb": Entry(traits="couples_parameters"),
        "Lookahead": Entry(left_out="it wraps another optimizer"),
        "SGDP": Entry({"lr": 1e-2}),
    },
    "pytorch_optimizer": {
        "AdaFactor": Entry({"relative_step": False}),
        "Prodigy": Entry(traits="lr_free couples_parameters"),
    },
}

CHOSEN = {
    "pytorch_optimizer": (
        *("ADOPT", "AdEMAMix", "AdaBelief", "AdaBound", "AdaFactor", "AdaMax", "AdamP", "Adan"),
        *("CAME", "DiffGrad", "FAdam", "Fromage", "LARS", "LaProp", "Lamb", "Lion", "MADGRAD"),
        *("MARS", "NAdam", "NovoGrad", "PNM", "Prodigy", "QHAdam", "RAdam", "SGDP"),
        *("SGDW", "SOAP", "ScheduleFreeAdamW", "Shampoo", "StableAdamW", "Tiger", "Yogi"),
    )
}
"""Of a package with very many optimizers, those whose findings were confirmed by hand."""


def main(modules: list[str]) -> None:
    torch.set_num_threads(1)
    for module in modules:
        print(
            f"\n## {module}\n\n| optimizer | passed | failed | skipped | |\n|---|--:|--:|--:|---|"
        )
        for name, cls in optimizers_of(module):
            entry = ENTRIES.get(module, {}).get(name, Entry())
            print(row(name, cls, entry), flush=True)


def optimizers_of(module: str) -> list[tuple[str, type]]:
    """A module's optimizer classes that are not torch's; of one in ``CHOSEN``, those listed
    there."""
    members = inspect.getmembers(importlib.import_module(module), inspect.isclass)
    return [
        (name, cls)
        for name, cls in members
        if issubclass(cls, torch.optim.Optimizer)
        and cls is not torch.optim.Optimizer
        and (module == "torch.optim" or not cls.__module__.startswith("torch."))
        and name in CHOSEN.get(module, (name,))
    ]


def row(name: str, cls: type, entry: Entry) -> str:
    if entry.left_out:
        return f"| {name} | | | | not surveyed: {entry.left_out} |"
    try:
        factory = functools.partial(cls, **entry.kwargs)
        report = check_optimizer(factory, traits=Traits.named(entry.traits.split()))
    except Exception as error:
        return f"| {name} | | | | cannot be made: {error} |"
    counts = " | ".join(
        str(len(report.with_outcome(outcome))) for outcome in ("passed", "failed", "skipped")
    )
    return f"| {name} | {counts} | {failures(report)} |"


def failures(report: ConformanceReport) -> str:
    return ", ".join(result.check for result in report.with_outcome(FAILED))


if __name__ == "__main__":
    main(sys.argv[1:])
