"""The base class: from param groups and rules to a ``torch.optim.Optimizer``."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .arena import Arena
from .checks import check_options
from .engines import Bucket, per_tensor, run_vectors, sparse
from .plan import Plan, pattern
from .rule import Group, Rule
from .stepping import (
    add_state,
    arrangement,
    captured,
    check_engine,
    counted,
    hyper_parameters,
    step_tensor,
    vector_engine,
)
from .team import Grads, Team

ENGINE_OPTIONS = ("foreach", "capturable", "differentiable", "fused", "flat")
"""The options that say how a step is run, not what it computes: every convention has them."""


def by_convention(init: Callable[..., None]) -> Callable[..., None]:
    """Make a constructor of its signature, whose defaults are those of ``torch.optim``.

    A hyper-parameter that the caller does not give takes the value of the ``convention``. One that
    the convention does not have raises ``ValueError``, unless it is given as "off" (torch's
    default). What stands in the body of ``init`` is done last.
    """
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(self: "Optimizer", *args: Any, **kwargs: Any) -> None:
        given = dict(signature.bind(self, *args, **kwargs).arguments)
        del given["self"]
        params = given.pop("params")
        options = self.complete(**given)
        self.check(options)
        Optimizer.__init__(self, params, options)
        init(self, *args, **kwargs)

    wrapper.torch_options = {  # type: ignore[attr-defined]
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if name not in ("self", "params", "convention")
    }
    return wrapper


class Optimizer(torch.optim.Optimizer):
    """A ``torch.optim.Optimizer`` whose update is a ``Rule``, chosen by ``convention``.

    ``conventions`` maps each convention that the optimizer knows to its rule; ``forced`` holds the
    torch options that make the optimizer what it is, whatever a loaded state dict says. The
    convention is kept in the param groups, so in the state dict; a state dict without one comes
    from ``torch.optim``. Loading the state of another convention raises ``ValueError``.

    How a step is run, with the same result (to the bit, on the CPU):

    ==================  ============================================================
    ``foreach``         True or None: small parameters joined, large ones in slices
                        (default). False: one parameter after the other
    ``fused``           True: the update compiled to one pass. False: as ``foreach=False``
    ``flat``            True: as ``fused``, with parameters, gradients and slots moved to one
                        piece of memory each, in the second step. ``docs/flat.md`` says what
                        that means for them
    ``capturable``      True: no number leaves the device, for CUDA graphs
    ``differentiable``  True: autograd records the step
    ==================  ============================================================
    """

    conventions: ClassVar[dict[str, Rule]]
    forced: ClassVar[dict[str, Any]] = {}

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        self._plans: dict[int, Plan | list[Any]] = {}
        super().__init__(params, defaults)
        self._state_seen = False

    @property
    def state(self) -> Any:
        """The slots and the step of each parameter.

        Whoever has seen it may exchange what is in it, at any time; until then, no step asks.
        """
        self._state_seen = True
        return self._state

    @state.setter
    def state(self, state: Any) -> None:
        self._state_seen = True
        self._state = state

    @classmethod
    def rule(cls, convention: str) -> Rule:
        if convention not in cls.conventions:
            choices = ", ".join(map(repr, cls.conventions))
            raise ValueError(
                f"{cls.__name__} has no convention {convention!r}: choose from {choices}"
            )
        return cls.conventions[convention]

    @classmethod
    def complete(cls, convention: str = "torch", **given: Any) -> dict[str, Any]:
        """All options, of a param group of which these are given."""
        every = cls.torch_options()
        own = cls.rule(convention).defaults
        if unknown := given.keys() - every.keys():
            names = ", ".join(map(repr, sorted(unknown)))
            raise TypeError(f"{cls.__name__} has no argument {names}")
        if own is None:
            options = every | given | cls.forced
        else:
            options = {name: every[name] for name in ENGINE_OPTIONS if name in every} | own
            for name, value in given.items():
                if name in options:
                    options[name] = value
                elif value != every[name]:
                    raise cls.no_such_option(name, convention)
        return {**options, "convention": convention}

    @classmethod
    def torch_options(cls) -> dict[str, Any]:
        """The options of the constructors, a subclass's over its base's, with torch's defaults."""
        return {
            name: default
            for base in reversed(cls.__mro__)
            for name, default in getattr(vars(base).get("__init__"), "torch_options", {}).items()
        }

    @classmethod
    def no_such_option(cls, name: str, convention: str) -> ValueError:
        choices = ", ".join(cls.rule(convention).defaults or ())
        return ValueError(
            f"{cls.__name__} has no option {name!r} in the {convention!r} convention: "
            f"choose from {choices}"
        )

    @classmethod
    def check(cls, options: Group) -> None:
        """Raise torch's error for options that cannot be."""
        check_options(options)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step. ``closure`` reevaluates the model and returns the loss, as does this."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.check_capture()
        if (found_inf := getattr(self, "found_inf", None)) is not None and found_inf.item():
            return loss
        if len(self._plans) > len(self.param_groups):
            self.drop_plans()
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            for group in self.param_groups:
                self.step_group(self.rule(group["convention"]), group)
        return loss

    def step_group(self, rule: Rule, group: Group) -> None:
        """The next step of the group's parameters that have a gradient, which is counted here."""
        hyper = hyper_parameters(group)
        params: list[Tensor] = group["params"]
        grads = self.gradients(group)
        initial = rule.slots(hyper)
        engine = vector_engine(group)
        plan = None
        if engine is not None and not captured(group):
            plan = self.plan(arrangement(group), rule, group, grads, initial)
        rest = range(len(params)) if plan is None else plan.others
        given = [(params[position], grads[position]) for position in rest]
        given = [(param, grad) for param, grad in given if grad is not None]
        # What is refused is refused before anything is written. A plan's teams have been allowed.
        for param, grad in given:
            check_engine(group, param)
            if grad.is_sparse:
                self.sparse_gradient(grad, hyper)
        if engine is not None and plan is not None:
            for team in plan.teams:
                scalars = self.scalars(rule, hyper, team.next_step(), fresh=False)
                engine(rule, team.vectors(grads, scalars))
                team.finish()
        for bucket in self.buckets(rule, group, hyper, initial, given):
            if bucket.grads[0].is_sparse:
                sparse(rule, bucket)
            elif engine is None:
                per_tensor(rule, bucket)
            else:
                run_vectors(engine, rule, bucket)

    def gradients(self, group: Group) -> Grads:
        """The gradient of each parameter of the group; None where there is none to step by."""
        grads: Grads = [param.grad for param in group["params"]]
        for arena in self.arenas(group):
            for index in arena.untouched():
                grads[arena.positions[index]] = None
        return grads

    def arenas(self, group: Group) -> list[Arena]:
        plan = self._plans.get(id(group))
        return plan.arenas if isinstance(plan, Plan) else []

    def plan(
        self,
        team: type[Team],
        rule: Rule,
        group: Group,
        grads: Grads,
        slots: Iterable[str],
    ) -> Plan | None:
        """How the group is arranged; None until a step's gradients are those of the step before."""
        if torch.is_inference_mode_enabled():
            return None
        params, before = group["params"], self._plans.get(id(group))
        now = before.pattern_of(grads) if isinstance(before, Plan) else pattern(grads)
        state = self._state if self._state_seen else None
        if isinstance(before, Plan) and before.holds(team, params, now, slots, state):
            return before
        if isinstance(before, Plan):
            before.release()
        if before == now:
            plan = Plan(team, params, grads, slots, self._state, rule.counts)
            self._plans[id(group)] = plan
            return plan
        self._plans[id(group)] = now
        return None

    def drop_plans(self) -> None:
        for plan in self._plans.values():
            if isinstance(plan, Plan):
                plan.release()
        self._plans = {}

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients.

        With ``flat`` those of parameters that have moved become views of zeros instead of None; a
        parameter whose gradient is not touched before the step does not move.
        """
        if not all(arena.params_hold() for g in self.param_groups for arena in self.arenas(g)):
            self.drop_plans()
        arenas = [arena for group in self.param_groups for arena in self.arenas(group)]
        untouched = [arena.untouched() for arena in arenas]
        super().zero_grad(set_to_none)
        for arena, indices in zip(arenas, untouched, strict=True):
            if set_to_none:
                arena.clear()
            else:
                arena.keep_untouched(indices)

    def scalars(self, rule: Rule, hyper: Group, step: Any, fresh: bool) -> dict[str, Any]:
        scalars = rule.all_scalars(hyper, step, fresh)
        if (grad_scale := getattr(self, "grad_scale", None)) is not None:
            scalars["grad_scale"] = grad_scale.reshape(())
        return scalars

    def buckets(
        self,
        rule: Rule,
        group: Group,
        hyper: Group,
        initial: dict[str, float],
        given: list[tuple[Tensor, Tensor]],
    ) -> Iterable[Bucket]:
        """The parameters and their gradients, those together that take the same step."""
        scalars: dict[Any, dict[str, Any]] = {}
        found: dict[Any, Bucket] = {}
        for param, grad in given:
            if grad.is_sparse:
                grad = self.sparse_gradient(grad, hyper)
            state = self._state[param] if rule.counts or initial else {}
            fresh = add_state(state, rule, initial, param, group)
            step = counted(state, group) if rule.counts else 0
            # A step that stays a tensor is not read: each is a key of its own.
            time = (id(state["step"]) if isinstance(step, Tensor) else step, fresh)
            if time not in scalars:
                scalars[time] = self.scalars(rule, hyper, step, fresh)
            slots = [state[name] for name in initial]
            kind = (grad.layout, grad.dtype, *(slot.dtype for slot in slots))
            key = (*time, param.device, param.dtype, *kind)
            if key not in found:
                found[key] = Bucket([], [], {name: [] for name in initial}, scalars[time])
            bucket = found[key]
            bucket.params.append(param)
            bucket.grads.append(grad)
            for column, slot in zip(bucket.slots.values(), slots, strict=True):
                column.append(slot)
        return found.values()

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Tells ``GradScaler`` to hand over ``grad_scale`` and ``found_inf``, as to torch's."""
        return bool(self.defaults.get("fused"))

    def sparse_gradient(self, grad: Tensor, hyper: Group) -> Tensor:
        """A sparse gradient in the layout in which a step can be taken. Here, there is none."""
        raise RuntimeError(f"{type(self).__name__} does not support sparse gradients")

    def check_capture(self) -> None:
        """Refuse to be captured into a CUDA graph that would repeat one and the same step."""
        if torch.compiler.is_compiling() or not torch.cuda.is_initialized():
            return
        counting = [g for g in self.param_groups if self.rule(g["convention"]).counts]
        if torch.cuda.is_current_stream_capturing() and not all(
            group.get("capturable") for group in counting
        ):
            raise RuntimeError(
                f"Attempting CUDA graph capture of step() for an instance of "
                f"{type(self).__name__} but param_groups' capturable is False."
            )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if isinstance(param_group, dict):
            convention = self.defaults["convention"]
            if param_group.get("convention", convention) != convention:
                raise ValueError(
                    f"all param groups of an optimizer share its convention, here {convention!r}"
                )
            every = self.torch_options()
            for name in (every.keys() - self.defaults.keys()) & param_group.keys():
                if param_group[name] != every[name]:
                    raise self.no_such_option(name, convention)
                param_group = {key: value for key, value in param_group.items() if key != name}
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state of this class, or of its counterpart in ``torch.optim``.

        Unlike there, a slot keeps the dtype in which it was saved: the float32 average of a
        bfloat16 parameter is not rounded.
        """
        final: dict[str, Any] = {}
        before = self.register_load_state_dict_pre_hook(lambda _, given: final.update(given))
        after = self.register_load_state_dict_post_hook(
            lambda _: self.keep_dtypes(final), prepend=True
        )
        try:
            super().load_state_dict(state_dict)
        finally:
            before.remove()
            after.remove()

    def keep_dtypes(self, saved: dict[str, Any]) -> None:
        for group, saved_group in zip(self.param_groups, saved["param_groups"], strict=True):
            for param, identity in zip(group["params"], saved_group["params"], strict=True):
                state = self.state.get(param, {})
                for name, slot in saved["state"].get(identity, {}).items():
                    if (
                        name != "step"
                        and isinstance(slot, Tensor)
                        and slot.dtype != state[name].dtype
                    ):
                        state[name] = slot.to(param.device)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.setdefault("defaults", state.get("defaults"))
        self.__dict__.setdefault("_plans", {})
        convention = self.defaults["convention"]
        for group in state["param_groups"]:
            if group.setdefault("convention", "torch") != convention:
                raise ValueError(
                    f"the state dict is of the {group['convention']!r} convention, "
                    f"this {type(self).__name__} of the {convention!r} convention"
                )
        super().__setstate__(state)
        self.state = self.__dict__.pop("state")
        self.drop_plans()
        absent = self.torch_options() | (self.rule(convention).defaults or {})
        for group in self.param_groups:
            for name in absent.keys() & self.defaults.keys():
                # A flag may be younger than the state; a number that is missing is another's state.
                if name not in group and not isinstance(absent[name], (bool, type(None))):
                    raise ValueError(
                        f"the state dict is not of {type(self).__name__}: "
                        f"its param groups have no {name!r}"
                    )
                group.setdefault(name, absent[name])
            if convention == "torch":
                group.update(self.forced)
            for param in group["params"]:
                entry = self.state.get(param, {})
                if "step" in entry and not isinstance(entry["step"], Tensor):
                    entry["step"] = step_tensor(entry["step"], param, group)
