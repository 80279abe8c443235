"""The base class: from param groups and rules to a ``torch.optim.Optimizer``."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .engines import Update, per_tensor
from .rule import Group, Rule

NONNEGATIVE = {
    "lr": "learning rate",
    "momentum": "momentum value",
    "alpha": "alpha value",
    "eps": "epsilon value",
    "weight_decay": "weight_decay value",
    "lr_decay": "lr_decay value",
    "initial_accumulator_value": "initial_accumulator_value value",
}


def by_convention(init: Callable[..., None]) -> Callable[..., None]:
    """Let a constructor's defaults, which are those of ``torch.optim``, depend on ``convention``.

    Hyper-parameters that the caller did not give take the convention's values. One that the
    convention does not have raises ``ValueError``, unless it is given as "off" (torch's default).
    """
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(self: "Optimizer", *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        convention = bound.arguments.get("convention", "torch")
        own = self.rule(convention).defaults
        if own is not None:
            for name in bound.arguments.keys() - {"self", "params", "convention"} - own.keys():
                if bound.arguments[name] != signature.parameters[name].default:
                    raise self.no_such_option(name, convention)
            bound.arguments.update({**own, **bound.arguments})
        init(*bound.args, **bound.kwargs)

    return wrapper


class Optimizer(torch.optim.Optimizer):
    """A ``torch.optim.Optimizer`` whose update is a ``Rule``, chosen by ``convention``.

    ``conventions`` maps each convention that the optimizer knows to its rule; ``forced`` holds the
    torch options that make the optimizer what it is, whatever a loaded state dict says. The
    convention is kept in the param groups, so in the state dict; a state dict without one comes
    from ``torch.optim``. Loading the state of another convention raises ``ValueError``.
    """

    conventions: ClassVar[dict[str, Rule]]
    forced: ClassVar[dict[str, Any]] = {}

    def __init__(self, params: ParamsT, convention: str, **hyper: Any) -> None:
        check(hyper)
        own = self.rule(convention).defaults
        if own is not None:
            hyper = {name: hyper[name] for name in own}
        super().__init__(params, {**hyper, "convention": convention})

    @classmethod
    def rule(cls, convention: str) -> Rule:
        if convention not in cls.conventions:
            choices = ", ".join(map(repr, cls.conventions))
            raise ValueError(
                f"{cls.__name__} has no convention {convention!r}: choose from {choices}"
            )
        return cls.conventions[convention]

    @classmethod
    def no_such_option(cls, name: str, convention: str) -> ValueError:
        choices = ", ".join(cls.rule(convention).defaults or ())
        return ValueError(
            f"{cls.__name__} has no option {name!r} in the {convention!r} convention: "
            f"choose from {choices}"
        )

    @classmethod
    def torch_defaults(cls) -> dict[str, Any]:
        """The hyper-parameters of the constructors, a subclass's over its base's, with defaults."""
        return {
            parameter.name: parameter.default
            for base in reversed(cls.__mro__)
            if issubclass(base, Optimizer)
            for parameter in inspect.signature(base.__init__).parameters.values()
            if parameter.default is not inspect.Parameter.empty
        }

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step. ``closure`` reevaluates the model and returns the loss, as does this."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            rule = self.rule(group["convention"])
            with_grad = [param for param in group["params"] if param.grad is not None]
            per_tensor(rule, [self.next_update(rule, group, param) for param in with_grad])
        return loss

    def next_update(self, rule: Rule, group: Group, param: Tensor) -> Update:
        """What an engine needs to take ``param``'s next step, which is counted here."""
        assert param.grad is not None
        if param.grad.is_sparse:
            raise RuntimeError(f"{type(self).__name__} does not support sparse gradients")
        fresh = self.create_state(rule, group, param)
        state = self.state[param]
        if rule.counts:
            state["step"] += 1
        step = state["step"].item() if rule.counts else 0
        slots = {name: state[name] for name in rule.slots(group)}
        return Update(param, param.grad, slots, rule.all_scalars(group, step, fresh))

    def create_state(self, rule: Rule, group: Group, param: Tensor) -> bool:
        """Create what ``param``'s state lacks; whether there was a slot among it."""
        missing = {
            name: initial
            for name, initial in rule.slots(group).items()
            if self.state[param].get(name) is None
        }
        if rule.counts and "step" not in self.state[param]:
            self.state[param]["step"] = step_tensor(0)
        for name, initial in missing.items():
            value = complex(initial, initial) if param.is_complex() else initial
            self.state[param][name] = torch.full_like(param, value, requires_grad=False)
        return bool(missing)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if isinstance(param_group, dict):
            convention = self.defaults["convention"]
            if param_group.get("convention", convention) != convention:
                raise ValueError(
                    f"all param groups of an optimizer share its convention, here {convention!r}"
                )
            foreign = self.torch_defaults().keys() - self.defaults.keys()
            for name in foreign & param_group.keys():
                raise self.no_such_option(name, convention)
        super().add_param_group(param_group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.setdefault("defaults", state.get("defaults"))
        convention = self.defaults["convention"]
        for group in state["param_groups"]:
            if group.setdefault("convention", "torch") != convention:
                raise ValueError(
                    f"the state dict is of the {group['convention']!r} convention, "
                    f"this {type(self).__name__} of the {convention!r} convention"
                )
        super().__setstate__(state)
        absent = self.rule(convention).defaults or self.torch_defaults()
        for group in self.param_groups:
            for name, value in absent.items():
                group.setdefault(name, value)
            if convention == "torch":
                group.update(self.forced)
        for entry in self.state.values():
            if "step" in entry and not torch.is_tensor(entry["step"]):
                entry["step"] = step_tensor(entry["step"])


def step_tensor(count: float) -> Tensor:
    """A step count as ``torch.optim`` keeps it: a scalar on the CPU in the default precision."""
    wide = torch.get_default_dtype() == torch.float64
    return torch.tensor(float(count), dtype=torch.float64 if wide else torch.float32)


def check(hyper: dict[str, Any]) -> None:
    """Raise ``ValueError``, in the words of ``torch.optim``, for a value out of range."""
    if isinstance(hyper["lr"], Tensor) and hyper["lr"].numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    for name, words in NONNEGATIVE.items():
        if name in hyper and not 0.0 <= hyper[name]:
            raise ValueError(f"Invalid {words}: {hyper[name]}")
    betas = hyper.get("betas", ())
    for index, beta in enumerate(betas):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"Invalid beta parameter at index {index}: {beta}")
        if isinstance(beta, Tensor) and beta.numel() != 1:
            raise ValueError(f"Tensor betas[{index}] must be 1-element")
    if not any(all(isinstance(beta, kind) for beta in betas) for kind in (float, Tensor)):
        raise ValueError("betas must be either both floats or both Tensors")
