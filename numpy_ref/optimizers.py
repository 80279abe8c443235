"""Optimizers: one function per formula, and a class per optimizer that applies it to named arrays.

A formula changes ``param`` and the arrays of ``state`` in place. Hyper-parameters are Python
floats, so what is computed from them alone is float64; it is rounded when it meets an array.

Most optimizers exist in two conventions of the same name and different arithmetic:

``"torch"``
    the documented formulas of ``torch.optim``, with their options.
``"book"``
    K. Saito, "Deep Learning from Scratch", O'Reilly Japan 2016, chapter 6.
"""

import math

import numpy as np


def sgd(param, grad, state, *, lr, momentum, dampening, nesterov):
    """``b = mu b + (1 - dampening) g``, the first time ``b = g``; then ``p -= lr b``.

    Nesterov: ``p -= lr (g + mu b)``. Without momentum: ``p -= lr g``.
    """
    if momentum != 0:
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = np.zeros_like(param)
            dampening = 0
        b = state["momentum_buffer"]
        b[...] = momentum * b + (1 - dampening) * grad
        grad = grad + momentum * b if nesterov else b
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
    """``p += mu mu v - (1 + mu) lr g``; then ``v = mu v - lr g``."""
    v = state.setdefault("momentum_buffer", np.zeros_like(param))
    param += momentum * momentum * v - (1 + momentum) * lr * grad
    v[...] = momentum * v - lr * grad


def adagrad(param, grad, state, *, lr, lr_decay, initial_accumulator_value, eps):
    """``s += g g``; ``p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)``."""
    t = count_step(state)
    s = state.setdefault("sum", np.full_like(param, initial_accumulator_value))
    s += grad * grad
    param -= lr / (1 + (t - 1) * lr_decay) * grad / (np.sqrt(s) + eps)


def adagrad_book(param, grad, state, *, lr, eps):
    """``h += g g``; ``p -= lr g / (sqrt(h) + 1e-7)``."""
    count_step(state)
    h = state.setdefault("sum", np.zeros_like(param))
    h += grad * grad
    param -= lr * grad / (np.sqrt(h) + eps)


def rmsprop(param, grad, state, *, lr, alpha, eps, momentum, centered):
    """``s = a s + (1 - a) g g``; ``p -= lr g / (sqrt(s) + eps)``.

    Centered: the root of ``s - m m``, where ``m += (1 - a) (g - m)``.
    With momentum: ``b = mu b + g / (root + eps)``; ``p -= lr b``.
    """
    count_step(state)
    s = state.setdefault("square_avg", np.zeros_like(param))
    s[...] = alpha * s + (1 - alpha) * grad * grad
    variance = s
    if centered:
        m = state.setdefault("grad_avg", np.zeros_like(param))
        m += (1 - alpha) * (grad - m)
        variance = s - m * m
    denom = np.sqrt(variance) + eps
    if momentum > 0:
        b = state.setdefault("momentum_buffer", np.zeros_like(param))
        b[...] = momentum * b + grad / denom
        param -= lr * b
    else:
        param -= lr * grad / denom


def rmsprop_book(param, grad, state, *, lr, alpha, eps):
    """``h = d h + (1 - d) g g``; ``p -= lr g / (sqrt(h) + 1e-7)``."""
    count_step(state)
    h = state.setdefault("square_avg", np.zeros_like(param))
    h[...] = alpha * h + (1 - alpha) * grad * grad
    param -= lr * grad / (np.sqrt(h) + eps)


def adam(param, grad, state, *, lr, betas, eps, amsgrad):
    """``m += (1 - b1) (g - m)``; ``v = b2 v + (1 - b2) g g``;
    ``p -= lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps)``.

    AMSGrad: the largest ``v`` so far in place of ``v``.
    """
    beta1, beta2 = betas
    t = count_step(state)
    m = state.setdefault("exp_avg", np.zeros_like(param))
    v = state.setdefault("exp_avg_sq", np.zeros_like(param))
    m += (1 - beta1) * (grad - m)
    v[...] = beta2 * v + (1 - beta2) * grad * grad
    if amsgrad:
        largest = state.setdefault("max_exp_avg_sq", np.zeros_like(param))
        largest[...] = np.maximum(largest, v)
        v = largest
    denom = np.sqrt(v) / math.sqrt(1 - beta2**t) + eps
    param -= lr / (1 - beta1**t) * m / denom


def adam_book(param, grad, state, *, lr, betas, eps):
    """``lr_t = lr sqrt(1 - b2^t) / (1 - b1^t)``; ``m += (1 - b1) (g - m)``;
    ``v += (1 - b2) (g g - v)``; ``p -= lr_t m / (sqrt(v) + 1e-7)``.
    """
    beta1, beta2 = betas
    t = count_step(state)
    lr_t = lr * math.sqrt(1 - beta2**t) / (1 - beta1**t)
    m = state.setdefault("exp_avg", np.zeros_like(param))
    v = state.setdefault("exp_avg_sq", np.zeros_like(param))
    m += (1 - beta1) * (grad - m)
    v += (1 - beta2) * (grad * grad - v)
    param -= lr_t * m / (np.sqrt(v) + eps)


def count_step(state):
    """Count one more step of a parameter and return its number, the first being 1."""
    state["step"] = state.get("step", 0) + 1
    return state["step"]


class Optimizer:
    """``update(params, grads)`` changes every array of ``params`` that has a gradient, in place.

    ``formulas`` maps a convention to its formula and its hyper-parameters with their defaults; an
    unknown convention or hyper-parameter raises ``ValueError``. ``state[name]`` holds the arrays
    of parameter ``name``, and its step count, under the names of ``torch.optim``.

    Around every formula of the torch convention go its options ``maximize`` (``g = -g``) and
    ``weight_decay``: L2 (``g += wd p``), or decoupled (``p *= 1 - lr wd``).
    float16 is computed in float32 and rounded once, when stored.
    """

    formulas: dict = {}

    def __init__(self, lr=None, *, convention="torch", **given):
        name = type(self).__name__
        if convention not in self.formulas:
            choices = ", ".join(map(repr, self.formulas))
            raise ValueError(f"{name} has no convention {convention!r}: choose from {choices}")
        self.formula, self.hyper = self.formulas[convention]
        self.around = {"maximize": False, "weight_decay": 0, "decoupled_weight_decay": False}
        known = self.hyper if convention == "book" else self.around | self.hyper
        if lr is not None:
            given["lr"] = lr
        for option in given:
            if option not in known:
                raise ValueError(
                    f"{name} has no option {option!r} in the {convention!r} convention: "
                    f"choose from {', '.join(known)}"
                )
        # NumPy's own float64 scalars would promote float32 arrays.
        given = {option: np.asarray(value).tolist() for option, value in given.items()}
        values = self.around | self.hyper | given
        self.around = {option: values.pop(option) for option in self.around}
        self.hyper = values
        self.state = {}

    def update(self, params, grads):
        with np.errstate(all="ignore"):
            for name, param in params.items():
                if grads.get(name) is not None:
                    self._update_one(param, grads[name], self.state.setdefault(name, {}))

    def _update_one(self, param, grad, state):
        wide = np.promote_types(param.dtype, np.float32)
        p = param.astype(wide)
        grad = grad.astype(wide)
        cast_arrays(state, wide)
        if self.around["maximize"]:
            grad = -grad
        weight_decay = self.around["weight_decay"]
        if weight_decay != 0 and self.around["decoupled_weight_decay"]:
            p *= 1 - self.hyper["lr"] * weight_decay
        elif weight_decay != 0:
            grad = grad + weight_decay * p
        self.formula(p, grad, state, **self.hyper)
        cast_arrays(state, param.dtype)
        param[...] = p


def cast_arrays(state, dtype):
    """Replace the arrays of ``state`` by ones of ``dtype``, rounded to nearest even."""
    for name, value in state.items():
        if name != "step":
            state[name] = value.astype(dtype, copy=False)


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

    def _update_one(self, param, grad, state):
        # Stored before the first step, so rounded to the parameter's precision before it.
        initial = self.hyper.get("initial_accumulator_value", 0)
        state.setdefault("sum", np.full_like(param, initial))
        super()._update_one(param, grad, state)


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
    """Adam (D. Kingma, J. Ba, 2015); AMSGrad (S. Reddi, S. Kale, S. Kumar, 2018)."""

    formulas = {
        "torch": (adam, {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False}),
        "book": (adam_book, {"lr": 0.001, "betas": (0.9, 0.999), "eps": 1e-7}),
    }


class AdamW(Optimizer):
    """Adam with decoupled weight decay (I. Loshchilov, F. Hutter, 2019)."""

    formulas = {
        "torch": (
            adam,
            Adam.formulas["torch"][1] | {"weight_decay": 0.01, "decoupled_weight_decay": True},
        ),
    }
