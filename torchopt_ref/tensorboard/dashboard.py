"""TensorBoard's custom dashboard: the charts a person looks at first, in that order."""

from __future__ import annotations

from collections.abc import Sequence

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import summary

BAND = "update to weight/rule of thumb"
LOW, HIGH = 10**-3.5, 10**-2.5
"""The rule of thumb for ``|u| / |theta|``, 1e-3, as a band half a decade to each side."""


def band() -> dict[str, float]:
    """The band's edges, as points of constant curves, which is what a margin chart takes."""
    return {f"{BAND} low": LOW, f"{BAND} high": HIGH}


def layout(names: Sequence[str]) -> list[Summary.Value]:
    """The dashboard of a run with optimizers of these names, the only one's being empty."""
    medians = [f"update to weight/(median{f' of {name}' if name else ''})" for name in names]
    margins = {
        f"update to weight, median of layers, with 1e-3 as a band{f' ({name})' if name else ''}": (
            "Margin",
            [median, f"{BAND} low", f"{BAND} high"],
        )
        for name, median in zip(names, medians, strict=True)
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
                    "update to weight, by layer": below("update to weight"),
                    "effective step, by layer": below("effective step"),
                },
                "Do gradients arrive?": {
                    "gradient norm, by layer": below("gradient norm"),
                    "gradient std at the activations": below("activation gradient std"),
                    "gradient cosine between steps": below("gradient cosine"),
                    "gradient noise scale (samples)": below("gradient noise scale"),
                    "gradient carried over from the step before": several("gradient carried over"),
                },
                "Are the layers alive?": {
                    "dead units": below("dead units"),
                    "saturated": below("saturated"),
                    "activation std": below("activation std"),
                    "batch norm mean shift": below("batch norm mean shift"),
                    "dropout keep rate": below("dropout keep rate"),
                },
                "Is it computed well?": {
                    "parity drift (ULP)": below("parity drift"),
                    "step time (ms)": below("step time"),
                    "samples per second": below("speed"),
                    "memory (MiB)": below("memory"),
                },
            }
        ).value
    )


def several(tag: str) -> tuple[str, list[str]]:
    """One chart of ``tag`` and of what stands below it."""
    return "Multiline", [f"^{tag}(/.*)?$"]


def below(tag: str) -> tuple[str, list[str]]:
    return "Multiline", [f"^{tag}/"]
