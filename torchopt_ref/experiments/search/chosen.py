"""The chosen setting, trained and tested: the one place where a search reads test data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..lab.results import Outcome
from ..lab.sides import one_thread
from .objective import Objective

if TYPE_CHECKING:
    from .config import Config


def tested(
    params: dict[str, float], objective: Objective, config: Config, monitor: Path | None
) -> dict[tuple[str, int], Outcome]:
    """Train with the chosen setting from each seed's initial weights; then read the test data.

    The outcome of each seed under ``("chosen", seed)``. Raises ``UserError`` if the test data
    cannot be read. ``monitor`` is that of ``Engine.monitored``, for the first seed.
    """
    trained = {}
    with one_thread():
        for seed in config.all_seeds:
            repeated = replace(objective, recipe=config.recipe(seed))
            engine = repeated.recipe.engine(**params)
            with engine.monitored(monitor if seed == config.seed else None):
                trained[seed] = engine, repeated.train(engine) | {"params": params}
        images, labels = config.split("test")
        for engine, outcome in trained.values():
            outcome["torch"]["numbers"] |= {
                "test_accuracy": engine.accuracy(images, labels),
                "validation_images": len(objective.parts.validation_labels),
                "test_images": len(labels),
            }
    return {("chosen", seed): outcome for seed, (_, outcome) in trained.items()}
