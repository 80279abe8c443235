"""Optax' optimizers: Optax' arithmetic and defaults, the option names of ``optimizers``.

Optax has no default for the learning rate; 0.001 is ours.
"""

import numpy as np

from .checks import Array
from .optimizers import Betas, Formula, Optimizer, State, count_step


def corrected(moment: Array, beta: float, t: int, x64: bool) -> Array:
    """``moment / (1 - beta^t)``, where the divisor has the precision of ``moment``.

    With ``x64`` the divisor is computed in float64 and rounded; XLA then multiplies a float32
    moment by the reciprocal of the divisor instead of dividing it.
    """
    number = moment.dtype.type
    wide = np.float64 if x64 else number
    divisor = number(1 - wide(beta) ** wide(t))
    if x64 and number is np.float32:
        return moment * (1 / divisor)
    return moment / divisor


def sgd(
    param: Array, grad: Array, state: State, *, lr: float, momentum: float, nesterov: bool
) -> None:
    """``b = mu b + g``; ``p -= lr b``, Nesterov ``p -= lr (mu b + g)``.

    Without momentum: ``p -= lr g``.
    """
    if momentum != 0:
        b = state.setdefault("momentum_buffer", np.zeros_like(param))
        b[...] = momentum * b + grad
        grad = momentum * b + grad if nesterov else b
    param -= lr * grad


def adagrad(
    param: Array,
    grad: Array,
    state: State,
    *,
    lr: float,
    initial_accumulator_value: float,
    eps: float,
) -> None:
    """``s += g g``; ``p -= lr (1 / sqrt(s + eps)) g`` where ``s > 0``."""
    count_step(state)
    s = state.setdefault("sum", np.full_like(param, initial_accumulator_value))
    s += grad * grad
    param -= lr * (np.where(s > 0, 1 / np.sqrt(s + eps), 0) * grad)


def rmsprop(
    param: Array,
    grad: Array,
    state: State,
    *,
    lr: float,
    alpha: float,
    eps: float,
    initial_scale: float,
    eps_in_sqrt: bool,
    centered: bool,
    momentum: float,
    nesterov: bool,
    bias_correction: bool,
    x64: bool,
) -> None:
    """``s = a s + (1 - a) g g``; ``u = lr (1 / sqrt(s + eps)) g``, without ``eps_in_sqrt``
    ``u = lr (1 / (sqrt(s) + eps)) g``; ``p -= u``.

    Centered: ``s - m m`` under the root, where ``m = a m + (1 - a) g``.
    With ``bias_correction``, ``s`` and ``m`` are first divided by ``1 - a^t``.
    With momentum: ``b = mu b - u``; ``p += b``, Nesterov ``p += mu b - u``.
    """
    t = count_step(state)
    s = state.setdefault("square_avg", np.full_like(param, initial_scale))
    s[...] = alpha * s + (1 - alpha) * (grad * grad)
    variance = corrected(s, alpha, t, x64) if bias_correction else s
    if centered:
        m = state.setdefault("grad_avg", np.zeros_like(param))
        m[...] = alpha * m + (1 - alpha) * grad
        mean = corrected(m, alpha, t, x64) if bias_correction else m
        variance = variance - mean * mean
    scale = 1 / np.sqrt(variance + eps) if eps_in_sqrt else 1 / (np.sqrt(variance) + eps)
    step = lr * (scale * grad)
    if momentum != 0:
        b = state.setdefault("momentum_buffer", np.zeros_like(param))
        b[...] = momentum * b - step
        param += momentum * b - step if nesterov else b
    else:
        param -= step


def adam(
    param: Array,
    grad: Array,
    state: State,
    *,
    lr: float,
    betas: Betas,
    eps: float,
    eps_root: float,
    nesterov: bool,
    x64: bool,
    weight_decay: float = 0,
) -> None:
    """``m = b1 m + (1 - b1) g``; ``v = b2 v + (1 - b2) g g``;
    ``c1 = 1 - b1^t``; ``c2 = 1 - b2^t``;
    ``p -= lr (m / c1 / (sqrt(v / c2 + eps_root) + eps) + wd p)``.

    Nesterov: ``b1 m / c1' + (1 - b1) g / c1`` in place of ``m / c1``, where
    ``c1' = 1 - b1^(t + 1)``.
    """
    beta1, beta2 = betas
    t = count_step(state)
    m = state.setdefault("exp_avg", np.zeros_like(param))
    v = state.setdefault("exp_avg_sq", np.zeros_like(param))
    m[...] = beta1 * m + (1 - beta1) * grad
    v[...] = beta2 * v + (1 - beta2) * (grad * grad)
    mean = corrected(m, beta1, t, x64)
    if nesterov:
        ahead = corrected(m, beta1, t + 1, x64)
        mean = beta1 * ahead + (1 - beta1) * corrected(grad, beta1, t, x64)
    step = mean / (np.sqrt(corrected(v, beta2, t, x64) + eps_root) + eps)
    if weight_decay != 0:
        step = step + weight_decay * param
    param -= lr * step


class SGD(Optimizer):
    """``optax.sgd``."""

    formula: Formula = staticmethod(sgd)

    def __init__(self, lr: float = 0.001, momentum: float = 0, nesterov: bool = False) -> None:
        super().__init__({"lr": lr, "momentum": momentum, "nesterov": nesterov})


class Adagrad(Optimizer):
    """``optax.adagrad``."""

    formula: Formula = staticmethod(adagrad)
    starts: dict[str, str] = {"sum": "initial_accumulator_value"}

    def __init__(
        self, lr: float = 0.001, initial_accumulator_value: float = 0.1, eps: float = 1e-7
    ) -> None:
        start = {"initial_accumulator_value": initial_accumulator_value}
        super().__init__({"lr": lr, "eps": eps} | start)


class RMSprop(Optimizer):
    """``optax.rmsprop``."""

    formula: Formula = staticmethod(rmsprop)
    starts: dict[str, str] = {"square_avg": "initial_scale"}

    def __init__(
        self,
        lr: float = 0.001,
        alpha: float = 0.9,
        eps: float = 1e-8,
        initial_scale: float = 0,
        eps_in_sqrt: bool = True,
        centered: bool = False,
        momentum: float = 0,
        nesterov: bool = False,
        bias_correction: bool = False,
        x64: bool = False,
    ) -> None:
        hyper = {"lr": lr, "alpha": alpha, "eps": eps, "initial_scale": initial_scale}
        form = {"eps_in_sqrt": eps_in_sqrt, "centered": centered, "momentum": momentum}
        form |= {"nesterov": nesterov, "bias_correction": bias_correction, "x64": x64}
        super().__init__(hyper | form)


class Adam(Optimizer):
    """``optax.adam``."""

    formula: Formula = staticmethod(adam)

    def __init__(
        self,
        lr: float = 0.001,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        eps_root: float = 0,
        nesterov: bool = False,
        x64: bool = False,
    ) -> None:
        hyper = {"lr": lr, "betas": betas, "eps": eps, "eps_root": eps_root}
        super().__init__(hyper | {"nesterov": nesterov, "x64": x64})


class AdamW(Optimizer):
    """``optax.adamw``."""

    formula: Formula = staticmethod(adam)

    def __init__(
        self,
        lr: float = 0.001,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        eps_root: float = 0,
        weight_decay: float = 1e-4,
        nesterov: bool = False,
        x64: bool = False,
    ) -> None:
        hyper = {"lr": lr, "betas": betas, "eps": eps, "eps_root": eps_root}
        super().__init__(hyper | {"weight_decay": weight_decay, "nesterov": nesterov, "x64": x64})
