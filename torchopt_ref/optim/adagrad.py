"""AdaGrad."""

from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from .checks import refuse_weight_decay
from .exact import sqrt
from .optimizer import Optimizer
from .rule import Group, Rule, Scalar, Slots


def adagrad(
    param: Tensor, grad: Tensor, slots: Slots, *, lr: Scalar, eps: Scalar
) -> tuple[Tensor, Slots]:
    s = slots["sum"] + grad * grad
    return param - lr * grad / (sqrt(s) + eps), {"sum": s}


def adagrad_slots(group: Group) -> dict[str, float]:
    return {"sum": group["initial_accumulator_value"]}


def adagrad_scalars(group: Group, step: Any, fresh: Any) -> dict[str, Any]:
    return {"lr": group["lr"] / (1 + (step - 1) * group["lr_decay"]), "eps": group["eps"]}


class AdaGrad(Optimizer):
    r"""AdaGrad: a learning rate per element, falling with the squares of its past gradients.

    .. math::
        s_t &= s_{t-1} + g_t^2 \\
        \theta_t &= \theta_{t-1} - \frac{\gamma}{1 + (t - 1) \eta} \,
        \frac{g_t}{\sqrt{s_t} + \epsilon}

    Args:
        params: tensors, ``(name, tensor)`` pairs, or dicts defining param groups.
        lr: :math:`\gamma \ge 0`, a float or a one-element tensor (0.01).
        lr_decay: :math:`\eta \ge 0` (0).
        weight_decay: :math:`\lambda \ge 0`; adds :math:`\lambda \theta_{t-1}` to :math:`g_t` (0).
        initial_accumulator_value: :math:`s_0 \ge 0` (0).
        eps: :math:`\epsilon \ge 0` (1e-10).
        maximize: ascend: :math:`g_t` becomes :math:`-g_t` (False).
        foreach, differentiable, fused: as for :class:`Optimizer`.

    State: ``step`` (:math:`t`) and ``sum`` (:math:`s`), created by the constructor.

    Raises ``ValueError`` for a hyper-parameter out of range, no parameters, or one in two groups.

    Source: J. Duchi, E. Hazan, Y. Singer, "Adaptive subgradient methods", JMLR 12, 2011.
    """

    rule: ClassVar[Rule] = Rule(adagrad, adagrad_slots, adagrad_scalars)

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        hyper = {"lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay}
        start = {"initial_accumulator_value": initial_accumulator_value, "maximize": maximize}
        flags = {"foreach": foreach, "differentiable": differentiable, "fused": fused}
        super().__init__(params, hyper | start | flags)
        self.create_state()

    def sparse_gradient(self, grad: Tensor, hyper: Group) -> Tensor:
        """Only the elements that are in the gradient have squares to add, and only they move."""
        refuse_weight_decay(hyper)
        return grad

    def share_memory(self) -> None:
        """Move the ``sum`` tensors to shared memory, for training by several processes."""
        for state in self.state.values():
            state["sum"].share_memory_()


Adagrad = AdaGrad
