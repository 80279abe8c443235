r"""Keras' dialect: the optimizers of Keras 3, with its defaults and its arithmetic.

The hyper-parameters have the names of ``torch.optim``; ``NAMES`` has Keras' own. In the formulas
:math:`g` is the gradient, :math:`\gamma` is ``lr``, :math:`\mu` ``momentum``, :math:`\alpha`
``alpha``, :math:`\beta_i` ``betas``, :math:`\epsilon` ``eps`` and :math:`\lambda` ``weight_decay``.

All optimizers here keep the learning rate in float32, whatever the dtype of the parameters, and
decouple the weight decay: before the step, :math:`\theta` becomes
:math:`\theta - \theta \lambda \gamma`.
Keras counts the steps of the optimizer. Here the steps of each parameter are counted, which differs
for a parameter that sometimes has no gradient.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT
from typing_extensions import Unpack

from .checks import refuse_weight_decay
from .dialect import Dialect, Flags, momentum_slots
from .exact import float32, in_precision, sqrt
from .rule import Group, Rule, Scalar, Slots, is_zero

NAMES = {
    "learning_rate": "lr",
    "rho": "alpha",
    "epsilon": "eps",
    "beta_1": "betas[0]",
    "beta_2": "betas[1]",
}
"""From Keras' name of an option to the name that it has here, for options with different names."""


class Keras(Dialect):
    """An optimizer of Keras; as for every :class:`Optimizer`, ``rule`` is its arithmetic.

    Arguments and errors are those of :class:`Dialect`: no number may be negative, and ``betas`` are
    two numbers in [0, 1).
    """

    dialect = "keras"
    names = NAMES


def numbers(*names: str) -> Callable[[Group, Any, Any], dict[str, Any]]:
    """A ``scalars`` function: the learning rate rounded to float32, the named options unchanged."""

    def scalars(group: Group, step: Any, fresh: Any) -> dict[str, Any]:
        return {"lr": float32(group["lr"])} | {name: group[name] for name in names}

    return scalars


def decayed(param: Tensor, weight_decay: Any, lr: Any) -> Tensor:
    """The parameter after its weight decay, multiplied in Keras' order."""
    return param if weight_decay is None else param - param * weight_decay * lr


def sgd(
    param: Tensor,
    grad: Tensor,
    slots: Slots,
    *,
    lr: Scalar,
    momentum: Scalar,
    nesterov: bool,
    weight_decay: Scalar | None = None,
) -> tuple[Tensor, Slots]:
    param = decayed(param, weight_decay, lr)
    if "momentum_buffer" not in slots:
        return param - lr * grad, {}
    v = momentum * slots["momentum_buffer"] - lr * grad
    ahead = momentum * v - lr * grad if nesterov else v
    return param + ahead, {"momentum_buffer": v}


class SGD(Keras):
    r"""Gradient descent; unlike torch's, the learning rate is inside the velocity.

    .. math::
        \theta_t = \theta_{t-1} - \gamma g_t

    With momentum:

    .. math::
        v_t &= \mu v_{t-1} - \gamma g_t \\
        \theta_t &= \theta_{t-1} + v_t

    Nesterov: :math:`\theta_t = \theta_{t-1} + \mu v_t - \gamma g_t`.

    Args:
        lr: (0.01).
        momentum: in [0, 1] (0).
        nesterov: without momentum it changes nothing (False).
        weight_decay: decoupled (0).

    State: ``momentum_buffer`` (:math:`v`), Keras' ``momentum``, when momentum is not 0.

    Source: ``keras.optimizers.SGD``.
    """

    rule: ClassVar[Rule] = Rule(
        sgd, momentum_slots, numbers("momentum", "nesterov"), counts=False, decays=True
    )

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0,
        **flags: Unpack[Flags],
    ) -> None:
        hyper = {"lr": lr, "momentum": momentum, "nesterov": nesterov}
        super().__init__(params, hyper | {"weight_decay": weight_decay}, **flags)

    @classmethod
    def check(cls, options: Group) -> None:
        super().check(options)
        if options["momentum"] > 1:
            raise ValueError(f"Invalid momentum value: {options['momentum']}")

    def sparse_gradient(self, grad: Tensor, hyper: Group) -> Tensor:
        """With momentum the gradient is made dense: momentum also moves the elements that only
        earlier gradients had."""
        refuse_weight_decay(hyper)
        return grad if is_zero(hyper["momentum"]) else grad.to_dense()


def adagrad(
    param: Tensor,
    grad: Tensor,
    slots: Slots,
    *,
    lr: Scalar,
    eps: Scalar,
    weight_decay: Scalar | None = None,
) -> tuple[Tensor, Slots]:
    param = decayed(param, weight_decay, lr)
    s = slots["sum"] + grad * grad
    return param - lr * grad / sqrt(s + eps), {"sum": s}


class Adagrad(Keras):
    r"""AdaGrad; unlike torch's, epsilon is inside the root, and the sum starts at 0.1.

    .. math::
        s_t &= s_{t-1} + g_t^2 \\
        \theta_t &= \theta_{t-1} - \frac{\gamma g_t}{\sqrt{s_t + \epsilon}}

    Args:
        lr: (0.001).
        initial_accumulator_value: :math:`s_0 \ge 0` (0.1).
        eps: (1e-7).
        weight_decay: decoupled (0).

    State: ``step`` and ``sum`` (:math:`s`), Keras' ``accumulator``, created by the constructor.

    Source: ``keras.optimizers.Adagrad``.
    """

    rule: ClassVar[Rule] = Rule(
        adagrad,
        lambda group: {"sum": group["initial_accumulator_value"]},
        numbers("eps"),
        decays=True,
    )

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.001,
        initial_accumulator_value: float = 0.1,
        eps: float = 1e-7,
        weight_decay: float = 0,
        **flags: Unpack[Flags],
    ) -> None:
        hyper = {"lr": lr, "eps": eps, "weight_decay": weight_decay}
        start = {"initial_accumulator_value": initial_accumulator_value}
        super().__init__(params, hyper | start, **flags)
        self.create_state()

    def sparse_gradient(self, grad: Tensor, hyper: Group) -> Tensor:
        """Only the elements that are in the gradient have squares to add, and only they move."""
        refuse_weight_decay(hyper)
        return grad


AdaGrad = Adagrad


def rmsprop(
    param: Tensor,
    grad: Tensor,
    slots: Slots,
    *,
    lr: Scalar,
    alpha: Scalar,
    eps: Scalar,
    momentum: Scalar,
    weight_decay: Scalar | None = None,
) -> tuple[Tensor, Slots]:
    param = decayed(param, weight_decay, lr)
    s = alpha * slots["square_avg"] + (1 - alpha) * (grad * grad)
    new, variance = {"square_avg": s}, s
    if "grad_avg" in slots:
        new["grad_avg"] = m = alpha * slots["grad_avg"] + (1 - alpha) * grad
        variance = s - m * m
    increment = lr * grad / sqrt(variance + eps)
    if "momentum_buffer" in slots:
        new["momentum_buffer"] = b = momentum * slots["momentum_buffer"] + increment
        return param - b, new
    return param - increment, new


def rmsprop_slots(group: Group) -> dict[str, float]:
    centered = {"grad_avg": 0.0} if group["centered"] else {}
    return {"square_avg": 0.0} | momentum_slots(group) | centered


class RMSprop(Keras):
    r"""RMSprop; unlike torch's, epsilon is inside the root, the learning rate inside the momentum.

    .. math::
        s_t &= \alpha s_{t-1} + (1 - \alpha) g_t^2 \\
        u_t &= \frac{\gamma g_t}{\sqrt{s_t + \epsilon}} \\
        \theta_t &= \theta_{t-1} - u_t

    With momentum: :math:`\theta_t = \theta_{t-1} - b_t`, where :math:`b_t = \mu b_{t-1} + u_t`.
    Centered: :math:`s_t - m_t^2` in place of :math:`s_t` under the root, where
    :math:`m_t = \alpha m_{t-1} + (1 - \alpha) g_t`; rounding can make that less than
    :math:`-\epsilon`, and the root NaN, as in Keras.

    Args:
        lr: (0.001).
        alpha: Keras' ``rho`` (0.9).
        momentum: (0).
        eps: (1e-7).
        centered: (False).
        weight_decay: decoupled (0).

    State: ``step``, ``square_avg`` (:math:`s`, Keras' ``velocity``); ``momentum_buffer``
    (:math:`b`, ``momentum``) with momentum, ``grad_avg`` (:math:`m`, ``average_gradient``) when
    centered.

    Source: ``keras.optimizers.RMSprop``.
    """

    rule: ClassVar[Rule] = Rule(
        rmsprop, rmsprop_slots, numbers("alpha", "eps", "momentum"), decays=True
    )

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.001,
        alpha: float = 0.9,
        momentum: float = 0.0,
        eps: float = 1e-7,
        centered: bool = False,
        weight_decay: float = 0,
        **flags: Unpack[Flags],
    ) -> None:
        hyper = {"lr": lr, "alpha": alpha, "momentum": momentum, "eps": eps, "centered": centered}
        super().__init__(params, hyper | {"weight_decay": weight_decay}, **flags)


def adam(
    param: Tensor,
    grad: Tensor,
    slots: Slots,
    *,
    lr: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    lr_t: Scalar,
    eps: Scalar,
    weight_decay: Scalar | None = None,
) -> tuple[Tensor, Slots]:
    param = decayed(param, weight_decay, lr)
    m, v = slots["exp_avg"], slots["exp_avg_sq"]
    m = m + (grad - m) * (1 - beta1)
    v = v + (grad * grad - v) * (1 - beta2)
    new = {"exp_avg": m, "exp_avg_sq": v}
    if "max_exp_avg_sq" in slots:
        v = torch.maximum(slots["max_exp_avg_sq"], v)
        new["max_exp_avg_sq"] = v
    return param - m * lr_t / (sqrt(v) + eps), new


def adam_slots(group: Group) -> dict[str, float]:
    slots = {"exp_avg": 0.0, "exp_avg_sq": 0.0}
    return slots | {"max_exp_avg_sq": 0.0} if group["amsgrad"] else slots


def adam_scalars(group: Group, step: Any, fresh: Any) -> dict[str, Any]:
    beta1, beta2 = group["betas"]
    return {"lr": float32(group["lr"]), "beta1": beta1, "beta2": beta2, "eps": group["eps"]}


def adam_rounded(group: Group, step: Any, dtype: torch.dtype) -> dict[str, Any]:
    lr, step = in_precision(float32(group["lr"]), dtype), in_precision(step, dtype)
    power1, power2 = (in_precision(beta, dtype) ** step for beta in group["betas"])
    return {"lr_t": lr * sqrt(1 - power2) / (1 - power1)}


class Adam(Keras):
    r"""Adam; unlike torch's, epsilon is added before the correction of the moments.

    .. math::
        m_t &= m_{t-1} + (1 - \beta_1) (g_t - m_{t-1}) \\
        v_t &= v_{t-1} + (1 - \beta_2) (g_t^2 - v_{t-1}) \\
        \gamma_t &= \gamma \sqrt{1 - \beta_2^t} / (1 - \beta_1^t) \\
        \theta_t &= \theta_{t-1} - \gamma_t \, \frac{m_t}{\sqrt{v_t} + \epsilon}

    :math:`\gamma_t` is computed in float64 for float64 parameters, in float32 for all others.

    Args:
        lr: (0.001).
        betas: (0.9, 0.999).
        eps: (1e-7).
        weight_decay: decoupled (0).
        amsgrad: divide by the root of the largest :math:`v` so far (False).

    State: ``step`` (:math:`t`), ``exp_avg`` (:math:`m`, Keras' ``momentum``), ``exp_avg_sq``
    (:math:`v`, ``velocity``), and ``max_exp_avg_sq`` (``velocity_hat``) with ``amsgrad``.

    Source: ``keras.optimizers.Adam``.
    """

    rule: ClassVar[Rule] = Rule(
        adam, adam_slots, adam_scalars, rounded_scalars=adam_rounded, decays=True
    )

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.001,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-7,
        weight_decay: float = 0,
        amsgrad: bool = False,
        **flags: Unpack[Flags],
    ) -> None:
        hyper = {"lr": lr, "betas": betas, "eps": eps, "amsgrad": amsgrad}
        super().__init__(params, hyper | {"weight_decay": weight_decay}, **flags)


class AdamW(Adam):
    r""":class:`Adam` with a weight decay of 0.004 by default, which Keras' Adam decouples as well.

    .. math::
        \theta_t = (\theta_{t-1} - \theta_{t-1} \lambda \gamma)
        - \gamma_t \, \frac{m_t}{\sqrt{v_t} + \epsilon}

    Arguments, state and errors are those of :class:`Adam`. Source: ``keras.optimizers.AdamW``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.001,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-7,
        weight_decay: float = 0.004,
        amsgrad: bool = False,
        **flags: Unpack[Flags],
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, **flags)
