"""Open a data set: its parts as batches, and the inputs and classes for a model.

This imports torchvision, which imports torch's compiler, which takes longer than torch itself.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from torchopt_ref.errors import UserError

from ..config import Config
from ..distributed import Processes
from ..models import is_own
from .batches import Batches
from .image_folder import ImageFolder, check_same_classes
from .images import Images, Subset
from .sources import (
    MEAN_AND_STD,
    open_images,
    usual_augmentation,
    usual_crop,
    usual_normalisation,
)
from .splits import Data


def open_data(config: Config, device: torch.device, processes: Processes) -> Data:
    """The parts of the data set that ``config`` names.

    Raises:
        UserError: an unknown data set, files that are missing or corrupt, a ``validation`` or a
            ``batch_size`` that leaves nothing to train on.
    """
    options, batch_size, seed = config.data, config.optimizer.batch_size, config.run.seed
    everything, classes = open_images(options, "train")
    test, classes_of_test = open_images(options, "test")
    check_same_classes(classes, classes_of_test)
    facts: dict[str, Any] = {"classes": classes, "training images": len(everything)}
    if isinstance(everything, ImageFolder):
        facts["digest of their names"] = everything.digest()
    held_out = round(len(everything) * options.validation)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(everything), generator=generator).tolist()
    validation = Subset(everything, sorted(order[:held_out]))
    train: Images = Subset(everything, sorted(order[held_out:])) if held_out else everything
    if batch_size > len(train):
        raise UserError(f"--batch-size {batch_size}: there are {len(train)} training images")
    batches = partial(
        Batches,
        batch_size=batch_size,
        processes=processes,
        seed=seed,
        workers=options.workers,
        timeout=config.device.timeout,
        pin=device.type == "cuda",
    )
    crop = usual_crop(options)
    in_colour = not is_own(config.model.model) and len(MEAN_AND_STD[options.dataset][0]) == 1
    normalise = usual_normalisation(options, in_colour)
    image = test.take([0])[0][0]
    shape = normalise((image if crop is None else crop(image))[None]).shape[1:]
    return Data(
        train=batches(
            train, usual_augmentation(options) if options.augment else crop, shuffle=True
        ),
        validation=batches(validation, crop, shuffle=False) if held_out else None,
        test=batches(test, crop, shuffle=False),
        normalise=normalise,
        shape=shape,
        classes=len(classes),
        facts=facts,
    )
