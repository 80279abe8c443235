"""The base class: a ``torch.optim.Optimizer`` whose update is a rule."""

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar, overload

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .batch import launches
from .checks import check_options
from .rule import Group, Rule
from .state import add_state, hyper_parameters, is_step, laid_out_as, step_tensor
from .torch_private import constant_for_compiler, is_step_watched

Loss = TypeVar("Loss")


class Optimizer(torch.optim.Optimizer):
    """A ``torch.optim.Optimizer`` whose update is the ``rule`` of its class.

    ``dialect`` says whose formula and defaults these are: several dialects may have a class of the
    same name, each in its own module. The dialect is an entry of every param group, and so it is
    in the state dict; a state dict without the entry counts as one of ``torch.optim``. Loading the
    state of another dialect raises ``ValueError``.

    How a step is run, with the same result (to the bit, on the CPU):

    ==================  ============================================================
    ``foreach``         True or None: one kernel for all parameters (default).
                        False: one parameter after the other
    ``fused``           True: as by default, and ``GradScaler`` leaves unscaling to
                        the kernel. False: as ``foreach=False``, unless
                        ``foreach=True`` is given
    ``capturable``      True: no number leaves the device, for CUDA graphs; with
                        ``fused=True``, those of ``GradScaler`` still do
    ``differentiable``  True: autograd records the step
    ==================  ============================================================
    """

    rule: ClassVar[Rule]
    dialect: ClassVar[str] = "torch"

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        self.check(defaults)
        super().__init__(params, defaults | {"dialect": self.dialect})

    def create_state(self) -> None:
        """Create the state of all parameters before the first step, as torch's Adagrad does."""
        for group in self.param_groups:
            for param in group["params"]:
                add_state(self.state[param], self.rule, self.rule.slots(group), param, group)

    @classmethod
    def check(cls, options: Group) -> None:
        """Raise torch's error for invalid options."""
        check_options(options)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], Loss]) -> Loss: ...

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; returns the loss of ``closure``, which reevaluates the model."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.check_capture()
        if torch.compiler.is_compiling():
            self.prepare()
        if (found_inf := getattr(self, "found_inf", None)) is not None and found_inf.item():
            return loss
        # All launches are prepared, and so everything is checked, before any of them writes.
        for launch in [each for group in self.param_groups for each in launches(self, group)]:
            launch()
        return loss

    @constant_for_compiler
    def prepare(self) -> None:
        """Create the state before the compiler makes a graph of the step.

        The compiler calls this once, outside of the graph, so that the graph of the first step
        serves all steps. Where the first step differs from the others, as with SGD's dampening, the
        state is created within that step instead.
        """
        for group in self.param_groups:
            hyper = hyper_parameters(group)
            new, old = (self.rule.all_scalars(hyper, 1, fresh, torch.float32) for fresh in (1, 0))
            for param in group["params"] if new == old else ():
                if param.grad is not None:
                    add_state(self.state[param], self.rule, self.rule.slots(hyper), param, group)

    @staticmethod
    def profile_hook_step(func: Callable[..., Any]) -> Callable[..., Any]:
        """torch's wrapper around every step, skipped if no hook and no profiler needs it: for a
        small model it costs as much as the step itself."""
        around = torch.optim.Optimizer.profile_hook_step(func)

        @functools.wraps(func)
        def step(self: "Optimizer", *args: Any, **kwargs: Any) -> Any:
            return (around if is_step_watched(self) else func)(self, *args, **kwargs)

        return step

    def sparse_gradient(self, grad: Tensor, hyper: Group) -> Tensor:
        """Convert a sparse gradient to a layout that the step can use. By default it is refused."""
        raise RuntimeError(f"{type(self).__name__} does not support sparse gradients")

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether ``GradScaler`` hands over ``grad_scale`` and ``found_inf``: if ``fused``."""
        return bool(self.defaults.get("fused"))

    def check_capture(self) -> None:
        """Refuse capture into a CUDA graph that would replay the same step number every time."""
        if torch.compiler.is_compiling() or not torch.cuda.is_initialized():
            return
        if not self.rule.counts or not torch.cuda.is_current_stream_capturing():
            return
        if not all(group.get("capturable") for group in self.param_groups):
            raise RuntimeError(
                f"Attempting CUDA graph capture of step() for an instance of "
                f"{type(self).__name__} but param_groups' capturable is False."
            )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if isinstance(param_group, dict):
            self.check_dialect({"dialect": self.dialect} | param_group, "the param group")
        super().add_param_group(param_group)

    def check_dialect(self, group: Group, what: str) -> None:
        if (dialect := group["dialect"]) != self.dialect:
            name = type(self).__name__
            raise ValueError(
                f"{what} is of the {dialect!r} dialect, this {name} of the {self.dialect!r} "
                f"dialect, which has other formulas{taker(dialect, name, group)}"
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state of this class, or of its counterpart in ``torch.optim``.

        Unlike in torch, a slot that was saved in a wider dtype than its parameter's keeps that
        dtype: the float32 average of a bfloat16 parameter is not rounded. A slot that was saved in
        another memory order, as by a model that was not yet channels-last, is copied into the order
        of its parameter.

        Raises ``TypeError`` for anything but a state dict. A Keras optimizer or an Optax state is
        loaded by ``moving.from_keras`` or ``moving.from_optax``.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"a state dict is needed, not {type(state_dict).__name__}: a Keras optimizer is "
                "moved by torchopt_ref.optim.moving.from_keras, a state of Optax by from_optax"
            )
        final: dict[str, Any] = {}
        before = self.register_load_state_dict_pre_hook(lambda _, given: final.update(given))
        after = self.register_load_state_dict_post_hook(
            lambda _: self.fit_slots(final), prepend=True
        )
        try:
            super().load_state_dict(state_dict)
        finally:
            before.remove()
            after.remove()

    def fit_slots(self, saved: dict[str, Any]) -> None:
        for group, saved_group in zip(self.param_groups, saved["param_groups"], strict=True):
            for param, identity in zip(group["params"], saved_group["params"], strict=True):
                state = self.state.get(param, {})
                for name, slot in saved["state"].get(identity, {}).items():
                    if name == "step" or not isinstance(slot, Tensor):
                        continue
                    wide = torch.promote_types(slot.dtype, param.dtype)
                    if wide != state[name].dtype:
                        state[name] = slot.to(param.device, wide)
                    state[name] = laid_out_as(param, state[name])

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.setdefault("defaults", state.get("defaults"))
        for group in state.get("param_groups", ()):
            group.setdefault("dialect", "torch")
            self.check_dialect(group, "the state dict")
        super().__setstate__(state)
        for group in self.param_groups:
            for name in self.defaults.keys() - group.keys():
                group[name] = self.absent(name)
            for param in group["params"]:
                entry = self.state.get(param, {})
                if (step := entry.get("step")) is not None and not is_step(step):
                    entry["step"] = step_tensor(float(step), param, group)

    def absent(self, name: str) -> Any:
        """The value of an option that a loaded state dict lacks.

        If a flag is missing, the state dict is older than the flag, which then was off. If a number
        is missing, the state is another optimizer's, and is refused.
        """
        if not isinstance(self.defaults[name], (bool, type(None))):
            raise ValueError(
                f"the state dict is not of {type(self).__name__}: its param groups have no {name!r}"
            )
        return None if name in ("foreach", "fused") else False


def taker(dialect: str, name: str, group: Group) -> str:
    """The end of an error message: the class of that dialect that takes the group, if one does."""
    module = "torchopt_ref.optim" + ("" if dialect == "torch" else f".{dialect}")
    cls: Any = getattr(sys.modules.get(module), name, None)
    if getattr(cls, "dialect", None) != dialect:
        return ""
    arguments = inspect.signature(cls).parameters.values()
    options = {each.name for each in arguments if each.kind is each.POSITIONAL_OR_KEYWORD}
    return f": {module}.{name} takes it" if options <= group.keys() else ""
