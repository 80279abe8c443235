"""Images for TensorBoard: how the pictures of a classifier are drawn."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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


def images_figure(images: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> Figure:
    """Images that were taken for another class."""
    from matplotlib.figure import Figure

    columns = 3
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.3 * columns, 1.5 * rows))
    for i, image in enumerate(images):
        # Placed by hand, without ticks: a layout that matplotlib finds takes three times as long.
        row, column = divmod(i, columns)
        left, bottom = (column + 0.04) / columns, (rows - row - 0.97) / rows
        place = (left, bottom, 0.92 / columns, 0.8 / rows)
        axes = figure.add_axes(place, xticks=(), yticks=(), frame_on=False)
        low, high = image.min(), image.max()
        axes.imshow((image - low) / max(high - low, 1e-12), cmap="gray", vmin=0, vmax=1)
        axes.set_title(f"{true[i]}, taken for {predicted[i]}", size=8, y=1, pad=3)
    return figure
