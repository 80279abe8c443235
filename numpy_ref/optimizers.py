"""Optimizers: one function per formula, and a class per optimizer that applies it to named arrays.

A formula changes ``param`` and the arrays of ``state`` in place. Hyper-parameters are Python
floats, so what is computed from them alone is float64; it is rounded when it meets an array.

The formulas, names and defaults are those of ``torch.optim``; ``book`` has the textbook's,
``keras`` and ``optax`` have theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from numpy.typing import DTypeLike

from .bfloat16 import to_bfloat16
from .checks import Array, floating, shaped

if TYPE_CHECKING:  # the reference itself needs nothing but NumPy
    from typing_extensions import Unpack

State = dict[str, Any]
"""What an optimizer keeps of one parameter: arrays by name, and its step count."""

Betas = tuple[float, float]
Formula = Callable[..., None]


def sgd(
    param: Array,
    grad: Array,
    state: State,
    *,
    lr: float,
    momentum: float,
    dampening: float,
    nesterov: bool,
) -> None:
    """``b = mu b + (1 - dampening) g``, the first time ``b = g``; then ``p -= lr b``.

    Nesterov: ``p -= lr (g + mu b)``. Without momentum: ``p -= lr g``.
    """
    if momentum != 0:
        if "momentum_buffer" not in state:
            # -0 + g is g, the sign of a zero included.
            state["momentum_buffer"] = np.full_like(param, -0.0)
            dampening = 0
        b = state["momentum_buffer"]
        b[...] = momentum * b + (1 - dampening) * grad
        grad = grad + momentum * b if nesterov else b
    param -= lr * grad


def adagrad(
    param: Array,
    grad: Array,
    state: State,
    *,
    lr: float,
    lr_decay: float,
    initial_accumulator_value: float,
    eps: float,
) -> None:
    """``s += g g``; ``p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)``."""
    t = count_step(state)
    s = state.setdefault("sum", np.full_like(param, initial_accumulator_value))
    s += grad * grad
    param -= lr / (1 + (t - 1) * lr_decay) * grad / (np.sqrt(s) + eps)


def rmsprop(
    param: Array,
    grad: Array,
    state: State,
    *,
    lr: float,
    alpha: float,
    eps: float,
    momentum: float,
    centered: bool,
) -> None:
    """``s = a s + (1 - a) g g``; ``p -= lr g / (sqrt(s) + eps)``.

    Centered: the root of ``max(s, m m) - m m``, where ``m = a m + (1 - a) g``; rounding can make
    ``s`` less than ``m m``.
    With momentum: ``b = mu b + g / (root + eps)``; ``p -= lr b``.
    """
    count_step(state)
    s = state.setdefault("square_avg", np.zeros_like(param))
    s[...] = alpha * s + (1 - alpha) * grad * grad
    variance = s
    if centered:
        m = state.setdefault("grad_avg", np.zeros_like(param))
        m[...] = alpha * m + (1 - alpha) * grad
        square = m * m
        variance = np.maximum(s, square) - square
    denom = np.sqrt(variance) + eps
    if momentum > 0:
        b = state.setdefault("momentum_buffer", np.zeros_like(param))
        b[...] = momentum * b + grad / denom
        param -= lr * b
    else:
        param -= lr * grad / denom


def adam(
    param: Array, grad: Array, state: State, *, lr: float, betas: Betas, eps: float, amsgrad: bool
) -> None:
    """``m = b1 m + (1 - b1) g``; ``v = b2 v + (1 - b2) g g``;
    ``p -= lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps)``.

    AMSGrad: the largest ``v`` so far in place of ``v``.
    """
    beta1, beta2 = betas
    t = count_step(state)
    m = state.setdefault("exp_avg", np.zeros_like(param))
    v = state.setdefault("exp_avg_sq", np.zeros_like(param))
    m[...] = beta1 * m + (1 - beta1) * grad
    v[...] = beta2 * v + (1 - beta2) * grad * grad
    if amsgrad:
        largest = state.setdefault("max_exp_avg_sq", np.zeros_like(param))
        largest[...] = np.maximum(largest, v)
        v = largest
    denom = np.sqrt(v) / math.sqrt(1 - beta2**t) + eps
    param -= lr / (1 - beta1**t) * m / denom


def count_step(state: State) -> int:
    """Count one more step of a parameter and return its number, the first being 1."""
    state["step"] = t = state.get("step", 0) + 1
    return t


class Around(TypedDict, total=False):
    """What goes around every formula, see :class:`Optimizer`."""

    maximize: bool
    weight_decay: float
    decoupled_weight_decay: bool


class Optimizer:
    """``update(params, grads)`` changes every array of ``params`` that has a gradient, in place.

    ``formula`` is the function of the class, ``hyper`` what it takes by keyword; ``state[name]``
    holds the arrays of parameter ``name``, and its step count, under the names of ``torch.optim``.
    ``starts`` maps the name of an array to the name of the hyper-parameter with whose value the
    array is filled before the first step. An array that is not in ``starts`` begins with 0.

    Around every formula go ``maximize`` (``g = -g``) and ``weight_decay``: L2 (``g += wd p``), or
    decoupled (``p *= 1 - lr wd``).

    float16 is computed in float32 and rounded once, when stored. So is bfloat16, which NumPy does
    not have: with ``storage = "bfloat16"``, float32 arrays hold values of bfloat16.

    Raises ``TypeError`` for integers and complex numbers, ``ValueError`` for a gradient of another
    shape than its parameter's.
    """

    formula: Formula
    starts: dict[str, str] = {}
    storage: str | None = None

    def __init__(
        self,
        hyper: dict[str, Any],
        *,
        maximize: bool = False,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
    ) -> None:
        around = {
            "maximize": maximize,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        self.hyper: dict[str, Any] = plain(hyper)
        self.around: dict[str, Any] = plain(around)
        self.state: dict[str, State] = {}

    def update(self, params: Mapping[str, Array], grads: Mapping[str, Array | None]) -> None:
        with np.errstate(all="ignore"):
            for name, param in params.items():
                if (grad := grads.get(name)) is not None:
                    floating(param, name)
                    shaped(floating(grad, "a gradient"), param.shape, "a gradient")
                    self.update_one(param, grad, self.state.setdefault(name, {}))

    def update_one(self, param: Array, grad: Array, state: State) -> None:
        for slot, start in self.starts.items():
            # The first step, too, begins with a stored value: rounded to the parameter's precision.
            initial = np.full_like(param, self.hyper[start])
            state.setdefault(slot, self.stored(initial, param.dtype))
        wide = np.promote_types(param.dtype, np.float32)
        p = param.astype(wide)
        grad = grad.astype(wide)
        for slot in arrays(state):
            state[slot] = state[slot].astype(wide, copy=False)
        if self.around["maximize"]:
            grad = -grad
        weight_decay = self.around["weight_decay"]
        if weight_decay != 0 and self.around["decoupled_weight_decay"]:
            p *= 1 - self.hyper["lr"] * weight_decay
        elif weight_decay != 0:
            grad = grad + weight_decay * p
        self.formula(p, grad, state, **self.hyper)
        for slot in arrays(state):
            state[slot] = self.stored(state[slot], param.dtype)
        param[...] = self.stored(p, param.dtype)

    def stored(self, array: Array, dtype: DTypeLike) -> Array:
        """``array`` as it is kept between two steps, rounded to nearest even."""
        if self.storage == "bfloat16":
            return to_bfloat16(array)
        return array.astype(dtype, copy=False)


def plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Values as Python's own: NumPy's float64 scalars would promote float32 arrays."""
    return {name: np.asarray(value).tolist() for name, value in options.items()}


def arrays(state: State) -> list[str]:
    return [name for name in state if name != "step"]


class SGD(Optimizer):
    """Stochastic gradient descent (H. Robbins, S. Monro, 1951)."""

    formula: Formula = staticmethod(sgd)

    def __init__(
        self,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        nesterov: bool = False,
        **around: Unpack[Around],
    ) -> None:
        hyper = {"lr": lr, "momentum": momentum, "dampening": dampening, "nesterov": nesterov}
        super().__init__(hyper, **around)


class Momentum(SGD):
    """Gradient descent with momentum (B. Polyak, 1964)."""

    def __init__(
        self,
        lr: float = 1e-3,
        momentum: float = 0.9,
        dampening: float = 0,
        nesterov: bool = False,
        **around: Unpack[Around],
    ) -> None:
        super().__init__(lr, momentum, dampening, nesterov, **around)


class Nesterov(SGD):
    """Nesterov's accelerated gradient (Y. Nesterov, 1983)."""

    def __init__(self, lr: float = 1e-3, momentum: float = 0.9, **around: Unpack[Around]) -> None:
        super().__init__(lr, momentum, nesterov=True, **around)


class AdaGrad(Optimizer):
    """AdaGrad (J. Duchi, E. Hazan, Y. Singer, 2011)."""

    formula: Formula = staticmethod(adagrad)
    starts: dict[str, str] = {"sum": "initial_accumulator_value"}

    def __init__(
        self,
        lr: float = 1e-2,
        lr_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        **around: Unpack[Around],
    ) -> None:
        hyper = {
            "lr": lr,
            "lr_decay": lr_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "eps": eps,
        }
        super().__init__(hyper, **around)


class RMSprop(Optimizer):
    """RMSprop (T. Tieleman, G. Hinton, 2012)."""

    formula: Formula = staticmethod(rmsprop)

    def __init__(
        self,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0,
        centered: bool = False,
        **around: Unpack[Around],
    ) -> None:
        hyper = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "momentum": momentum,
            "centered": centered,
        }
        super().__init__(hyper, **around)


class Adam(Optimizer):
    """Adam (D. Kingma, J. Ba, 2015); AMSGrad (S. Reddi, S. Kale, S. Kumar, 2018)."""

    formula: Formula = staticmethod(adam)

    def __init__(
        self,
        lr: float = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        amsgrad: bool = False,
        **around: Unpack[Around],
    ) -> None:
        super().__init__({"lr": lr, "betas": betas, "eps": eps, "amsgrad": amsgrad}, **around)


class AdamW(Adam):
    """Adam with decoupled weight decay (I. Loshchilov, F. Hutter, 2019)."""

    def __init__(
        self,
        lr: float = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        amsgrad: bool = False,
        *,
        weight_decay: float = 0.01,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            lr,
            betas,
            eps,
            amsgrad,
            maximize=maximize,
            weight_decay=weight_decay,
            decoupled_weight_decay=True,
        )
