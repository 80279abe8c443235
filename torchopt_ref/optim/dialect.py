"""The base class of the optimizers of every dialect but torch's."""

from typing import Any, ClassVar, TypedDict

from torch.optim.optimizer import ParamsT
from typing_extensions import Unpack

from .optimizer import Optimizer
from .rule import Group, is_zero


class Flags(TypedDict, total=False):
    """How a step is run, see :class:`Optimizer`."""

    foreach: bool | None
    fused: bool | None
    differentiable: bool
    capturable: bool


class Dialect(Optimizer):
    """An optimizer with the formula and defaults of a dialect, under the names of ``torch.optim``.

    Args:
        params: tensors, ``(name, tensor)`` pairs, or dicts defining param groups.
        hyper: the hyper-parameters of the class.
        flags: ``foreach``, ``fused``, ``differentiable``, ``capturable``, as for
            :class:`Optimizer`.

    Raises ``ValueError`` for a hyper-parameter out of range, no parameters, or one in two groups;
    ``TypeError`` for an option that the class does not have. ``names`` maps the dialect's own names
    to ours: if it maps the option to one of the class, the error says what it is called here.
    """

    names: ClassVar[dict[str, str]] = {}

    def __init__(self, params: ParamsT, hyper: dict[str, Any], /, **flags: Unpack[Flags]) -> None:
        off = {"foreach": None, "fused": None, "differentiable": False, "capturable": False}
        for name in flags.keys() - off.keys():
            ours = self.names.get(name, "")
            hint = f": here it is {ours!r}" if ours.partition("[")[0] in hyper else ""
            raise TypeError(f"{self.dialect}.{type(self).__name__} has no argument {name!r}{hint}")
        super().__init__(params, hyper | off | flags)


def momentum_slots(group: Group) -> dict[str, float]:
    """The slots of a rule whose momentum starts at zero: none if the momentum is off."""
    return {} if is_zero(group["momentum"]) else {"momentum_buffer": 0.0}
