"""AdaGrad."""

from typing import Any

from torch import Tensor
from torch.optim.optimizer import ParamsT

from .base import Optimizer, by_convention
from .checks import refuse_weight_decay
from .exact import sqrt
from .rule import Group, Rule, Slots
from .stepping import add_state


def adagrad(
    param: Tensor, grad: Tensor, slots: Slots, *, lr: Any, eps: Any
) -> tuple[Tensor, Slots]:
    s = slots["sum"] + grad * grad
    return param - lr * grad / (sqrt(s) + eps), {"sum": s}


def torch_scalars(group: Group, step: Any, fresh: Any) -> dict[str, Any]:
    return {
        "lr": group["lr"] / (1 + (step - 1) * group["lr_decay"]),
        "eps": group["eps"],
    }


def book_scalars(group: Group, step: Any, fresh: Any) -> dict[str, Any]:
    return {"lr": group["lr"], "eps": group["eps"]}


class AdaGrad(Optimizer):
    r"""AdaGrad: a learning rate per element, falling with the squares of its past gradients.

    ====================  ==========================================================
    ``"torch"``           :math:`s_t = s_{t-1} + g_t^2`; :math:`\theta_t = \theta_{t-1} -
                          \frac{\gamma}{1 + (t - 1) \eta} \, g_t / (\sqrt{s_t} + \epsilon)`
    ``"book"``            :math:`h_t = h_{t-1} + g_t^2`; :math:`\theta_t = \theta_{t-1} -
                          \gamma \, g_t / (\sqrt{h_t} + \epsilon)`
    ====================  ==========================================================

    Args:
        params: tensors, ``(name, tensor)`` pairs, or dicts defining param groups.
        lr: :math:`\gamma \ge 0`, a float or a one-element tensor (0.01).
        lr_decay: :math:`\eta \ge 0`.
        weight_decay: L2 penalty :math:`\lambda \ge 0`: :math:`g_t` becomes
            :math:`g_t + \lambda \theta_{t-1}`.
        initial_accumulator_value: :math:`s_0 \ge 0`.
        eps: :math:`\epsilon \ge 0` (torch 1e-10, book 1e-7).
        maximize: ascend (:math:`g_t` becomes :math:`-g_t`).
        foreach, fused, flat, differentiable: as for :class:`Optimizer`.
        convention: ``"torch"`` (default) or ``"book"``, which has ``lr`` and ``eps``.

    State: ``step`` (:math:`t`) and ``sum`` (:math:`s` or :math:`h`), there from the start.

    Raises:
        ValueError: a hyper-parameter is out of range or not one of the convention's; an unknown
            convention; an empty parameter list; a parameter in two groups.

    Source: J. Duchi, E. Hazan, Y. Singer, "Adaptive subgradient methods", JMLR 12, 2011.
    """

    conventions = {
        "torch": Rule(
            adagrad, lambda group: {"sum": group["initial_accumulator_value"]}, torch_scalars
        ),
        "book": Rule(adagrad, lambda group: {"sum": 0}, book_scalars, {"lr": 0.01, "eps": 1e-7}),
    }

    @by_convention
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
        flat: bool = False,
        convention: str = "torch",
    ) -> None:
        rule = self.rule(convention)
        for group in self.param_groups:
            for param in group["params"]:
                add_state(self._state[param], rule, rule.slots(group), param, group)

    def sparse_gradient(self, grad: Tensor, hyper: Group) -> Tensor:
        """Only touched elements have squares to add, and only they move."""
        refuse_weight_decay(hyper)
        return grad

    def share_memory(self) -> None:
        """Move the ``sum`` tensors to shared memory, for training by several processes."""
        for state in self.state.values():
            state["sum"].share_memory_()


Adagrad = AdaGrad
