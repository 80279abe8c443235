"""Keras' optimizers: Keras 3's arithmetic and defaults, the option names of ``optimizers``.

The learning rate is float32 for every parameter. Weight decay is decoupled, for every optimizer.
"""

import numpy as np

from .checks import Array
from .optimizers import Betas, Formula, Optimizer, State, count_step


def float32(lr: float) -> float:
    """The learning rate as Keras keeps it."""
    return float(np.float32(lr))


def decay(param: Array, lr: float, weight_decay: float) -> None:
    """``p -= p wd lr``."""
    if weight_decay != 0:
        param -= param * weight_decay * float32(lr)


def sgd(
    param: Array,
    grad: Array,
    state: State,
    *,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    """``v = mu v - lr g``; ``p += v``, Nesterov ``p += mu v - lr g``.

    Without momentum: ``p -= lr g``.
    """
    decay(param, lr, weight_decay)
    lr = float32(lr)
    if momentum != 0:
        v = state.setdefault("momentum_buffer", np.zeros_like(param))
        v[...] = momentum * v - lr * grad
        param += momentum * v - lr * grad if nesterov else v
    else:
        param -= lr * grad


def adagrad(
    param: Array,
    grad: Array,
    state: State,
    *,
    lr: float,
    initial_accumulator_value: float,
    eps: float,
    weight_decay: float,
) -> None:
    """``s += g g``; ``p -= lr g / sqrt(s + eps)``."""
    count_step(state)
    decay(param, lr, weight_decay)
    s = state.setdefault("sum", np.full_like(param, initial_accumulator_value))
    s += grad * grad
    param -= float32(lr) * grad / np.sqrt(s + eps)


def rmsprop(
    param: Array,
    grad: Array,
    state: State,
    *,
    lr: float,
    alpha: float,
    momentum: float,
    eps: float,
    centered: bool,
    weight_decay: float,
) -> None:
    """``s = a s + (1 - a) g g``; ``p -= lr g / sqrt(s + eps)``.

    Centered: ``s - m m`` under the root, where ``m = a m + (1 - a) g``.
    With momentum: ``b = mu b + lr g / root``; ``p -= b``.
    """
    count_step(state)
    decay(param, lr, weight_decay)
    s = state.setdefault("square_avg", np.zeros_like(param))
    s[...] = alpha * s + (1 - alpha) * (grad * grad)
    variance = s
    if centered:
        m = state.setdefault("grad_avg", np.zeros_like(param))
        m[...] = alpha * m + (1 - alpha) * grad
        variance = s - m * m
    increment = float32(lr) * grad / np.sqrt(variance + eps)
    if momentum > 0:
        b = state.setdefault("momentum_buffer", np.zeros_like(param))
        b[...] = momentum * b + increment
        increment = b
    param -= increment


def adam(
    param: Array,
    grad: Array,
    state: State,
    *,
    lr: float,
    betas: Betas,
    eps: float,
    weight_decay: float,
    amsgrad: bool,
) -> None:
    """``m += (1 - b1) (g - m)``; ``v += (1 - b2) (g g - v)``;
    ``lr_t = lr sqrt(1 - b2^t) / (1 - b1^t)``, computed in the precision of ``p``, but at least
    float32; ``p -= lr_t m / (sqrt(v) + eps)``.

    AMSGrad: the largest ``v`` so far in place of ``v``.
    """
    t = count_step(state)
    decay(param, lr, weight_decay)
    number = param.dtype.type
    power1, power2 = (number(beta) ** number(t) for beta in betas)
    lr_t = number(float32(lr)) * np.sqrt(1 - power2) / (1 - power1)
    beta1, beta2 = betas
    m = state.setdefault("exp_avg", np.zeros_like(param))
    v = state.setdefault("exp_avg_sq", np.zeros_like(param))
    m += (1 - beta1) * (grad - m)
    v += (1 - beta2) * (grad * grad - v)
    if amsgrad:
        largest = state.setdefault("max_exp_avg_sq", np.zeros_like(param))
        largest[...] = np.maximum(largest, v)
        v = largest
    param -= lr_t * m / (np.sqrt(v) + eps)


class SGD(Optimizer):
    """``keras.optimizers.SGD``."""

    formula: Formula = staticmethod(sgd)

    def __init__(
        self, lr: float = 0.01, momentum: float = 0, nesterov: bool = False, weight_decay: float = 0
    ) -> None:
        hyper = {"lr": lr, "momentum": momentum, "nesterov": nesterov}
        super().__init__(hyper | {"weight_decay": weight_decay})


class Adagrad(Optimizer):
    """``keras.optimizers.Adagrad``."""

    formula: Formula = staticmethod(adagrad)
    starts: dict[str, str] = {"sum": "initial_accumulator_value"}

    def __init__(
        self,
        lr: float = 0.001,
        initial_accumulator_value: float = 0.1,
        eps: float = 1e-7,
        weight_decay: float = 0,
    ) -> None:
        start = {"initial_accumulator_value": initial_accumulator_value}
        super().__init__({"lr": lr, "eps": eps, "weight_decay": weight_decay} | start)


class RMSprop(Optimizer):
    """``keras.optimizers.RMSprop``."""

    formula: Formula = staticmethod(rmsprop)

    def __init__(
        self,
        lr: float = 0.001,
        alpha: float = 0.9,
        momentum: float = 0,
        eps: float = 1e-7,
        centered: bool = False,
        weight_decay: float = 0,
    ) -> None:
        hyper = {"lr": lr, "alpha": alpha, "momentum": momentum, "eps": eps, "centered": centered}
        super().__init__(hyper | {"weight_decay": weight_decay})


class Adam(Optimizer):
    """``keras.optimizers.Adam``."""

    formula: Formula = staticmethod(adam)

    def __init__(
        self,
        lr: float = 0.001,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-7,
        weight_decay: float = 0,
        amsgrad: bool = False,
    ) -> None:
        hyper = {"lr": lr, "betas": betas, "eps": eps, "amsgrad": amsgrad}
        super().__init__(hyper | {"weight_decay": weight_decay})


class AdamW(Adam):
    """``keras.optimizers.AdamW``: Adam with another default."""

    def __init__(
        self,
        lr: float = 0.001,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-7,
        weight_decay: float = 0.004,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay, amsgrad)
