"""Training an image classifier, from a laptop to many GPUs: ``torchopt-ref train``.

``loop`` is the training, from top to bottom; ``config`` its options, ``options`` where they come
from, ``setup`` what it is made of. Parts: ``models``, ``surgery`` (our layers in any model),
``sources``, ``image_folder`` and ``data`` (images, augmentation, order), ``optimizers``, ``passes``
(batches through the model), ``state`` (all that a checkpoint holds), ``checkpoints``,
``sharded_checkpoints``, ``not_finite``, ``stopping`` (signals), ``distributed`` (torchrun's
processes), ``sharding``, ``memory`` and ``description`` (the dry run), ``curves``, ``monitoring``,
``display``, ``profiling``; ``rehearsal`` (optimizer and schedule tried before the training).
"""

from typing import TYPE_CHECKING, Any

from .config import Config

if TYPE_CHECKING:
    from .loop import train

__all__ = ["Config", "train"]


def __getattr__(name: str) -> Any:
    """``train`` when it is first asked for: options are read and explained without torch."""
    if name != "train":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .loop import train

    return train
