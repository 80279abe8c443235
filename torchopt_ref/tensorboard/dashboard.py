"""TensorBoard's custom dashboard: the charts a person looks at first, in that order."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import summary

from .history import NOT_FINITE
from .over_layers import SPREAD

BAND = "update to weight/rule of thumb"
LOW, HIGH = 10**-3.5, 10**-2.5
"""The rule of thumb for ``|u| / |theta|``, 1e-3, as a band half a decade to each side."""

Chart = tuple[str, list[str]]
"""Its kind, and its tags: patterns, or for a margin chart names."""


def band(of: str) -> dict[str, float]:
    """The band's edges, as points of constant curves, which is what a margin chart takes; ``of`` an
    optimizer, as in a tag, since each has steps of its own."""
    return {f"{BAND} low{of}": LOW, f"{BAND} high{of}": HIGH}


def layout(optimizers: Sequence[str], tags: Collection[str]) -> list[Summary.Value]:
    """The dashboard of a run with optimizers of these names, the only one's being empty.

    Charts without a curve among the ``tags`` are left out.

    TensorBoard gives all curves of a run one colour, so a chart has few of them: those over all
    layers. Each layer's own stand under Time Series.
    """
    categories = {
        "Is it learning?": {
            "loss": several("loss"),
            "accuracy": several("accuracy"),
            "learning rate": below("learning rate"),
            NOT_FINITE: starting(NOT_FINITE),
        },
        "Are the steps of a good size?": {
            **dict(banded(name) for name in optimizers),
            "update to weight, over layers": spread("update to weight"),
            "effective step, of all layers": whole("effective step"),
            "weight norm, of all layers": whole("weight norm"),
        },
        "Do gradients arrive?": {
            "gradient norm, over layers": spread("gradient norm"),
            "activation gradient std, over layers": spread("activation gradient std"),
            "gradient cosine between steps": whole("gradient cosine"),
            "gradient noise scale (samples)": whole("gradient noise scale"),
            "gradient carried over from the step before": several("gradient carried over"),
        },
        "Are the layers alive?": {
            "activation std, over layers": spread("activation std"),
            "dead units (fraction), over layers": spread("dead units"),
            "saturated (fraction), over layers": spread("saturated"),
            "batch norm mean shift, over layers": spread("batch norm mean shift"),
            "batch norm variance ratio, over layers": spread("batch norm variance ratio"),
            "dropout keep rate": below("dropout keep rate"),
        },
        "Is it fast?": {
            "step time (ms)": below("step time"),
            "samples per second": below("speed"),
            "memory (MiB)": below("memory"),
        },
        "Is it computed exactly?": {
            "parity drift from NumPy (ULP)": starting("parity drift/NumPy"),
            "parity drift from float64 (ULP)": starting("parity drift/float64"),
        },
    }
    shown = {
        title: {name: chart for name, chart in charts.items() if has_curve(chart, tags)}
        for title, charts in categories.items()
    }
    return list(summary.custom_scalars({k: v for k, v in shown.items() if v}).value)


def has_curve(chart: Chart, tags: Collection[str]) -> bool:
    kind, (first, *_) = chart
    return first in tags if kind == "Margin" else any(re.search(first, tag) for tag in tags)


def banded(name: str) -> tuple[str, Chart]:
    """The median update of an optimizer's layers, and the band of the rule of thumb."""
    of = f" of {name}" if name else ""
    tags = [f"update to weight/[median{of}]", *band(of)]
    return f"update to weight, band around 1e-3{of}", ("Margin", tags)


def several(tag: str) -> Chart:
    """One chart of ``tag`` and of what stands below it."""
    return "Multiline", [f"^{tag}(/.*)?$"]


def below(tag: str) -> Chart:
    return starting(f"{tag}/")


def starting(tag: str) -> Chart:
    return "Multiline", [f"^{tag}"]


def spread(tag: str) -> Chart:
    """The largest, the median and the smallest value over layers."""
    return "Multiline", [rf"^{tag}/\[({'|'.join(SPREAD)})"]


def whole(tag: str) -> Chart:
    """All layers as one."""
    return "Multiline", [rf"^{tag}/\[all"]
