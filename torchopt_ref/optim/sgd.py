"""Stochastic gradient descent."""

from typing import Any

from torch import Tensor
from torch.optim.optimizer import ParamsT

from .base import Optimizer, by_convention
from .checks import refuse_weight_decay
from .rule import Group, Rule, Slots, is_zero


def sgd(
    param: Tensor,
    grad: Tensor,
    slots: Slots,
    *,
    lr: Any,
    momentum: Any,
    dampening: Any,
    nesterov: bool,
) -> tuple[Tensor, Slots]:
    if "momentum_buffer" not in slots:
        return param - lr * grad, {}
    b = momentum * slots["momentum_buffer"] + (1 - dampening) * grad
    grad = grad + momentum * b if nesterov else b
    return param - lr * grad, {"momentum_buffer": b}


def sgd_slots(group: Group) -> dict[str, float]:
    return {} if is_zero(group["momentum"]) else {"momentum_buffer": 0}


def sgd_scalars(group: Group, step: Any, fresh: Any) -> dict[str, Any]:
    return {
        "lr": group["lr"],
        "momentum": group["momentum"],
        "dampening": group["dampening"] * (1 - fresh),
        "nesterov": group["nesterov"],
    }


def sgd_book(param: Tensor, grad: Tensor, slots: Slots, *, lr: Any) -> tuple[Tensor, Slots]:
    return param - lr * grad, {}


class SGD(Optimizer):
    r"""Stochastic gradient descent, optionally with momentum.

    ====================  ==========================================================
    ``"torch"``           :math:`b_t = \mu b_{t-1} + (1 - \tau) g_t`, where
                          :math:`b_1 = g_1`; :math:`\theta_t = \theta_{t-1} - \gamma b_t`.
                          Nesterov: :math:`\theta_t = \theta_{t-1} - \gamma (g_t + \mu b_t)`.
                          Without momentum: :math:`\theta_t = \theta_{t-1} - \gamma g_t`
    ``"book"``            :math:`\theta_t = \theta_{t-1} - \gamma g_t`
    ====================  ==========================================================

    Args:
        params: tensors, ``(name, tensor)`` pairs, or dicts defining param groups.
        lr: :math:`\gamma \ge 0`, a float or a one-element tensor (torch 1e-3, book 0.01).
        momentum: :math:`\mu \ge 0`.
        dampening: :math:`\tau`; not applied to the first step.
        weight_decay: L2 penalty :math:`\lambda \ge 0`: :math:`g_t` becomes
            :math:`g_t + \lambda \theta_{t-1}`.
        nesterov: Nesterov momentum; needs momentum and no dampening.
        maximize: ascend (:math:`g_t` becomes :math:`-g_t`).
        foreach, fused, flat, differentiable: as for :class:`Optimizer`.
        convention: ``"torch"`` (default) or ``"book"``, which has ``lr`` alone.

    State: ``momentum_buffer`` (:math:`b`), when momentum is not 0.

    Raises:
        ValueError: a hyper-parameter is out of range or not one of the convention's; an unknown
            convention; an empty parameter list; a parameter in two groups.

    Source: H. Robbins, S. Monro, "A stochastic approximation method", 1951; momentum: B. Polyak,
    1964; Nesterov's form: I. Sutskever et al., ICML 2013, as ``torch.optim.SGD`` has it.
    """

    conventions = {
        "torch": Rule(sgd, sgd_slots, sgd_scalars, counts=False),
        "book": Rule(
            sgd_book,
            lambda group: {},
            lambda group, step, fresh: {"lr": group["lr"]},
            defaults={"lr": 0.01},
            counts=False,
        ),
    }

    @by_convention
    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float | Tensor = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        flat: bool = False,
        convention: str = "torch",
    ) -> None: ...

    @classmethod
    def check(cls, options: Group) -> None:
        super().check(options)
        if options.get("nesterov") and (options["momentum"] <= 0 or options["dampening"] != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")

    def sparse_gradient(self, grad: Tensor, hyper: Group) -> Tensor:
        """Without momentum only touched elements move; with it, all that have ever been touched."""
        refuse_weight_decay(hyper)
        return grad if is_zero(hyper.get("momentum", 0)) else grad.to_dense()
