r"""Optax' dialect: its aliases ``sgd``, ``adagrad``, ``rmsprop``, ``adam`` and ``adamw``.

The hyper-parameters have the names of ``torch.optim``; ``NAMES`` has Optax' own. In the formulas
:math:`g` is the gradient, :math:`\gamma` is ``lr``, :math:`\mu` ``momentum``, :math:`\alpha`
``alpha``, :math:`\beta_i` ``betas``, :math:`\epsilon` ``eps``, :math:`\epsilon_r` ``eps_root`` and
:math:`\lambda` ``weight_decay``. Optax has no default for the learning rate; 0.001 is ours.

A moment's correction :math:`c_t = 1 - \beta^t` is computed in float64 for float64 parameters, in
float32 for all others, as Optax does by default, since JAX computes in 32 bits. With ``x64=True``
it is computed in float64 and then rounded, as with JAX' ``jax_enable_x64``; in that mode XLA
multiplies a float32 moment by the reciprocal of its correction instead of dividing, and so do these
optimizers. Optax counts the steps of the optimizer. Here the steps of each parameter are counted,
which differs for a parameter that sometimes has no gradient.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT
from typing_extensions import Unpack

from .dialect import Dialect, Flags, momentum_slots
from .exact import in_precision, sqrt, where_positive
from .rule import Group, Rule, Scalar, Slots, is_zero, options

NAMES = {
    "learning_rate": "lr",
    "decay": "alpha",
    "b1": "betas[0]",
    "b2": "betas[1]",
}
"""From Optax' name of an option to the name that it has here, for options with different names."""


class Optax(Dialect):
    """An optimizer of Optax; as for every :class:`Optimizer`, ``rule`` is its arithmetic.

    Arguments and errors are those of :class:`Dialect`: no number may be negative, and ``betas`` are
    two numbers in [0, 1).
    """

    dialect = "optax"
    names = NAMES


def correction(beta: Any, step: Any, dtype: torch.dtype, x64: bool) -> Any:
    """``1 - beta^step``; its reciprocal if ``multiplies(dtype, x64)``."""
    wide = torch.float64 if x64 else dtype
    power = in_precision(beta, wide) ** in_precision(step, wide)
    found = in_precision(1 - power, dtype)
    return 1 / found if multiplies(dtype, x64) else found


def multiplies(dtype: torch.dtype, x64: bool) -> bool:
    """Whether XLA multiplies by the reciprocal of a correction instead of dividing by it."""
    return x64 and dtype == torch.float32


def corrected(moment: Tensor, correction: Any, multiply: bool) -> Tensor:
    return moment * correction if multiply else moment / correction


def sgd(
    param: Tensor, grad: Tensor, slots: Slots, *, lr: Scalar, momentum: Scalar, nesterov: bool
) -> tuple[Tensor, Slots]:
    if "momentum_buffer" not in slots:
        return param - lr * grad, {}
    b = momentum * slots["momentum_buffer"] + grad
    return param - lr * (momentum * b + grad if nesterov else b), {"momentum_buffer": b}


class SGD(Optax):
    r"""Gradient descent; its arithmetic is that of torch's without dampening and weight decay.

    .. math::
        \theta_t = \theta_{t-1} - \gamma g_t

    With momentum:

    .. math::
        b_t &= \mu b_{t-1} + g_t \\
        \theta_t &= \theta_{t-1} - \gamma b_t

    Nesterov: :math:`\theta_t = \theta_{t-1} - \gamma (\mu b_t + g_t)`.

    Args:
        lr: (0.001).
        momentum: (0).
        nesterov: without momentum it changes nothing (False).

    State: ``momentum_buffer`` (:math:`b`, Optax' ``trace``), when momentum is not 0.

    Source: ``optax.sgd``.
    """

    rule: ClassVar[Rule] = Rule(
        sgd, momentum_slots, options("lr", "momentum", "nesterov"), counts=False
    )

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.001,
        momentum: float = 0.0,
        nesterov: bool = False,
        **flags: Unpack[Flags],
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "nesterov": nesterov}, **flags)

    def sparse_gradient(self, grad: Tensor, hyper: Group) -> Tensor:
        """With momentum the gradient is made dense: momentum also moves the elements that only
        earlier gradients had."""
        return grad if is_zero(hyper["momentum"]) else grad.to_dense()


def adagrad(
    param: Tensor, grad: Tensor, slots: Slots, *, lr: Scalar, eps: Scalar
) -> tuple[Tensor, Slots]:
    s = grad * grad + slots["sum"]
    return param - lr * (where_positive(s, 1 / sqrt(s + eps)) * grad), {"sum": s}


class Adagrad(Optax):
    r"""AdaGrad; unlike torch's, epsilon is inside the root, and the sum starts at 0.1.

    .. math::
        s_t &= s_{t-1} + g_t^2 \\
        \theta_t &= \theta_{t-1} - \gamma \, \frac{1}{\sqrt{s_t + \epsilon}} \, g_t

    Where :math:`s_t` is 0, :math:`\theta` stays.

    Args:
        lr: (0.001).
        initial_accumulator_value: :math:`s_0 \ge 0` (0.1).
        eps: (1e-7).

    State: ``step`` and ``sum`` (:math:`s`, Optax' ``sum_of_squares``), created by the constructor.

    Source: ``optax.adagrad``.
    """

    rule: ClassVar[Rule] = Rule(
        adagrad, lambda group: {"sum": group["initial_accumulator_value"]}, options("lr", "eps")
    )

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.001,
        initial_accumulator_value: float = 0.1,
        eps: float = 1e-7,
        **flags: Unpack[Flags],
    ) -> None:
        start = {"initial_accumulator_value": initial_accumulator_value}
        super().__init__(params, {"lr": lr, "eps": eps} | start, **flags)
        self.create_state()

    def sparse_gradient(self, grad: Tensor, hyper: Group) -> Tensor:
        """Only the elements that are in the gradient have squares to add, and only they move."""
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
    eps_in_sqrt: bool,
    momentum: Scalar,
    nesterov: bool,
    bias_correction: Scalar | None = None,
    multiply: bool = False,
) -> tuple[Tensor, Slots]:
    s = (1 - alpha) * (grad * grad) + alpha * slots["square_avg"]
    new, variance = {"square_avg": s}, s
    if bias_correction is not None:
        variance = corrected(s, bias_correction, multiply)
    if "grad_avg" in slots:
        new["grad_avg"] = mean = (1 - alpha) * grad + alpha * slots["grad_avg"]
        if bias_correction is not None:
            mean = corrected(mean, bias_correction, multiply)
        variance = variance - mean * mean
    scale = 1 / sqrt(variance + eps) if eps_in_sqrt else 1 / (sqrt(variance) + eps)
    step = lr * (scale * grad)
    if "momentum_buffer" not in slots:
        return param - step, new
    new["momentum_buffer"] = b = momentum * slots["momentum_buffer"] - step
    return param + (momentum * b - step if nesterov else b), new


def rmsprop_slots(group: Group) -> dict[str, float]:
    centered = {"grad_avg": 0.0} if group["centered"] else {}
    return {"square_avg": group["initial_scale"]} | momentum_slots(group) | centered


def rmsprop_rounded(group: Group, step: Any, dtype: torch.dtype) -> dict[str, Any]:
    if not group["bias_correction"]:
        return {}
    x64 = group["x64"]
    found = correction(group["alpha"], step, dtype, x64)
    return {"bias_correction": found, "multiply": multiplies(dtype, x64)}


class RMSprop(Optax):
    r"""RMSprop; unlike torch's, epsilon is inside the root, the learning rate inside the momentum.

    .. math::
        s_t &= \alpha s_{t-1} + (1 - \alpha) g_t^2 \\
        u_t &= \gamma \, \frac{1}{\sqrt{s_t + \epsilon}} \, g_t \\
        \theta_t &= \theta_{t-1} - u_t

    With ``eps_in_sqrt=False``: :math:`u_t = \gamma (1 / (\sqrt{s_t} + \epsilon)) g_t`.
    With momentum: :math:`\theta_t = \theta_{t-1} + b_t`, where :math:`b_t = \mu b_{t-1} - u_t`.
    Nesterov: :math:`\theta_t = \theta_{t-1} + \mu b_t - u_t`.
    Centered: :math:`s_t - m_t^2` in place of :math:`s_t` under the root, where
    :math:`m_t = \alpha m_{t-1} + (1 - \alpha) g_t`; rounding can make the number under
    the root negative, and the root NaN, as in Optax.

    Args:
        lr: (0.001).
        alpha: Optax' ``decay`` (0.9).
        eps: (1e-8).
        initial_scale: :math:`s_0` (0).
        eps_in_sqrt: (True).
        centered: (False).
        momentum: (0).
        nesterov: without momentum it changes nothing (False).
        bias_correction: divide :math:`s_t` and :math:`m_t` by :math:`c_t = 1 - \alpha^t` (False).
        x64: how :math:`c_t` is computed, as the module's docstring says (False).

    State: ``step``, ``square_avg`` (:math:`s`, Optax' ``nu``); ``momentum_buffer`` (:math:`b`,
    ``trace``) with momentum, ``grad_avg`` (:math:`m`, ``mu``) when centered.

    Source: ``optax.rmsprop``.
    """

    rule: ClassVar[Rule] = Rule(
        rmsprop,
        rmsprop_slots,
        options("lr", "alpha", "eps", "eps_in_sqrt", "momentum", "nesterov"),
        rounded_scalars=rmsprop_rounded,
    )

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.001,
        alpha: float = 0.9,
        eps: float = 1e-8,
        initial_scale: float = 0.0,
        eps_in_sqrt: bool = True,
        centered: bool = False,
        momentum: float = 0.0,
        nesterov: bool = False,
        bias_correction: bool = False,
        x64: bool = False,
        **flags: Unpack[Flags],
    ) -> None:
        hyper = {"lr": lr, "alpha": alpha, "eps": eps, "initial_scale": initial_scale}
        form = {"eps_in_sqrt": eps_in_sqrt, "centered": centered, "momentum": momentum}
        form |= {"nesterov": nesterov, "bias_correction": bias_correction, "x64": x64}
        super().__init__(params, hyper | form, **flags)


def adam(
    param: Tensor,
    grad: Tensor,
    slots: Slots,
    *,
    lr: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    correction1: Scalar,
    correction2: Scalar,
    eps: Scalar,
    eps_root: Scalar,
    multiply: bool,
    next_correction1: Scalar | None = None,
    weight_decay: Scalar | None = None,
) -> tuple[Tensor, Slots]:
    m = (1 - beta1) * grad + beta1 * slots["exp_avg"]
    v = (1 - beta2) * (grad * grad) + beta2 * slots["exp_avg_sq"]
    if next_correction1 is None:
        mean = corrected(m, correction1, multiply)
    else:
        ahead = corrected(m, next_correction1, multiply)
        mean = beta1 * ahead + (1 - beta1) * corrected(grad, correction1, multiply)
    step = mean / (sqrt(corrected(v, correction2, multiply) + eps_root) + eps)
    if weight_decay is not None:
        step = step + weight_decay * param
    return param - lr * step, {"exp_avg": m, "exp_avg_sq": v}


def adam_scalars(group: Group, step: Any, fresh: Any) -> dict[str, Any]:
    beta1, beta2 = group["betas"]
    numbers = {name: group[name] for name in ("lr", "eps", "eps_root")}
    return numbers | {"beta1": beta1, "beta2": beta2}


def adam_rounded(group: Group, step: Any, dtype: torch.dtype) -> dict[str, Any]:
    (beta1, beta2), x64 = group["betas"], group["x64"]
    found = {
        "correction1": correction(beta1, step, dtype, x64),
        "correction2": correction(beta2, step, dtype, x64),
        "multiply": multiplies(dtype, x64),
    }
    if group["nesterov"]:
        found["next_correction1"] = correction(beta1, step + 1, dtype, x64)
    return found


class Adam(Optax):
    r"""Adam: torch's formula in another order, with corrections in at least float32.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        \theta_t &= \theta_{t-1} - \gamma \,
        \frac{m_t / c_{1,t}}{\sqrt{v_t / c_{2,t} + \epsilon_r} + \epsilon}

    The corrections are :math:`c_{i,t} = 1 - \beta_i^t`.
    Nesterov: :math:`\beta_1 m_t / c_{1,t+1} + (1 - \beta_1) g_t / c_{1,t}` in place of
    :math:`m_t / c_{1,t}`.

    Args:
        lr: (0.001).
        betas: (0.9, 0.999).
        eps: (1e-8).
        eps_root: inside the root (0).
        nesterov: (False).
        x64: how the corrections are computed, as the module's docstring says (False).

    State: ``step`` (:math:`t`, Optax' ``count``), ``exp_avg`` (:math:`m`, ``mu``), ``exp_avg_sq``
    (:math:`v`, ``nu``).

    Source: ``optax.adam``; Nesterov: T. Dozat, ICLR workshop 2016.
    """

    rule: ClassVar[Rule] = Rule(
        adam,
        lambda group: {"exp_avg": 0.0, "exp_avg_sq": 0.0},
        adam_scalars,
        rounded_scalars=adam_rounded,
        decays=True,
    )

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.001,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        eps_root: float = 0.0,
        nesterov: bool = False,
        x64: bool = False,
        **flags: Unpack[Flags],
    ) -> None:
        hyper = {"lr": lr, "betas": betas, "eps": eps, "eps_root": eps_root}
        super().__init__(params, hyper | {"nesterov": nesterov, "x64": x64}, **flags)


class AdamW(Optax):
    r""":class:`Adam` with weight decay, added to the step before the learning rate multiplies both.

    .. math::
        \theta_t = \theta_{t-1} - \gamma \left(
        \frac{m_t / c_{1,t}}{\sqrt{v_t / c_{2,t} + \epsilon_r} + \epsilon}
        + \lambda \theta_{t-1} \right)

    torch's AdamW instead multiplies :math:`\theta_{t-1}` by :math:`1 - \gamma \lambda` before the
    step.

    Arguments are those of :class:`Adam`, with ``weight_decay`` (1e-4) after ``eps_root``.

    Source: ``optax.adamw``.
    """

    rule: ClassVar[Rule] = Adam.rule

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.001,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        eps_root: float = 0.0,
        weight_decay: float = 1e-4,
        nesterov: bool = False,
        x64: bool = False,
        **flags: Unpack[Flags],
    ) -> None:
        hyper = {"lr": lr, "betas": betas, "eps": eps, "eps_root": eps_root}
        form = {"weight_decay": weight_decay, "nesterov": nesterov, "x64": x64}
        super().__init__(params, hyper | form, **flags)
