"""Training an image classifier, from a laptop to many GPUs: ``torchopt-ref train``.

``loop`` is the training, from top to bottom. Its parts:

- ``config`` its options, ``options`` where they come from, ``setup`` what is made of them,
  ``command`` the exit status
- ``models``, ``surgery`` (our layers in any model), ``data/`` (images), ``optimizers`` (and their
  schedules), ``rehearsal`` (both tried before the training), ``passes`` (batches through the model)
- ``state`` (all that a checkpoint holds), ``checkpoints/``, ``looks`` (sums over the processes),
  ``not_finite``, ``stopping`` (signals), ``distributed`` (torchrun's processes), ``sharding``
- ``memory`` (how much a step needs), ``output/`` (what a person or a program sees), ``warning``
- ``range_test/`` (learning rates tested in any loop), ``find_lr`` (such a test of a training)
"""

from typing import TYPE_CHECKING

from torchopt_ref.on_demand import on_demand

from .config import (
    Config,
    DataOptions,
    DeviceOptions,
    ModelOptions,
    OptimizerOptions,
    RunOptions,
    ScheduleOptions,
)

if TYPE_CHECKING:
    from .loop import train
    from .range_test import LRRange, lr_range_test

__all__ = [
    "Config",
    "DataOptions",
    "DeviceOptions",
    "LRRange",
    "ModelOptions",
    "OptimizerOptions",
    "RunOptions",
    "ScheduleOptions",
    "lr_range_test",
    "train",
]
# Options are read and explained without torch.
__getattr__ = on_demand(
    __name__, {"train": ".loop", "LRRange": ".range_test", "lr_range_test": ".range_test"}
)
