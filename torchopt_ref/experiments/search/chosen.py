"""The chosen setting, trained and tested: the one place where a search reads test data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..lab.processes import one_thread
from ..lab.results import Outcome
from .objective import Objective

if TYPE_CHECKING:
    from .config import Config


def tested(
    params: dict[str, float], objective: Objective, config: Config, monitor: Path | None
) -> dict[tuple[str, int], Outcome]:
    """Train with the chosen setting from each seed's initial weights; then read the test data.

    The outcome of each seed under ``("chosen", seed)``. Raises ``UserError`` if the test data
    cannot be read. ``monitor`` is that of ``Side.under_monitor``, for the first seed.
    """
    trained = {}
    with one_thread():
        for seed in config.all_seeds:
            repeated = replace(objective, recipe=config.recipe(seed))
            side = repeated.recipe.torch_side(**params)
            with side.under_monitor(monitor if seed == config.seed else None):
                trained[seed] = side, repeated.train(side) | {"params": params}
        images, labels = config.split("test")
        for side, outcome in trained.values():
            outcome["torch"]["numbers"] |= {
                "test_accuracy": side.accuracy(images, labels),
                "validation_images": len(objective.parts.validation_labels),
                "test_images": len(labels),
            }
    return {("chosen", seed): outcome for seed, (_, outcome) in trained.items()}
