"""Gradient descent with momentum, and with Nesterov's."""

from typing import Any

from torch import Tensor
from torch.optim.optimizer import ParamsT

from .base import by_convention
from .rule import Group, Rule, Slots
from .sgd import SGD


def momentum_book(
    param: Tensor, grad: Tensor, slots: Slots, *, lr: Any, momentum: Any
) -> tuple[Tensor, Slots]:
    v = momentum * slots["momentum_buffer"] - lr * grad
    return param + v, {"momentum_buffer": v}


def nesterov_book(
    param: Tensor, grad: Tensor, slots: Slots, *, lr: Any, momentum: Any
) -> tuple[Tensor, Slots]:
    v = slots["momentum_buffer"]
    param = param + (momentum * momentum * v - (1 + momentum) * lr * grad)
    return param, {"momentum_buffer": momentum * v - lr * grad}


def book_slots(group: Group) -> dict[str, float]:
    return {"momentum_buffer": 0}


def book_scalars(group: Group, step: Any, fresh: Any) -> dict[str, Any]:
    return {"lr": group["lr"], "momentum": group["momentum"]}


BOOK_DEFAULTS = {"lr": 0.01, "momentum": 0.9}


class Momentum(SGD):
    r"""Gradient descent with momentum.

    ====================  ==========================================================
    ``"torch"``           :class:`SGD` with momentum 0.9 by default: the learning rate is
                          outside the velocity
    ``"book"``            :math:`v_t = \mu v_{t-1} - \gamma g_t`;
                          :math:`\theta_t = \theta_{t-1} + v_t`: it is inside
    ====================  ==========================================================

    Args:
        params, lr, dampening, weight_decay, nesterov, maximize: as for :class:`SGD`.
        momentum: :math:`\mu \ge 0` (0.9).
        foreach, fused, flat, differentiable: as for :class:`Optimizer`.
        convention: ``"torch"`` (default) or ``"book"``, which has ``lr`` (0.01) and ``momentum``.

    State: ``momentum_buffer`` (:math:`b` of :class:`SGD`, or :math:`v`).

    Raises:
        ValueError: as :class:`SGD`.

    Source: B. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
    """

    conventions = {
        "torch": SGD.conventions["torch"],
        "book": Rule(momentum_book, book_slots, book_scalars, BOOK_DEFAULTS, counts=False),
    }

    @by_convention
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
        flat: bool = False,
        convention: str = "torch",
    ) -> None: ...


class Nesterov(SGD):
    r"""Nesterov's accelerated gradient.

    ====================  ==========================================================
    ``"torch"``           :class:`SGD` with ``nesterov=True`` and momentum 0.9 by default
    ``"book"``            :math:`\theta_t = \theta_{t-1} + \mu^2 v_{t-1} - (1 + \mu) \gamma g_t`;
                          :math:`v_t = \mu v_{t-1} - \gamma g_t`
    ====================  ==========================================================

    Args:
        params, lr, weight_decay, maximize: as for :class:`SGD`.
        momentum: :math:`\mu` (0.9); in the torch convention above 0.
        foreach, fused, flat, differentiable: as for :class:`Optimizer`.
        convention: ``"torch"`` (default) or ``"book"``, which has ``lr`` (0.01) and ``momentum``.

    State: ``momentum_buffer`` (:math:`b` of :class:`SGD`, or :math:`v`).

    Raises:
        ValueError: as :class:`SGD`.

    Source: Y. Nesterov, 1983; book form: Y. Bengio et al., "Advances in optimizing recurrent
    networks", 2012, equation 7.
    """

    conventions = {
        "torch": SGD.conventions["torch"],
        "book": Rule(nesterov_book, book_slots, book_scalars, BOOK_DEFAULTS, counts=False),
    }
    forced = {"nesterov": True}

    @by_convention
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
        flat: bool = False,
        convention: str = "torch",
    ) -> None: ...
