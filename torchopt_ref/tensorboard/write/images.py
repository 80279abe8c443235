"""Figures for classifiers: the confusion matrix, and images that were taken for another class."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import torch
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor

from ..measure.logged import is_class

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 12


def png(tag: str, figure: Figure) -> Summary.Value:
    data = BytesIO()
    figure.savefig(data, format="png", dpi=90)
    width, height = (int(90 * inches) for inches in figure.get_size_inches())
    image = Summary.Image(
        height=height, width=width, colorspace=4, encoded_image_string=data.getvalue()
    )
    return Summary.Value(tag=tag, image=image)


def confusion_figure(counts: Tensor) -> Figure:
    """Rows are the true classes, columns the predicted ones; colours are fractions of a row.

    Ten classes make a figure as wide as TensorBoard's card, so that its numbers are not scaled.
    """
    from matplotlib.figure import Figure

    matrix = counts.cpu().double().numpy()
    shares = matrix / matrix.sum(1, keepdims=True).clip(1)
    classes = len(matrix)
    side = min(max(2.5, 0.39 * classes), 12)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot(xlabel="predicted class", ylabel="true class")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if classes <= 20:
        axes.set_xticks(range(classes))
        axes.set_yticks(range(classes))
        for i, j in np.ndindex(matrix.shape):
            colour = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, f"{matrix[i, j]:.0f}", ha="center", va="center", color=colour, size=8)
    return figure


class WrongOnes:
    """Up to 12 images of one batch that were taken for another class."""

    def __init__(self, images: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> None:
        self.images, self.true, self.predicted = images, true, predicted

    @classmethod
    @torch.no_grad()
    def of(cls, input: Tensor, predicted: Tensor, labels: Tensor, classes: int) -> WrongOnes | None:
        """``None`` if the input is no batch of images, or nothing was wrong."""
        images = as_images(input)
        if images is None or predicted.dim() != 1 or len(images) != len(predicted):
            return None
        wrong = (is_class(labels, classes) & (predicted != labels)).nonzero()[:SHOWN, 0]
        if not len(wrong):
            return None
        return cls(
            images[wrong.to(images.device)].float().cpu().double().numpy(),
            labels[wrong].cpu().numpy(),
            predicted[wrong].cpu().numpy(),
        )

    def figure(self) -> Figure:
        from matplotlib.figure import Figure

        columns = 3
        rows = -(-len(self.images) // columns)
        figure = Figure(figsize=(1.3 * columns, 1.5 * rows), layout="constrained")
        for i, image in enumerate(self.images):
            axes = figure.add_subplot(rows, columns, i + 1)
            low, high = image.min(), image.max()
            axes.imshow((image - low) / max(high - low, 1e-12), cmap="gray", vmin=0, vmax=1)
            axes.set_title(f"{self.true[i]}, taken for {self.predicted[i]}", size=8)
            axes.axis("off")
        return figure


def as_images(input: Tensor) -> Tensor | None:
    """``(batch, height, width)``, with colours a last ``3``; a flat square is a grey image."""
    if input.dim() == 4 and input.shape[1] in (1, 3):
        moved = input.movedim(1, -1)
        return moved[..., 0] if input.shape[1] == 1 else moved
    if input.dim() == 3 and input.shape[1] == input.shape[2]:
        return input
    side = int(input[0].numel() ** 0.5) if input.dim() == 2 and len(input) else 0
    if side >= 8 and side * side == input.shape[1]:
        return input.reshape(len(input), side, side)
    return None
