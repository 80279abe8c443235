"""RMSprop."""

from typing import Any

from torch import Tensor
from torch.optim.optimizer import ParamsT

from .base import Optimizer, by_convention
from .exact import sqrt
from .rule import Group, Rule, Slots, is_zero


def rmsprop(
    param: Tensor, grad: Tensor, slots: Slots, *, lr: Any, alpha: Any, eps: Any, momentum: Any
) -> tuple[Tensor, Slots]:
    s = alpha * slots["square_avg"] + (1 - alpha) * grad * grad
    new = {"square_avg": s}
    variance = s
    if "grad_avg" in slots:
        m = slots["grad_avg"] + (1 - alpha) * (grad - slots["grad_avg"])
        new["grad_avg"] = m
        variance = s - m * m
    denom = sqrt(variance) + eps
    if "momentum_buffer" in slots:
        b = momentum * slots["momentum_buffer"] + grad / denom
        new["momentum_buffer"] = b
        return param - lr * b, new
    return param - lr * grad / denom, new


def torch_slots(group: Group) -> dict[str, float]:
    slots = {"square_avg": 0.0}
    if not is_zero(group["momentum"]):
        slots["momentum_buffer"] = 0.0
    if group["centered"]:
        slots["grad_avg"] = 0.0
    return slots


def scalars(group: Group, step: Any, fresh: Any) -> dict[str, Any]:
    return {
        "lr": group["lr"],
        "alpha": group["alpha"],
        "eps": group["eps"],
        "momentum": group.get("momentum", 0),
    }


class RMSprop(Optimizer):
    r"""RMSprop: AdaGrad with a moving average, which forgets.

    ====================  ==========================================================
    ``"torch"``           :math:`s_t = \alpha s_{t-1} + (1 - \alpha) g_t^2`;
                          :math:`d_t = \sqrt{s_t} + \epsilon`, centered
                          :math:`d_t = \sqrt{s_t - m_t^2} + \epsilon` where
                          :math:`m_t = m_{t-1} + (1 - \alpha)(g_t - m_{t-1})`;
                          :math:`\theta_t = \theta_{t-1} - \gamma \, g_t / d_t`, with momentum
                          :math:`b_t = \mu b_{t-1} + g_t / d_t`;
                          :math:`\theta_t = \theta_{t-1} - \gamma b_t`
    ``"book"``            the same, neither centered nor with momentum
    ====================  ==========================================================

    Args:
        params: tensors, ``(name, tensor)`` pairs, or dicts defining param groups.
        lr: :math:`\gamma \ge 0`, a float or a one-element tensor (0.01).
        alpha: :math:`\alpha \ge 0`, the decay of the average (0.99).
        eps: :math:`\epsilon \ge 0` (torch 1e-8, book 1e-7).
        weight_decay: L2 penalty :math:`\lambda \ge 0`: :math:`g_t` becomes
            :math:`g_t + \lambda \theta_{t-1}`.
        momentum: :math:`\mu \ge 0`.
        centered: divide by the root of the variance instead of the mean square.
        maximize: ascend (:math:`g_t` becomes :math:`-g_t`).
        foreach, fused, flat, capturable, differentiable: as for :class:`Optimizer`.
        convention: ``"torch"`` (default) or ``"book"``, which has ``lr``, ``alpha`` and ``eps``.

    State: ``step``, ``square_avg`` (:math:`s`); ``momentum_buffer`` (:math:`b`) with momentum,
    ``grad_avg`` (:math:`m`) when centered.

    Raises:
        ValueError: a hyper-parameter is out of range or not one of the convention's; an unknown
            convention; an empty parameter list; a parameter in two groups.

    Source: T. Tieleman, G. Hinton, "Lecture 6.5", Coursera 2012; centered: A. Graves, 2013,
    arXiv:1308.0850, equations 38 to 45.
    """

    conventions = {
        "torch": Rule(rmsprop, torch_slots, scalars),
        "book": Rule(
            rmsprop,
            lambda group: {"square_avg": 0},
            scalars,
            {"lr": 0.01, "alpha": 0.99, "eps": 1e-7},
        ),
    }

    @by_convention
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
        flat: bool = False,
        convention: str = "torch",
    ) -> None: ...
