"""The textbook's optimizers: the names of ``optimizers``, with other arithmetic and defaults.

K. Saito, "Deep Learning from Scratch", O'Reilly Japan 2016, chapter 6.
"""

import math

import numpy as np

from .checks import Array
from .optimizers import Betas, Formula, Optimizer, State, count_step


def sgd(param: Array, grad: Array, state: State, *, lr: float) -> None:
    """``p -= lr g``."""
    param -= lr * grad


def momentum(param: Array, grad: Array, state: State, *, lr: float, momentum: float) -> None:
    """``v = mu v - lr g``; ``p += v``."""
    v = state.setdefault("momentum_buffer", np.zeros_like(param))
    v[...] = momentum * v - lr * grad
    param += v


def nesterov(param: Array, grad: Array, state: State, *, lr: float, momentum: float) -> None:
    """``p += mu mu v - (1 + mu) lr g``; then ``v = mu v - lr g``."""
    v = state.setdefault("momentum_buffer", np.zeros_like(param))
    param += momentum * momentum * v - (1 + momentum) * lr * grad
    v[...] = momentum * v - lr * grad


def adagrad(param: Array, grad: Array, state: State, *, lr: float, eps: float) -> None:
    """``h += g g``; ``p -= lr g / (sqrt(h) + eps)``."""
    count_step(state)
    h = state.setdefault("sum", np.zeros_like(param))
    h += grad * grad
    param -= lr * grad / (np.sqrt(h) + eps)


def rmsprop(
    param: Array, grad: Array, state: State, *, lr: float, alpha: float, eps: float
) -> None:
    """``h = d h + (1 - d) g g``; ``p -= lr g / (sqrt(h) + eps)``."""
    count_step(state)
    h = state.setdefault("square_avg", np.zeros_like(param))
    h[...] = alpha * h + (1 - alpha) * grad * grad
    param -= lr * grad / (np.sqrt(h) + eps)


def adam(param: Array, grad: Array, state: State, *, lr: float, betas: Betas, eps: float) -> None:
    """``lr_t = lr sqrt(1 - b2^t) / (1 - b1^t)``; ``m = b1 m + (1 - b1) g``;
    ``v = b2 v + (1 - b2) g g``; ``p -= lr_t m / (sqrt(v) + eps)``.
    """
    beta1, beta2 = betas
    t = count_step(state)
    lr_t = lr * math.sqrt(1 - beta2**t) / (1 - beta1**t)
    m = state.setdefault("exp_avg", np.zeros_like(param))
    v = state.setdefault("exp_avg_sq", np.zeros_like(param))
    m[...] = beta1 * m + (1 - beta1) * grad
    v[...] = beta2 * v + (1 - beta2) * grad * grad
    param -= lr_t * m / (np.sqrt(v) + eps)


class SGD(Optimizer):
    """Stochastic gradient descent (H. Robbins, S. Monro, 1951)."""

    formula: Formula = staticmethod(sgd)

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__({"lr": lr})


class Momentum(Optimizer):
    """Gradient descent with momentum (B. Polyak, 1964)."""

    formula: Formula = staticmethod(momentum)

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        super().__init__({"lr": lr, "momentum": momentum})


class Nesterov(Optimizer):
    """Nesterov's accelerated gradient (Y. Nesterov, 1983; Y. Bengio et al., 2012)."""

    formula: Formula = staticmethod(nesterov)

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        super().__init__({"lr": lr, "momentum": momentum})


class AdaGrad(Optimizer):
    """AdaGrad (J. Duchi, E. Hazan, Y. Singer, 2011)."""

    formula: Formula = staticmethod(adagrad)

    def __init__(self, lr: float = 0.01, eps: float = 1e-7) -> None:
        super().__init__({"lr": lr, "eps": eps})


class RMSprop(Optimizer):
    """RMSprop (T. Tieleman, G. Hinton, 2012)."""

    formula: Formula = staticmethod(rmsprop)

    def __init__(self, lr: float = 0.01, alpha: float = 0.99, eps: float = 1e-7) -> None:
        super().__init__({"lr": lr, "alpha": alpha, "eps": eps})


class Adam(Optimizer):
    """Adam (D. Kingma, J. Ba, 2015)."""

    formula: Formula = staticmethod(adam)

    def __init__(self, lr: float = 0.001, betas: Betas = (0.9, 0.999), eps: float = 1e-7) -> None:
        super().__init__({"lr": lr, "betas": betas, "eps": eps})
