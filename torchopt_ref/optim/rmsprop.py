"""RMSprop."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .exact import sqrt
from .optimizer import Optimizer
from .rule import Group, Rule, Scalar, Slots, is_zero, options


def rmsprop(
    param: Tensor,
    grad: Tensor,
    slots: Slots,
    *,
    lr: Scalar,
    alpha: Scalar,
    eps: Scalar,
    momentum: Scalar = 0,
) -> tuple[Tensor, Slots]:
    s = alpha * slots["square_avg"] + (1 - alpha) * grad * grad
    new, variance = {"square_avg": s}, s
    if "grad_avg" in slots:
        new["grad_avg"] = m = alpha * slots["grad_avg"] + (1 - alpha) * grad
        square = m * m
        # Where the gradient hardly changes, rounding can make s smaller than the square.
        variance = torch.maximum(s, square) - square
    denom = sqrt(variance) + eps
    if "momentum_buffer" in slots:
        new["momentum_buffer"] = b = momentum * slots["momentum_buffer"] + grad / denom
        return param - lr * b, new
    return param - lr * grad / denom, new


def rmsprop_slots(group: Group) -> dict[str, float]:
    slots = {"square_avg": 0.0}
    if not is_zero(group["momentum"]):
        slots["momentum_buffer"] = 0.0
    if group["centered"]:
        slots["grad_avg"] = 0.0
    return slots


class RMSprop(Optimizer):
    r"""RMSprop: AdaGrad with a moving average of the squares, so that old gradients are forgotten.

    .. math::
        s_t &= \alpha s_{t-1} + (1 - \alpha) g_t^2 \\
        d_t &= \sqrt{s_t} + \epsilon \\
        \theta_t &= \theta_{t-1} - \gamma \, g_t / d_t

    Centered: :math:`d_t = \sqrt{\max(s_t, m_t^2) - m_t^2} + \epsilon`, where
    :math:`m_t = \alpha m_{t-1} + (1 - \alpha) g_t`.
    With momentum: :math:`\theta_t = \theta_{t-1} - \gamma b_t`, where
    :math:`b_t = \mu b_{t-1} + g_t / d_t`.

    Args:
        params: tensors, ``(name, tensor)`` pairs, or dicts defining param groups.
        lr: :math:`\gamma \ge 0`, a float or a one-element tensor (0.01).
        alpha: :math:`\alpha \ge 0`, the decay of the average (0.99).
        eps: :math:`\epsilon \ge 0` (1e-8).
        weight_decay: :math:`\lambda \ge 0`; adds :math:`\lambda \theta_{t-1}` to :math:`g_t` (0).
        momentum: :math:`\mu \ge 0` (0).
        centered: divide by the root of the variance instead of the mean square (False).
        maximize: ascend: :math:`g_t` becomes :math:`-g_t` (False).
        capturable, foreach, differentiable, fused: as for :class:`Optimizer`.

    State: ``step``, ``square_avg`` (:math:`s`); ``momentum_buffer`` (:math:`b`) with momentum,
    ``grad_avg`` (:math:`m`) when centered.

    Raises ``ValueError`` for a hyper-parameter out of range, no parameters, or one in two groups.

    Source: T. Tieleman, G. Hinton, "Lecture 6.5", Coursera 2012; centered: A. Graves, 2013,
    arXiv:1308.0850, equations 38 to 45.
    """

    rule: ClassVar[Rule] = Rule(rmsprop, rmsprop_slots, options("lr", "alpha", "eps", "momentum"))

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        *,
        fused: bool | None = None,
    ) -> None:
        hyper = {"lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered}
        around = {"weight_decay": weight_decay, "maximize": maximize}
        flags = {"foreach": foreach, "capturable": capturable, "fused": fused}
        flags["differentiable"] = differentiable
        super().__init__(params, hyper | around | flags)
