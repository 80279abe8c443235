"""Optimizers: one function per formula, and a class per optimizer that applies it to named arrays.

A formula changes ``param`` and the arrays in ``state`` in place. Scalars are Python floats, so
float64; an array of dtype float32 multiplied by one stays float32, the scalar rounded first.

Two conventions exist for most optimizers, with the same name and different arithmetic:

``"torch"``
    the documented formulas of ``torch.optim``.
``"book"``
    K. Saito, "Deep Learning from Scratch", O'Reilly Japan 2016, chapter 6.
"""

import math

import numpy as np


def sgd(param, grad, state, *, lr, momentum, dampening, nesterov):
    """``b = mu b + (1 - dampening) g`` (first step: ``b = g``); ``p -= lr b``.

    Nesterov: ``p -= lr (g + mu b)``. Without momentum: ``p -= lr g``.
    """
    if momentum != 0:
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = np.zeros_like(param)
            dampening = 0
        buffer = state["momentum_buffer"]
        buffer[...] = momentum * buffer + (1 - dampening) * grad
        grad = grad + momentum * buffer if nesterov else buffer
    param -= lr * grad


def sgd_book(param, grad, state, *, lr):
    """``p -= lr g``."""
    param -= lr * grad


def momentum_book(param, grad, state, *, lr, momentum):
    """``v = mu v - lr g``; ``p += v``."""
    v = state.setdefault("momentum_buffer", np.zeros_like(param))
    v[...] = momentum * v - lr * grad
    param += v


def nesterov_book(param, grad, state, *, lr, momentum):
    """``p += mu mu v - (1 + mu) lr g``, then ``v = mu v - lr g``."""
    v = state.setdefault("momentum_buffer", np.zeros_like(param))
    param += momentum * momentum * v - (1 + momentum) * lr * grad
    v[...] = momentum * v - lr * grad


def adagrad(param, grad, state, *, lr, lr_decay, initial_accumulator_value, eps):
    """``s += g g``; ``p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)``."""
    step = count(state)
    total = state.setdefault("sum", np.full_like(param, initial_accumulator_value))
    total += grad * grad
    param -= lr / (1 + (step - 1) * lr_decay) * grad / (np.sqrt(total) + eps)


def adagrad_book(param, grad, state, *, lr, eps):
    """``h += g g``; ``p -= lr g / (sqrt(h) + 1e-7)``."""
    count(state)
    h = state.setdefault("sum", np.zeros_like(param))
    h += grad * grad
    param -= lr * grad / (np.sqrt(h) + eps)


def rmsprop(param, grad, state, *, lr, alpha, eps, momentum, centered):
    """``s = a s + (1 - a) g g``; ``p -= lr g / (sqrt(s) + eps)``.

    Centered: the root of ``s - m m`` with ``m += (1 - a) (g - m)``.
    With momentum: ``b = mu b + g / (root + eps)``; ``p -= lr b``.
    """
    count(state)
    square_avg = state.setdefault("square_avg", np.zeros_like(param))
    square_avg[...] = alpha * square_avg + (1 - alpha) * grad * grad
    variance = square_avg
    if centered:
        grad_avg = state.setdefault("grad_avg", np.zeros_like(param))
        grad_avg += (1 - alpha) * (grad - grad_avg)
        variance = square_avg - grad_avg * grad_avg
    denom = np.sqrt(variance) + eps
    if momentum > 0:
        buffer = state.setdefault("momentum_buffer", np.zeros_like(param))
        buffer[...] = momentum * buffer + grad / denom
        param -= lr * buffer
    else:
        param -= lr * grad / denom


def rmsprop_book(param, grad, state, *, lr, alpha, eps):
    """``h = d h + (1 - d) g g``; ``p -= lr g / (sqrt(h) + 1e-7)``."""
    count(state)
    h = state.setdefault("square_avg", np.zeros_like(param))
    h[...] = alpha * h + (1 - alpha) * grad * grad
    param -= lr * grad / (np.sqrt(h) + eps)


def adam(param, grad, state, *, lr, betas, eps, amsgrad):
    """``m += (1 - b1) (g - m)``; ``v = b2 v + (1 - b2) g g``;
    ``p -= lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps)``.

    AMSGrad: the largest ``v`` so far in place of ``v``.
    """
    beta1, beta2 = betas
    step = count(state)
    m = state.setdefault("exp_avg", np.zeros_like(param))
    v = state.setdefault("exp_avg_sq", np.zeros_like(param))
    m += (1 - beta1) * (grad - m)
    v[...] = beta2 * v + (1 - beta2) * grad * grad
    if amsgrad:
        v_max = state.setdefault("max_exp_avg_sq", np.zeros_like(param))
        v_max[...] = np.maximum(v_max, v)
        v = v_max
    denom = np.sqrt(v) / math.sqrt(1 - beta2**step) + eps
    param -= lr / (1 - beta1**step) * m / denom


def adam_book(param, grad, state, *, lr, betas, eps):
    """``lr_t = lr sqrt(1 - b2^t) / (1 - b1^t)``; ``m += (1 - b1) (g - m)``;
    ``v += (1 - b2) (g g - v)``; ``p -= lr_t m / (sqrt(v) + 1e-7)``.
    """
    beta1, beta2 = betas
    step = count(state)
    lr_t = lr * math.sqrt(1 - beta2**step) / (1 - beta1**step)
    m = state.setdefault("exp_avg", np.zeros_like(param))
    v = state.setdefault("exp_avg_sq", np.zeros_like(param))
    m += (1 - beta1) * (grad - m)
    v += (1 - beta2) * (grad * grad - v)
    param -= lr_t * m / (np.sqrt(v) + eps)


def count(state):
    """Count one more step of a parameter and return its number, the first being 1."""
    state["step"] = state.get("step", 0) + 1
    return state["step"]


class Optimizer:
    """``update(params, grads)`` changes every array of ``params`` that has a gradient, in place.

    ``formulas`` maps a convention to its formula and the defaults of the hyper-parameters that it
    has; giving one that it does not have raises ``ValueError``. ``state[name]`` holds a
    parameter's arrays (and its step count), named as in ``torch.optim``.

    The options ``weight_decay`` and ``maximize`` of the torch convention go around every formula:
    ``g = -g`` to maximize; then L2 decay ``g += wd p``, or decoupled ``p *= 1 - lr wd``.
    float16 parameters are computed in float32 and rounded once when stored.
    """

    formulas: dict = {}
    around = {"weight_decay": 0, "maximize": False, "decoupled_weight_decay": False}

    def __init__(self, lr=None, *, convention="torch", **given):
        if convention not in self.formulas:
            raise ValueError(
                f"{type(self).__name__} has no convention {convention!r}: choose from "
                + ", ".join(map(repr, self.formulas))
            )
        self.formula, defaults = self.formulas[convention]
        if convention == "torch":
            defaults = self.around | defaults
        if lr is not None:
            given["lr"] = lr
        for option in given:
            if option not in defaults:
                raise ValueError(
                    f"{type(self).__name__} has no option {option!r} in the {convention!r} "
                    "convention: choose from " + ", ".join(defaults)
                )
        self.hyper = defaults | given
        self.state = {}

    def update(self, params, grads):
        with np.errstate(all="ignore"):
            for name, param in params.items():
                if grads.get(name) is not None:
                    self._update_one(param, grads[name], self.state.setdefault(name, {}))

    def _update_one(self, param, grad, state):
        hyper = dict(self.hyper)
        weight_decay, maximize, decoupled = (hyper.pop(name, 0) for name in self.around)
        wide = np.promote_types(param.dtype, np.float32)
        arrays = {name: array for name, array in state.items() if name != "step"}
        work = param.astype(wide, copy=True)
        grad = grad.astype(wide, copy=False)
        state.update({name: array.astype(wide) for name, array in arrays.items()})
        if maximize:
            grad = -grad
        if weight_decay != 0 and decoupled:
            work *= 1 - hyper["lr"] * weight_decay
        elif weight_decay != 0:
            grad = grad + weight_decay * work
        self.formula(work, grad, state, **hyper)
        param[...] = work
        for name, array in state.items():
            if name != "step":
                state[name] = array.astype(param.dtype)


class SGD(Optimizer):
    """Stochastic gradient descent (H. Robbins, S. Monro, 1951)."""

    formulas = {
        "torch": (sgd, {"lr": 1e-3, "momentum": 0, "dampening": 0, "nesterov": False}),
        "book": (sgd_book, {"lr": 0.01}),
    }


class Momentum(Optimizer):
    """Gradient descent with momentum (B. Polyak, 1964)."""

    formulas = {
        "torch": (sgd, {"lr": 1e-3, "momentum": 0.9, "dampening": 0, "nesterov": False}),
        "book": (momentum_book, {"lr": 0.01, "momentum": 0.9}),
    }


class Nesterov(Optimizer):
    """Nesterov's accelerated gradient (Y. Nesterov, 1983)."""

    formulas = {
        "torch": (sgd, {"lr": 1e-3, "momentum": 0.9, "dampening": 0, "nesterov": True}),
        "book": (nesterov_book, {"lr": 0.01, "momentum": 0.9}),
    }


class AdaGrad(Optimizer):
    """AdaGrad (J. Duchi, E. Hazan, Y. Singer, 2011)."""

    formulas = {
        "torch": (
            adagrad,
            {"lr": 1e-2, "lr_decay": 0, "initial_accumulator_value": 0, "eps": 1e-10},
        ),
        "book": (adagrad_book, {"lr": 0.01, "eps": 1e-7}),
    }


class RMSprop(Optimizer):
    """RMSprop (T. Tieleman, G. Hinton, 2012)."""

    formulas = {
        "torch": (
            rmsprop,
            {"lr": 1e-2, "alpha": 0.99, "eps": 1e-8, "momentum": 0, "centered": False},
        ),
        "book": (rmsprop_book, {"lr": 0.01, "alpha": 0.99, "eps": 1e-7}),
    }


class Adam(Optimizer):
    """Adam (D. Kingma, J. Ba, 2015), AMSGrad (S. Reddi, S. Kale, S. Kumar, 2018)."""

    formulas = {
        "torch": (adam, {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False}),
        "book": (adam_book, {"lr": 0.001, "betas": (0.9, 0.999), "eps": 1e-7}),
    }


class AdamW(Adam):
    """Adam with decoupled weight decay (I. Loshchilov, F. Hutter, 2019)."""

    formulas = {
        "torch": (
            adam,
            Adam.formulas["torch"][1] | {"weight_decay": 1e-2, "decoupled_weight_decay": True},
        )
    }
