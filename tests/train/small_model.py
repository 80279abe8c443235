"""A small model with BatchNorm, which trainings find by its name, ``small_norms``.

Its last BatchNorm sees one value of each image and channel, as those of many large models do.
"""

from torch import nn
from torchvision import models
from torchvision.models._api import register_model


def small_norms(num_classes):
    """For images of 28 x 28 in colour."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, stride=3), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 16, 3, stride=3), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32), nn.ReLU()),
        nn.Flatten(),
        nn.Linear(32, num_classes),
    )


# Trainings know the models that torchvision lists as its own, and it lists them by their modules.
small_norms.__module__ = f"{models.__name__}.{small_norms.__name__}"
register_model()(small_norms)
