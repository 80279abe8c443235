"""Layers: ``forward`` computes the output, ``backward`` the gradients, derived by hand.

``forward(x, train=True)``, for SoftmaxWithLoss ``forward(x, t)``, keeps what ``backward`` needs;
``train`` matters to BatchNormalization and Dropout only. ``backward(dout)`` takes the gradient of
the loss with respect to the output of the last ``forward`` and returns the gradient with respect to
the input of that ``forward``; a layer with parameters puts their gradients into ``grads``. N is the
size of the batch. Everything has the dtype of the inputs, which must be floating point: another
dtype raises ``TypeError``. A shape that does not fit raises ``ValueError``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import Array, Labels, class_labels, floating, probability, shaped

if TYPE_CHECKING:  # the reference itself needs nothing but NumPy
    from typing_extensions import Unpack

Shape = tuple[int, ...]
Mask = NDArray[np.bool_]
Gradients = dict[str, Array]
Draw = Callable[[Shape], Mask]
Scaling = Literal["inverted", "inference"]
Convention = Literal["torch", "book"]


def upstream(dout: ArrayLike, shape: Shape) -> Array:
    """``dout``, if it is floating point and has the shape of the output."""
    return shaped(floating(dout, "dout"), shape, "dout")


class Affine:
    """``y = x W + b`` with x (N, in), W (in, out), b (out).

    ``dx = dy W^T``, ``dW = x^T dy``, ``db`` = the sum of ``dy`` over the batch.
    """

    x: Array
    grads: Gradients

    def __init__(self, W: ArrayLike, b: ArrayLike) -> None:
        self.W: Array = floating(W, "W")
        self.b: Array = floating(b, "b")
        if self.W.ndim != 2:
            raise ValueError(f"W must be (in, out), but has the shape {self.W.shape}")
        shaped(self.b, self.W.shape[1:], "b")

    def forward(self, x: Array, train: bool = True) -> Array:
        self.x = shaped(floating(x, "x"), (len(x), len(self.W)), "x")
        return self.x @ self.W + self.b

    def backward(self, dout: Array) -> Array:
        dout = upstream(dout, (len(self.x), len(self.b)))
        self.grads = {"W": self.x.T @ dout, "b": dout.sum(axis=0)}
        return dout @ self.W.T


class Sigmoid:
    """``y = 1 / (1 + exp(-x))``; ``dx = dy (1 - y) y``."""

    y: Array

    def forward(self, x: Array, train: bool = True) -> Array:
        x = floating(x, "x")
        e = np.exp(-np.abs(x))  # never above 1: exp(-x) would overflow for large negative x
        self.y = np.where(x >= 0, 1, e) / (1 + e)
        return self.y

    def backward(self, dout: Array) -> Array:
        return upstream(dout, self.y.shape) * (1 - self.y) * self.y


class Tanh:
    """``y = tanh(x)``; ``dx = dy (1 - y^2)``."""

    y: Array

    def forward(self, x: Array, train: bool = True) -> Array:
        self.y = np.tanh(floating(x, "x"))
        return self.y

    def backward(self, dout: Array) -> Array:
        return upstream(dout, self.y.shape) * (1 - self.y * self.y)


class Relu:
    """``y = max(x, 0)``; ``dx = 0`` where ``x <= 0``, else ``dy``, so also where x is NaN."""

    off: Mask

    def forward(self, x: Array, train: bool = True) -> Array:
        x = floating(x, "x")
        self.off = x <= 0
        return np.maximum(x, 0)

    def backward(self, dout: Array) -> Array:
        return np.where(self.off, 0, upstream(dout, self.off.shape))


class SoftmaxWithLoss:
    """Softmax and the mean cross entropy, in one layer: ``loss = -mean(log softmax(x)[t])``.

    x (N, classes) are the logits, t the labels: integers (N), or one-hot rows (N, classes) of any
    dtype; soft ones are refused. ``log softmax(x) = x - max - log(sum(exp(x - max)))`` is finite
    for any finite x, unless ``x - max`` itself overflows.
    ``dx = (softmax(x) - onehot(t)) / N``.
    """

    labels: Labels
    rows: Labels
    log_p: Array

    def forward(self, x: Array, t: ArrayLike) -> np.floating:
        x = floating(x, "x")
        if x.ndim != 2 or x.size == 0:
            raise ValueError(f"x must be logits (N, classes), but has the shape {x.shape}")
        self.labels = class_labels(t, x)
        self.rows = np.arange(len(x))
        shifted = x - x.max(axis=1, keepdims=True)
        self.log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return -self.log_p[self.rows, self.labels].mean()

    def backward(self, dout: float = 1) -> Array:
        shaped(dout, (), "dout")
        dx = np.exp(self.log_p)
        dx[self.rows, self.labels] -= 1
        dx *= dout / len(dx)
        return dx


class BatchNormOptions(TypedDict, total=False):
    """Options of :class:`BatchNormalization` whose defaults depend on its convention."""

    momentum: float | None
    eps: float


BATCHNORM_DEFAULTS: dict[Convention, BatchNormOptions] = {
    "torch": {"momentum": 0.1, "eps": 1e-5},
    "book": {"momentum": 0.9, "eps": 1e-6},
}


class BatchNormalization:
    """``y = gamma xhat + beta`` with ``xhat = (x - mean) / sqrt(var + eps)``, per channel.

    S. Ioffe, C. Szegedy, 2015. ``x`` is (N, C) or (N, C, ...); gamma and beta are (C). In
    training, ``mean`` and ``var`` are computed from the M values of a channel in the batch, ``var``
    being the biased variance (divided by M), and the running statistics move towards them. In
    evaluation, ``mean`` and ``var`` are the running statistics. There are two conventions for the
    running statistics and for the defaults:

    ``"torch"``
        ``running = (1 - momentum) running + momentum batch``. The running mean starts at 0, the
        running variance at 1 and follows the unbiased variance (divided by M - 1; M < 2 raises
        ``ValueError``). ``momentum=0.1``, ``eps=1e-5``. With ``momentum=None`` the running
        statistics are the average over all batches so far.
    ``"book"``
        ``running = momentum running + (1 - momentum) batch``. Running mean and variance start at 0;
        the variance is biased. ``momentum=0.9``, ``eps=1e-6`` (printed ``10e-7``). K. Saito,
        "Deep Learning from Scratch", O'Reilly Japan 2016, section 6.3; the book's code treats every
        pixel as a channel.

    Backward, simplified closed form, the sums being over the M values of a channel::

        dbeta  = sum(dy)
        dgamma = sum(dy xhat)
        dx     = gamma / std / M (M dy - dbeta - xhat dgamma),    std = sqrt(var + eps)

    It follows from the graph in ``backward_by_graph``: put ``dxhat = gamma dy`` and
    ``centred = std xhat`` into
    ``dcentred = dxhat / std - centred sum(dxhat centred) / (M std^3)`` to get
    ``dcentred = gamma / std (dy - xhat dgamma / M)``; then subtract its mean, where
    ``mean(xhat) = 0``. With running statistics, which do not depend on x, ``dx = gamma / std dy``.
    """

    shape: Shape
    axes: Shape
    M: int
    train: bool
    centred: Array
    std: Array
    xhat: Array
    grads: Gradients

    def __init__(
        self,
        gamma: ArrayLike,
        beta: ArrayLike,
        *,
        convention: Convention = "torch",
        **given: Unpack[BatchNormOptions],
    ) -> None:
        if convention not in BATCHNORM_DEFAULTS:
            raise ValueError(
                f"BatchNormalization has no convention {convention!r}: choose from "
                + ", ".join(map(repr, BATCHNORM_DEFAULTS))
            )
        hyper = BATCHNORM_DEFAULTS[convention] | given
        self.momentum: float | None = hyper.pop("momentum")
        self.eps: float = float(hyper.pop("eps"))
        if hyper:
            raise TypeError("BatchNormalization has no option " + ", ".join(map(repr, hyper)))
        if convention == "book" and self.momentum is None:
            raise ValueError("momentum=None exists in the 'torch' convention only")
        gamma = floating(gamma, "gamma")
        self.gamma: Array = shaped(gamma, (gamma.size,), "gamma")
        self.beta: Array = shaped(floating(beta, "beta"), gamma.shape, "beta")
        self.convention: Convention = convention
        self.running_mean: Array = np.zeros_like(gamma)
        self.running_var: Array = np.full_like(gamma, 1 if convention == "torch" else 0)
        self.num_batches_tracked: int = 0

    def forward(self, x: Array, train: bool = True) -> Array:
        x = floating(x, "x")
        if x.ndim < 2 or x.shape[1] != len(self.gamma):
            raise ValueError(f"x must have {len(self.gamma)} channels, but has the shape {x.shape}")
        self.shape = x.shape
        x = np.moveaxis(x, 1, -1)  # channels last, where an array of shape (C) broadcasts
        self.axes = tuple(range(x.ndim - 1))
        self.M = x.size // x.shape[-1]
        self.train = train
        if train:
            least = 2 if self.convention == "torch" else 1
            if self.M < least:
                raise ValueError(f"training needs {least} or more values per channel, got {self.M}")
            mean = x.mean(axis=self.axes)
            centred = x - mean
            # The residue is 0 but for rounding. That rounding matters if the mean is much larger
            # than the standard deviation. In that case mean(x^2) - mean^2 would lose most digits,
            # so the variance is not computed that way.
            residue = centred.mean(axis=self.axes)
            self.centred = centred - residue
            squares = (self.centred * self.centred).sum(axis=self.axes)
            var = squares / self.M
            self._track(mean + np.where(np.isfinite(residue), residue, 0), squares)
        else:
            self.centred, var = x - self.running_mean, self.running_var
        self.std = np.sqrt(var + self.eps)
        self.xhat = self.centred / self.std
        return np.moveaxis(self.gamma * self.xhat + self.beta, -1, 1)

    def _track(self, mean: Array, squares: Array) -> None:
        self.num_batches_tracked += 1
        momentum = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        if self.convention == "torch":
            keep, new, var = 1 - momentum, momentum, squares / (self.M - 1)
        else:
            keep, new, var = momentum, 1 - momentum, squares / self.M
        self.running_mean[...] = keep * self.running_mean + new * mean
        self.running_var[...] = keep * self.running_var + new * var

    def backward(self, dout: Array) -> Array:
        dout = np.moveaxis(upstream(dout, self.shape), 1, -1)
        dbeta = dout.sum(axis=self.axes)
        dgamma = (dout * self.xhat).sum(axis=self.axes)
        self.grads = {"gamma": dgamma, "beta": dbeta}
        if self.train:
            dx = self.gamma / self.std / self.M * (self.M * dout - dbeta - self.xhat * dgamma)
        else:
            dx = self.gamma / self.std * dout
        return np.moveaxis(dx, -1, 1)

    def backward_by_graph(self, dout: Array) -> Array:
        """The same gradients, one node of the computational graph after the other.

        After F. Kratzert, "Understanding the backward pass through Batch Normalization Layer",
        2016. The nodes of the forward pass are numbered; a comment in the code names the node
        whose derivative is computed there::

            1  mean = sum(x) / M           5  std  = sqrt(var + eps)
            2  centred = x - mean          6  inverse = 1 / std
            3  square = centred^2          7  xhat = centred inverse
            4  var = sum(square) / M       8  scaled = gamma xhat
                                           9  y = scaled + beta

        What was broadcast forward is summed backward, and the reverse; where a value was used
        twice (x in 1 and 2, centred in 3 and 7) its gradients add up.
        """
        dscaled = np.moveaxis(upstream(dout, self.shape), 1, -1)  # 9
        dbeta = dscaled.sum(axis=self.axes)  # 9
        dgamma = (dscaled * self.xhat).sum(axis=self.axes)  # 8
        self.grads = {"gamma": dgamma, "beta": dbeta}
        dxhat = dscaled * self.gamma  # 8
        dcentred = dxhat / self.std  # 7
        if not self.train:
            return np.moveaxis(dcentred, -1, 1)
        dinverse = (dxhat * self.centred).sum(axis=self.axes)  # 7
        dstd = -dinverse / (self.std * self.std)  # 6
        dvar = dstd / (2 * self.std)  # 5
        dsquare = dvar / self.M  # 4
        dcentred = dcentred + 2 * self.centred * dsquare  # 3
        dmean = -dcentred.sum(axis=self.axes)  # 2
        dx = dcentred + dmean / self.M  # 2 and 1
        return np.moveaxis(dx, -1, 1)


class Dropout:
    """Drop each element with probability ``p`` (N. Srivastava and others, 2014).

    ========================  ==========================  =================
    ``scaling``               training                    else
    ========================  ==========================  =================
    ``"inverted"``, torch's   ``y = x mask / (1 - p)``    ``y = x``
    ``"inference"``, the      ``y = x mask``              ``y = x (1 - p)``
    textbook's
    ========================  ==========================  =================

    ``dx`` is ``dy`` times the same factor. ``draw(shape)`` returns the mask, a boolean array, True
    where an element is kept: :func:`keep_mask` makes such a function. ``p = 1`` gives zeros. Raises
    ``ValueError`` for a ``p`` outside [0, 1] or an unknown ``scaling``.
    """

    shape: Shape
    mask: Mask
    factor: float

    def __init__(self, p: float, draw: Draw, scaling: Scaling = "inverted") -> None:
        keep = 1 - probability(p)
        factors = {"inverted": (1 / keep if keep else 0.0, 1.0), "inference": (1.0, keep)}
        if scaling not in factors:
            raise ValueError(
                f"Dropout has no scaling {scaling!r}: choose from " + ", ".join(map(repr, factors))
            )
        self.train_factor: float = factors[scaling][0]
        self.eval_factor: float = factors[scaling][1]
        self.p: float = p
        self.draw: Draw = draw
        self.scaling: Scaling = scaling

    def forward(self, x: Array, train: bool = True) -> Array:
        x = floating(x, "x")
        self.shape = x.shape
        self.mask = np.ones(x.shape, bool)
        if train:
            self.mask = shaped(self.draw(x.shape), x.shape, "a mask")
            if self.mask.dtype != bool:
                raise TypeError(f"a mask must be bool, not {self.mask.dtype}")
        self.factor = self.train_factor if train else self.eval_factor
        return x * self.mask * self.factor

    def backward(self, dout: Array) -> Array:
        return upstream(dout, self.shape) * self.mask * self.factor


def keep_mask(p: float, rng: np.random.Generator) -> Draw:
    """A ``draw`` for :class:`Dropout` from a ``numpy.random.Generator``."""
    probability(p)
    return lambda shape: rng.random(shape) >= p
