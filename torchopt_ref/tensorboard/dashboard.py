"""TensorBoard's custom dashboard: the charts a person looks at first, in that order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tensorboard.compat.proto.summary_pb2 import Summary
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.tensorboard import summary

from .activations import DYING, SATURATED
from .over_layers import SPREAD

BAND = "update to weight/rule of thumb"
LOW, HIGH = 10**-3.5, 10**-2.5
"""The rule of thumb for ``|u| / |theta|``, 1e-3, as a band half a decade to each side."""


def band() -> dict[str, float]:
    """The band's edges, as points of constant curves, which is what a margin chart takes."""
    return {f"{BAND} low": LOW, f"{BAND} high": HIGH}


def layout(names: Sequence[str], modules: Iterable[nn.Module]) -> list[Summary.Value]:
    """The dashboard of a run with optimizers of these names, the only one's being empty.

    Charts of layers that are not among the ``modules`` are left out.

    TensorBoard gives all curves of a run one colour, so a chart has few of them: those over all
    layers. Each layer's own stand under Time Series.
    """
    medians = [f"update to weight/[median{f' of {name}' if name else ''}]" for name in names]
    margins = {
        f"update to weight, band around 1e-3{f', of {name}' if name else ''}": (
            "Margin",
            [median, f"{BAND} low", f"{BAND} high"],
        )
        for name, median in zip(names, medians, strict=True)
    }
    kinds = tuple({type(module) for module in modules})
    of_layers = {
        title: chart
        for title, chart, kind in (
            ("dead units (fraction), over layers", spread("dead units"), DYING),
            ("saturated (fraction), over layers", spread("saturated"), tuple(SATURATED)),
            ("batch norm mean shift, over layers", spread("batch norm mean shift"), _BatchNorm),
            ("dropout keep rate", below("dropout keep rate"), _DropoutNd),
        )
        if any(issubclass(each, kind) for each in kinds)
    }
    return list(
        summary.custom_scalars(
            {
                "Is it learning?": {
                    "loss": several("loss"),
                    "accuracy": several("accuracy"),
                    "learning rate": below("learning rate"),
                },
                "Are the steps of a good size?": {
                    **margins,
                    "update to weight, over layers": spread("update to weight"),
                    "effective step, of all layers": whole("effective step"),
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
                    **of_layers,
                },
                "Is it fast?": {
                    "step time (ms)": below("step time"),
                    "samples per second": below("speed"),
                    "memory (MiB)": below("memory"),
                },
                "Is it computed exactly?": {
                    "parity drift (ULP)": below("parity drift"),
                },
            }
        ).value
    )


def several(tag: str) -> tuple[str, list[str]]:
    """One chart of ``tag`` and of what stands below it."""
    return "Multiline", [f"^{tag}(/.*)?$"]


def below(tag: str) -> tuple[str, list[str]]:
    return "Multiline", [f"^{tag}/"]


def spread(tag: str) -> tuple[str, list[str]]:
    """The largest, the median and the smallest value over layers."""
    return "Multiline", [rf"^{tag}/\[({'|'.join(SPREAD)})"]


def whole(tag: str) -> tuple[str, list[str]]:
    """All layers as one."""
    return "Multiline", [rf"^{tag}/\[all"]
