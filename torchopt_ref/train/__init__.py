"""Training an image classifier, from a laptop to many GPUs: ``torchopt-ref train``.

``loop`` is the training, from top to bottom; ``config`` its options, ``options`` where they come
from, ``setup`` what it is made of. Parts: ``models``, ``surgery`` (our layers in any model),
``sources``, ``image_folder`` and ``data`` (images, augmentation, order), ``optimizers``, ``passes``
(batches through the model), ``state`` (all that a checkpoint holds), ``checkpoints``,
``sharded_checkpoints``, ``not_finite``, ``stopping`` (signals), ``distributed`` (torchrun's
processes), ``sharding``, ``memory`` and ``description`` (the dry run), ``curves``, ``monitoring``,
``display``, ``profiling``; ``rehearsal`` (optimizer and schedule tried before the training).

``range_test`` tests learning rates, in any loop, ``range_figure`` draws what it found, ``restored``
undoes it; ``find_lr`` makes such a test of a training.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .config import Config

if TYPE_CHECKING:
    from .loop import train
    from .range_test import LRRange, lr_range_test

__all__ = ["Config", "LRRange", "lr_range_test", "train"]
HOMES = {"train": ".loop", "LRRange": ".range_test", "lr_range_test": ".range_test"}


def __getattr__(name: str) -> Any:
    """The rest when it is first asked for: options are read and explained without torch."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOMES[name], __name__), name)
