"""Adam and AdamW."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .base import Optimizer, by_convention
from .checks import check_foreach_tensors
from .exact import sqrt
from .rule import Group, Rule, Slots


def adam(
    param: Tensor,
    grad: Tensor,
    slots: Slots,
    *,
    step_size: Any,
    beta1: Any,
    beta2: Any,
    bias_correction2_sqrt: Any,
    eps: Any,
) -> tuple[Tensor, Slots]:
    m = slots["exp_avg"] + (1 - beta1) * (grad - slots["exp_avg"])
    v = beta2 * slots["exp_avg_sq"] + (1 - beta2) * grad * grad
    new = {"exp_avg": m, "exp_avg_sq": v}
    if "max_exp_avg_sq" in slots:
        v = torch.maximum(slots["max_exp_avg_sq"], v)
        new["max_exp_avg_sq"] = v
    denom = sqrt(v) / bias_correction2_sqrt + eps
    return param - step_size * m / denom, new


def adam_slots(group: Group) -> dict[str, float]:
    names = ["exp_avg", "exp_avg_sq"] + ["max_exp_avg_sq"] * group["amsgrad"]
    return dict.fromkeys(names, 0.0)


def adam_scalars(group: Group, step: Any, fresh: Any) -> dict[str, Any]:
    beta1, beta2 = group["betas"]
    return {
        "step_size": group["lr"] / (1 - beta1**step),
        "beta1": beta1,
        "beta2": beta2,
        "bias_correction2_sqrt": sqrt(1 - beta2**step),
        "eps": group["eps"],
    }


def adam_book(
    param: Tensor, grad: Tensor, slots: Slots, *, lr_t: Any, beta1: Any, beta2: Any, eps: Any
) -> tuple[Tensor, Slots]:
    m = slots["exp_avg"] + (1 - beta1) * (grad - slots["exp_avg"])
    v = slots["exp_avg_sq"] + (1 - beta2) * (grad * grad - slots["exp_avg_sq"])
    return param - lr_t * m / (sqrt(v) + eps), {"exp_avg": m, "exp_avg_sq": v}


def adam_book_slots(group: Group) -> dict[str, float]:
    return {"exp_avg": 0, "exp_avg_sq": 0}


def adam_book_scalars(group: Group, step: Any, fresh: Any) -> dict[str, Any]:
    beta1, beta2 = group["betas"]
    return {
        "lr_t": group["lr"] * sqrt(1 - beta2**step) / (1 - beta1**step),
        "beta1": beta1,
        "beta2": beta2,
        "eps": group["eps"],
    }


class Adam(Optimizer):
    r"""Adam: momentum over a moving average of squares, both corrected for their start at zero.

    ====================  ==========================================================
    both                  :math:`m_t = m_{t-1} + (1 - \beta_1)(g_t - m_{t-1})`
    ``"torch"``           :math:`v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2`;
                          :math:`\theta_t = \theta_{t-1} - \frac{\gamma}{1 - \beta_1^t} \,
                          m_t / (\sqrt{v_t} / \sqrt{1 - \beta_2^t} + \epsilon)`
    ``"book"``            :math:`v_t = v_{t-1} + (1 - \beta_2)(g_t^2 - v_{t-1})`;
                          :math:`\gamma_t = \gamma \sqrt{1 - \beta_2^t} / (1 - \beta_1^t)`;
                          :math:`\theta_t = \theta_{t-1} - \gamma_t \, m_t /
                          (\sqrt{v_t} + \epsilon)`: epsilon is added before the correction
    ====================  ==========================================================

    Args:
        params: tensors, ``(name, tensor)`` pairs, or dicts defining param groups.
        lr: :math:`\gamma \ge 0`, a float or a one-element tensor (1e-3).
        betas: :math:`(\beta_1, \beta_2)`, each in [0, 1).
        eps: :math:`\epsilon \ge 0` (torch 1e-8, book 1e-7).
        weight_decay: :math:`\lambda \ge 0`. L2: :math:`g_t` becomes
            :math:`g_t + \lambda \theta_{t-1}`.
        amsgrad: divide by the largest :math:`v` so far.
        maximize: ascend (:math:`g_t` becomes :math:`-g_t`).
        decoupled_weight_decay: instead of L2, :math:`\theta_{t-1}` is first multiplied by
            :math:`1 - \gamma \lambda`.
        foreach, fused, flat, capturable, differentiable: as for :class:`Optimizer`.
        convention: ``"torch"`` (default) or ``"book"``, which has ``lr``, ``betas`` and ``eps``.

    State: ``step`` (:math:`t`), ``exp_avg`` (:math:`m`), ``exp_avg_sq`` (:math:`v`), and
    ``max_exp_avg_sq`` with ``amsgrad``.

    Raises:
        ValueError: a hyper-parameter is out of range or not one of the convention's; an unknown
            convention; an empty parameter list; a parameter in two groups.

    Source: D. Kingma, J. Ba, "Adam", ICLR 2015, algorithm 1 (book: the form at the end of its
    section 2); AMSGrad: S. Reddi, S. Kale, S. Kumar, ICLR 2018.
    """

    conventions = {
        "torch": Rule(adam, adam_slots, adam_scalars),
        "book": Rule(
            adam_book,
            adam_book_slots,
            adam_book_scalars,
            {"lr": 0.001, "betas": (0.9, 0.999), "eps": 1e-7},
        ),
    }

    @by_convention
    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        flat: bool = False,
        convention: str = "torch",
    ) -> None: ...

    @classmethod
    def check(cls, options: Group) -> None:
        super().check(options)
        check_foreach_tensors(options)

    def sparse_gradient(self, grad: Tensor, hyper: Group) -> Tensor:
        raise RuntimeError(
            f"{type(self).__name__} does not support sparse gradients, "
            "please consider SparseAdam instead"
        )


class AdamW(Adam):
    r"""Adam with decoupled weight decay, 0.01 by default.

    :math:`\theta_{t-1}` is multiplied by :math:`1 - \gamma \lambda` before Adam's step, instead of
    :math:`\lambda \theta_{t-1}` being added to the gradient.

    Args:
        params, lr, betas, eps, amsgrad, maximize: as for :class:`Adam`.
        weight_decay: :math:`\lambda \ge 0` (0.01).
        foreach, fused, flat, capturable, differentiable: as for :class:`Optimizer`.
        convention: ``"torch"``, the only one.

    State, Raises: as :class:`Adam`.

    Source: I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019,
    algorithm 2 with the schedule multiplier inside :math:`\gamma`, as ``torch.optim.AdamW`` has it.
    """

    conventions = {"torch": Adam.conventions["torch"]}
    forced = {"decoupled_weight_decay": True}

    @by_convention
    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        flat: bool = False,
        convention: str = "torch",
    ) -> None: ...
