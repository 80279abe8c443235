"""The chosen setting, trained and tested. A search reads test data here and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..lab.processes import one_thread
from ..lab.results import Outcome
from .config import Config
from .objective import Objective


def tested(
    params: dict[str, float], objective: Objective, config: Config, monitor: Path | None
) -> dict[tuple[str, int], Outcome]:
    """Train with the chosen setting from each seed's initial weights; then read the test data.

    The outcome of each seed has the key ``("chosen", seed)``. ``monitor`` is the folder for
    ``Trainer.under_monitor``, which watches the first seed's training. Raises ``UserError`` if the
    test data cannot be read.
    """
    trained = {}
    with one_thread():
        for seed in config.all_seeds:
            repeated = replace(objective, recipe=config.recipe(seed))
            trainer = repeated.recipe.torch_trainer(**params)
            with trainer.under_monitor(monitor if seed == config.seed else None):
                trained[seed] = trainer, repeated.train(trainer) | {"params": params}
        images, labels = config.split("test")
        for trainer, outcome in trained.values():
            outcome["torch"]["numbers"] |= {
                "test_accuracy": trainer.accuracy(images, labels),
                "validation_images": len(objective.data.validation_labels),
                "test_images": len(labels),
            }
    return {("chosen", seed): outcome for seed, (_, outcome) in trained.items()}
