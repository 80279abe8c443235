"""The class probabilities that an engine gives, and how good they are."""

import numpy as np
import torch
from torch import nn

from torchopt_ref.nn import mc_dropout

from .lab.sides import Engine, NumpyEngine, TorchEngine

BINS = 15


def probabilities(engine: Engine, x: np.ndarray, passes: int = 0) -> np.ndarray:
    """Class probabilities (N, classes) of x: the mean over ``passes`` with dropout left on.

    With 0 passes dropout is off.
    """
    if isinstance(engine, NumpyEngine):
        network = engine.network
        if passes == 0:
            return softmax(network.predict(x))
        return np.mean([softmax(network.predict(x, train=True)) for _ in range(passes)], axis=0)
    assert isinstance(engine, TorchEngine)
    model = nn.Sequential(engine.twin, nn.Softmax(dim=1)).eval()
    if passes == 0:
        with torch.no_grad():
            return model(engine.tensor(x)).cpu().numpy()
    return mc_dropout(model, engine.tensor(x), passes).mean.cpu().numpy()


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def quality(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Measures of probabilities (N, classes) for labels (N).

    ``accuracy``: the fraction of labels with the largest probability. ``nll``: the mean of
    ``-log p(label)``. ``ece``: the expected calibration error, in which each of 15 equal bins of
    confidence, the largest probability, counts with its number of images times the difference of
    its mean confidence and its accuracy (C. Guo and others, "On Calibration of Modern Neural
    Networks", ICML 2017).
    """
    # A softmax may round a probability to 0.
    smallest = np.finfo(probabilities.dtype).tiny
    probabilities = probabilities.astype(np.float64)
    of_labels = probabilities[np.arange(len(labels)), labels]
    confidence = probabilities.max(axis=1)
    hits = probabilities.argmax(axis=1) == labels
    nll = -np.log(np.maximum(of_labels, smallest)).mean()
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    excess = np.bincount(bins, weights=confidence - hits, minlength=BINS)
    return {
        "accuracy": float(hits.mean()),
        "nll": float(nll),
        "ece": float(np.abs(excess).sum() / len(labels)),
    }
