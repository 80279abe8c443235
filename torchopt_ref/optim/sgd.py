"""Stochastic gradient descent, with momentum and with Nesterov's."""

from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from .checks import refuse_weight_decay
from .optimizer import Optimizer
from .rule import Group, Rule, Scalar, Slots, is_zero


def sgd(
    param: Tensor,
    grad: Tensor,
    slots: Slots,
    *,
    lr: Scalar,
    momentum: Scalar,
    dampening: Scalar,
    nesterov: bool,
) -> tuple[Tensor, Slots]:
    if "momentum_buffer" not in slots:
        return param - lr * grad, {}
    b = momentum * slots["momentum_buffer"] + (1 - dampening) * grad
    grad = grad + momentum * b if nesterov else b
    return param - lr * grad, {"momentum_buffer": b}


def sgd_slots(group: Group) -> dict[str, float]:
    # The buffer starts at -0: then -0 + g is g, even for g = -0, and b = g after the first step.
    return {} if is_zero(group["momentum"]) else {"momentum_buffer": -0.0}


def sgd_scalars(group: Group, step: Any, fresh: Any) -> dict[str, Any]:
    numbers = {"lr": group["lr"], "momentum": group["momentum"]}
    dampening = group["dampening"] * (1 - fresh)
    return numbers | {"dampening": dampening, "nesterov": bool(group["nesterov"])}


class SGD(Optimizer):
    r"""Stochastic gradient descent, optionally with momentum.

    .. math::
        \theta_t = \theta_{t-1} - \gamma g_t

    With momentum:

    .. math::
        b_t &= \mu b_{t-1} + (1 - \tau) g_t, \quad b_1 = g_1 \\
        \theta_t &= \theta_{t-1} - \gamma b_t

    Nesterov: :math:`\theta_t = \theta_{t-1} - \gamma (g_t + \mu b_t)`.

    Args:
        params: tensors, ``(name, tensor)`` pairs, or dicts defining param groups.
        lr: :math:`\gamma \ge 0`, a float or a one-element tensor (1e-3).
        momentum: :math:`\mu \ge 0` (0).
        dampening: :math:`\tau`; not applied to the first step (0).
        weight_decay: :math:`\lambda \ge 0`; adds :math:`\lambda \theta_{t-1}` to :math:`g_t` (0).
        nesterov: Nesterov momentum; needs momentum and no dampening (False).
        maximize: ascend: :math:`g_t` becomes :math:`-g_t` (False).
        foreach, differentiable, fused: as for :class:`Optimizer`.

    State: ``momentum_buffer`` (:math:`b`), when momentum is not 0.

    Raises ``ValueError`` for a hyper-parameter out of range, no parameters, or one in two groups.

    Source: H. Robbins, S. Monro, "A stochastic approximation method", 1951; momentum: B. Polyak,
    1964; Nesterov's form: I. Sutskever et al., ICML 2013, as ``torch.optim.SGD`` has it.
    """

    rule: ClassVar[Rule] = Rule(sgd, sgd_slots, sgd_scalars, counts=False)

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
    ) -> None:
        hyper = {"lr": lr, "momentum": momentum, "dampening": dampening, "nesterov": nesterov}
        around = {"weight_decay": weight_decay, "maximize": maximize}
        flags = {"foreach": foreach, "differentiable": differentiable, "fused": fused}
        super().__init__(params, hyper | around | flags)

    @classmethod
    def check(cls, options: Group) -> None:
        super().check(options)
        if options["nesterov"] and (options["momentum"] <= 0 or options["dampening"] != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")

    def sparse_gradient(self, grad: Tensor, hyper: Group) -> Tensor:
        """With momentum the gradient is made dense: momentum also moves the elements that only
        earlier gradients had."""
        refuse_weight_decay(hyper)
        return grad if is_zero(hyper["momentum"]) else grad.to_dense()


class Momentum(SGD):
    r""":class:`SGD` with momentum 0.9 by default; arguments, state and errors are the same.

    .. math::
        b_t &= \mu b_{t-1} + g_t \\
        \theta_t &= \theta_{t-1} - \gamma b_t

    Source: B. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.9,
        dampening: float = 0,
        weight_decay: float | Tensor = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            momentum,
            dampening,
            weight_decay,
            nesterov,
            maximize=maximize,
            foreach=foreach,
            differentiable=differentiable,
            fused=fused,
        )


class Nesterov(SGD):
    r"""Nesterov's accelerated gradient: :class:`SGD` with ``nesterov=True``.

    .. math::
        b_t &= \mu b_{t-1} + g_t \\
        \theta_t &= \theta_{t-1} - \gamma (g_t + \mu b_t)

    Arguments, state and errors are those of :class:`SGD` without ``dampening`` and ``nesterov``;
    the momentum :math:`\mu` is above 0 (0.9).

    Source: Y. Nesterov, 1983, in the form of I. Sutskever et al., ICML 2013.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.9,
        weight_decay: float | Tensor = 0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            momentum,
            0,
            weight_decay,
            nesterov=True,
            maximize=maximize,
            foreach=foreach,
            differentiable=differentiable,
            fused=fused,
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group["nesterov"] = True
