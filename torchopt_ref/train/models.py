"""The models that a training knows by name."""

from __future__ import annotations

from torch import nn

from torchopt_ref.errors import UserError, unknown

OWN = ("mlp", "cnn")


def is_own(name: str) -> bool:
    """Whether the model is one of this file, which takes images of any number of channels."""
    return name in OWN


def model_by_name(name: str, image: tuple[int, int, int], classes: int) -> nn.Module:
    """The model ``name`` for images of the shape (channels, height, width), with new weights.

    Raises:
        UserError: an unknown name, or images that the model cannot take.
    """
    if name == "mlp":
        return mlp(image, classes)
    if name == "cnn":
        return cnn(image, classes)
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise unknown("model", name, [*OWN, *known])
    # By default these two train auxiliary outputs, and are slow to draw their initial weights.
    plain = {"aux_logits": False, "init_weights": False}
    options = plain if name in ("googlenet", "inception_v3") else {}
    return models.get_model(name, num_classes=classes, **options)


def mlp(image: tuple[int, int, int], classes: int) -> nn.Module:
    """Three hidden layers of 100 ReLU units."""
    channels, height, width = image
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * height * width, 100),
        nn.ReLU(),
        nn.Linear(100, 100),
        nn.ReLU(),
        nn.Linear(100, 100),
        nn.ReLU(),
        nn.Linear(100, classes),
    )


def cnn(image: tuple[int, int, int], classes: int) -> nn.Module:
    """Two convolutions with pooling, a hidden layer with dropout: 0.2 M parameters on MNIST."""
    channels, height, width = image
    if min(height, width) < 4:
        raise UserError(f"the model cnn needs images of 4 x 4 or more, not {height} x {width}")
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (width // 4), 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, classes),
    )
