"""Adam and AdamW."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .exact import sqrt
from .optimizer import Optimizer
from .rule import Group, Rule, Scalar, Slots


def adam(
    param: Tensor,
    grad: Tensor,
    slots: Slots,
    *,
    step_size: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    bias_correction2_sqrt: Scalar,
    eps: Scalar,
) -> tuple[Tensor, Slots]:
    m = beta1 * slots["exp_avg"] + (1 - beta1) * grad
    v = beta2 * slots["exp_avg_sq"] + (1 - beta2) * grad * grad
    new = {"exp_avg": m, "exp_avg_sq": v}
    if "max_exp_avg_sq" in slots:
        v = torch.maximum(slots["max_exp_avg_sq"], v)
        new["max_exp_avg_sq"] = v
    denom = sqrt(v) / bias_correction2_sqrt + eps
    return param - step_size * m / denom, new


def adam_slots(group: Group) -> dict[str, float]:
    slots = {"exp_avg": 0.0, "exp_avg_sq": 0.0}
    return slots | {"max_exp_avg_sq": 0.0} if group["amsgrad"] else slots


def adam_scalars(group: Group, step: Any, fresh: Any) -> dict[str, Any]:
    beta1, beta2 = group["betas"]
    numbers = {"beta1": beta1, "beta2": beta2, "eps": group["eps"]}
    step_size, correction = group["lr"] / (1 - beta1**step), sqrt(1 - beta2**step)
    return numbers | {"step_size": step_size, "bias_correction2_sqrt": correction}


class Adam(Optimizer):
    r"""Adam: momentum over a moving average of squares, both corrected for their start at zero.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        \theta_t &= \theta_{t-1} - \frac{\gamma}{1 - \beta_1^t} \,
        \frac{m_t}{\sqrt{v_t} / \sqrt{1 - \beta_2^t} + \epsilon}

    Args:
        params: tensors, ``(name, tensor)`` pairs, or dicts defining param groups.
        lr: :math:`\gamma \ge 0`, a float or a one-element tensor (1e-3).
        betas: :math:`(\beta_1, \beta_2)`, each in [0, 1) (0.9, 0.999).
        eps: :math:`\epsilon \ge 0` (1e-8).
        weight_decay: :math:`\lambda \ge 0`. L2: :math:`g_t` becomes
            :math:`g_t + \lambda \theta_{t-1}` (0).
        amsgrad: divide by the root of the largest :math:`v` so far (False).
        maximize: ascend: :math:`g_t` becomes :math:`-g_t` (False).
        decoupled_weight_decay: instead of L2, :math:`\theta_{t-1}` is first multiplied by
            :math:`1 - \gamma \lambda` (False).
        foreach, capturable, differentiable, fused: as for :class:`Optimizer`.

    State: ``step`` (:math:`t`), ``exp_avg`` (:math:`m`), ``exp_avg_sq`` (:math:`v`), and
    ``max_exp_avg_sq`` with ``amsgrad``.

    Raises ``ValueError`` for a hyper-parameter out of range, no parameters, or one in two groups.

    Source: D. Kingma, J. Ba, "Adam", ICLR 2015, algorithm 1; AMSGrad: S. Reddi, S. Kale, S. Kumar,
    ICLR 2018.
    """

    rule: ClassVar[Rule] = Rule(adam, adam_slots, adam_scalars)

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
    ) -> None:
        hyper = {"lr": lr, "betas": betas, "eps": eps, "amsgrad": amsgrad, "maximize": maximize}
        decay = {"weight_decay": weight_decay, "decoupled_weight_decay": decoupled_weight_decay}
        flags = {"foreach": foreach, "capturable": capturable, "fused": fused}
        flags["differentiable"] = differentiable
        super().__init__(params, hyper | decay | flags)

    def sparse_gradient(self, grad: Tensor, hyper: Group) -> Tensor:
        raise RuntimeError(
            f"{type(self).__name__} does not support sparse gradients, "
            "please consider SparseAdam instead"
        )


class AdamW(Adam):
    r"""Adam with decoupled weight decay, 0.01 by default.

    .. math::
        \theta_t = (1 - \gamma \lambda) \theta_{t-1} - \frac{\gamma}{1 - \beta_1^t} \,
        \frac{m_t}{\sqrt{v_t} / \sqrt{1 - \beta_2^t} + \epsilon}

    The moments :math:`m_t` and :math:`v_t` are computed as in :class:`Adam`, but from the gradient
    alone; with L2, :math:`\lambda \theta_{t-1}` would be added to it first.

    Arguments, state and errors are those of :class:`Adam`.

    Source: I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019,
    algorithm 2 with the schedule multiplier inside :math:`\gamma`, as ``torch.optim.AdamW`` has it.
    """

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
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True
