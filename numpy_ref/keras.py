"""Keras' optimizers: the names of ``optimizers``, with the arithmetic and defaults of Keras 3.

The learning rate is float32 for every parameter. Weight decay is decoupled, for every optimizer.
"""

import numpy as np

from .optimizers import Optimizer, count_step


def float32(lr):
    """The learning rate as Keras keeps it."""
    return float(np.float32(lr))


def decay(param, lr, weight_decay):
    """``p -= p wd lr``."""
    if weight_decay != 0:
        param -= param * weight_decay * float32(lr)


def sgd(param, grad, state, *, lr, momentum, nesterov, weight_decay):
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


def adagrad(param, grad, state, *, lr, initial_accumulator_value, eps, weight_decay):
    """``s += g g``; ``p -= lr g / sqrt(s + eps)``."""
    count_step(state)
    decay(param, lr, weight_decay)
    s = state.setdefault("sum", np.full_like(param, initial_accumulator_value))
    s += grad * grad
    param -= float32(lr) * grad / np.sqrt(s + eps)


def rmsprop(param, grad, state, *, lr, alpha, momentum, eps, centered, weight_decay):
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


def adam(param, grad, state, *, lr, betas, eps, weight_decay, amsgrad):
    """``m += (1 - b1) (g - m)``; ``v += (1 - b2) (g g - v)``;
    ``lr_t = lr sqrt(1 - b2^t) / (1 - b1^t)``, computed in the precision of ``p``;
    ``p -= lr_t m / (sqrt(v) + eps)``.

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

    formula = staticmethod(sgd)

    def __init__(self, lr=0.01, momentum=0, nesterov=False, weight_decay=0):
        hyper = {"lr": lr, "momentum": momentum, "nesterov": nesterov}
        super().__init__(hyper | {"weight_decay": weight_decay})


class Adagrad(Optimizer):
    """``keras.optimizers.Adagrad``."""

    formula = staticmethod(adagrad)
    starts = {"sum": "initial_accumulator_value"}

    def __init__(self, lr=0.001, initial_accumulator_value=0.1, eps=1e-7, weight_decay=0):
        start = {"initial_accumulator_value": initial_accumulator_value}
        super().__init__({"lr": lr, "eps": eps, "weight_decay": weight_decay} | start)


class RMSprop(Optimizer):
    """``keras.optimizers.RMSprop``."""

    formula = staticmethod(rmsprop)

    def __init__(self, lr=0.001, alpha=0.9, momentum=0, eps=1e-7, centered=False, weight_decay=0):
        hyper = {"lr": lr, "alpha": alpha, "momentum": momentum, "eps": eps, "centered": centered}
        super().__init__(hyper | {"weight_decay": weight_decay})


class Adam(Optimizer):
    """``keras.optimizers.Adam``."""

    formula = staticmethod(adam)

    def __init__(self, lr=0.001, betas=(0.9, 0.999), eps=1e-7, weight_decay=0, amsgrad=False):
        hyper = {"lr": lr, "betas": betas, "eps": eps, "amsgrad": amsgrad}
        super().__init__(hyper | {"weight_decay": weight_decay})


class AdamW(Adam):
    """``keras.optimizers.AdamW``: Adam with another default."""

    def __init__(self, lr=0.001, betas=(0.9, 0.999), eps=1e-7, weight_decay=0.004, amsgrad=False):
        super().__init__(lr, betas, eps, weight_decay, amsgrad)
