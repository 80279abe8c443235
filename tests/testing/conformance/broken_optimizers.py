"""Optimizers with one defect each, and the checks that must see it: these and no others."""

import copy
import itertools
import warnings

import numpy as np
import torch

from tests.testing.conformance.healthy_optimizer import Healthy, HealthyReference
from torchopt_ref.testing import conformance

BROKEN = {}
"""Each class with the names of the checks that see its defect, and what else they are given."""


def seen_by(*checks, **options):
    def register(cls):
        BROKEN[cls] = set(checks), options
        return cls

    return register


@seen_by(
    "descends_on_a_quadratic",
    "descends_on_rosenbrock",
    "sparse_gradients_descend",
    "scalar_parameter_trains",
    "complex_parameters_descend",
    "float16_parameters_train",
    "bfloat16_parameters_train",
)
class WrongSign(Healthy):
    def direction(self, param, grad, group):
        return -super().direction(param, grad, group)


@seen_by("descends_on_rosenbrock")
class NeverTurns(Healthy):
    """Goes on along the first gradient that it saw."""

    def direction(self, param, grad, group):
        first = self.state[param].setdefault("first", grad.clone())
        return super().direction(param, 5 * first, group)


@seen_by("leaves_gradients_alone")
class WritesGradients(Healthy):
    def direction(self, param, grad, group):
        return grad.add_(param, alpha=group["weight_decay"]) * (-1 if group["maximize"] else 1)


@seen_by("leaves_gradients_alone")
class WritesGradientsToMaximize(Healthy):
    def direction(self, param, grad, group):
        return super().direction(param, grad.neg_() if group["maximize"] else grad, group) * (
            -1 if group["maximize"] else 1
        )


@seen_by("leaves_parameters_without_gradient_alone")
class DecaysWithoutGradient(Healthy):
    def take_step(self, closure):
        loss = super().take_step(closure)
        for group in self.param_groups:
            for param in group["params"]:
                param.mul_(1 - group["lr"] * group["weight_decay"] * (param.grad is None))
        return loss


@seen_by("leaves_parameters_without_gradient_alone")
class ReplacesMissingGradients(Healthy):
    def take_step(self, closure):
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None and self.state[param]:
                    self.update(param, torch.zeros_like(param), group)
        return super().take_step(closure)


@seen_by("nan_gradient_stays_where_it_is")
class SkipsAllOnNaN(Healthy):
    def take_step(self, closure):
        grads = [param.grad for group in self.param_groups for param in group["params"]]
        if any(grad is not None and grad.isnan().any() for grad in grads):
            return None
        return super().take_step(closure)


@seen_by("infinite_gradient_stays_where_it_is")
class RaisesOnInfinity(Healthy):
    def direction(self, param, grad, group):
        assert not grad.isinf().any()
        return super().direction(param, grad, group)


@seen_by("maximize_mirrors")
class MaximizesTheDecayToo(Healthy):
    def direction(self, param, grad, group):
        decay = group["weight_decay"] + 0.01 * group["maximize"]
        grad = grad + decay * param
        return -grad if group["maximize"] else grad


@seen_by("zero_grad_to_none")
class KeepsGradients(Healthy):
    def zero_grad(self, set_to_none=True):
        super().zero_grad(set_to_none=False)


@seen_by("zero_grad_to_zero")
class DropsGradients(Healthy):
    def zero_grad(self, set_to_none=True):
        super().zero_grad(set_to_none=True)


@seen_by("zero_grad_to_zero")
class LeavesOldGradients(Healthy):
    def zero_grad(self, set_to_none=True):
        if set_to_none:
            super().zero_grad()


@seen_by("zero_grad_to_zero")
class MakesNewGradients(Healthy):
    def zero_grad(self, set_to_none=True):
        super().zero_grad(set_to_none)
        for param in self.param_groups[0]["params"]:
            param.grad = None if set_to_none else param.grad.clone()


@seen_by("lr_zero_moves_nothing")
class DecaysWithoutLr(Healthy):
    def update(self, param, grad, group):
        param.mul_(1 - 0.01 * group["weight_decay"])
        super().update(param, grad, group)


@seen_by(
    "lr_zero_moves_nothing", "options_are_per_group", "scheduled_lr_is_obeyed_at_the_next_step"
)
class UsesDefaults(Healthy):
    """Reads its options where the constructor left them."""

    def update(self, param, grad, group):
        super().update(param, grad, group | {"lr": self.defaults["lr"]})


@seen_by("options_are_per_group")
class UsesFirstGroup(Healthy):
    def update(self, param, grad, group):
        super().update(param, grad, self.param_groups[0])


@seen_by("options_are_per_group")
class UsesDefaultMomentum(Healthy):
    """Only options other than the lr are taken from the first group."""

    def update(self, param, grad, group):
        momentum = self.param_groups[0]["momentum"]
        super().update(param, grad, group | {"momentum": momentum})


@seen_by("splitting_a_group_changes_nothing", "empty_parameter_is_harmless")
class WeighsByGroup(Healthy):
    """A parameter's step depends on how many others are in its group."""

    def direction(self, param, grad, group):
        return super().direction(param, grad, group) * (1 + 0.01 * len(group["params"]))


@seen_by("order_of_parameters_changes_nothing", "group_added_during_training_is_trained")
class WeighsByPosition(Healthy):
    def direction(self, param, grad, group):
        params = [p for each in self.param_groups for p in each["params"]]
        first = params[0] is param
        return super().direction(param, grad, group) * (1.01 if first and len(params) > 2 else 1)


@seen_by("group_added_during_training_is_trained")
class ListsParametersOnce(Healthy):
    """Steps the parameters of construction, not those added later."""

    def __init__(self, params, **options):
        super().__init__(params, **options)
        self.listed = {id(param) for group in self.param_groups for param in group["params"]}

    def update(self, param, grad, group):
        if id(param) in getattr(self, "listed", {id(param)}):
            super().update(param, grad, group)


@seen_by("group_added_during_training_is_trained")
class RestartsWhenAGroupIsAdded(Healthy):
    def add_param_group(self, param_group):
        super().add_param_group(param_group)
        self.state.clear()


@seen_by("named_parameters_are_taken")
class UnpacksParameters(Healthy):
    """Loses the names."""

    def __init__(self, params, **options):
        params = [param[1] if isinstance(param, tuple) else param for param in params]
        super().__init__(params, **options)


@seen_by("scheduled_lr_is_obeyed_at_the_next_step")
class ObeysTheLrOneStepLate(Healthy):
    def update(self, param, grad, group):
        late = self.state[param].get("late", group["lr"])
        super().update(param, grad, group | {"lr": late})
        self.state[param]["late"] = group["lr"]


@seen_by("closure_is_called_with_gradients_enabled")
class ClosureWithoutGradients(Healthy):
    def take_step(self, closure):
        loss = closure() if closure is not None else None
        super().take_step(None)
        return loss


@seen_by("closure_is_called_with_gradients_enabled")
class LeavesAutogradOff(Healthy):
    def step(self, closure=None):
        with self.grad_mode():
            loss = self.take_step(closure)
        torch.set_grad_enabled(closure is None)
        return loss


@seen_by("closure_loss_is_returned")
class ReturnsNothing(Healthy):
    def take_step(self, closure):
        super().take_step(closure)


@seen_by("closure_gradients_are_used")
class CallsTheClosureLast(Healthy):
    def take_step(self, closure):
        super().take_step(None)
        if closure is None:
            return None
        with torch.enable_grad():
            return closure()


@seen_by("resumes_bit_exactly", "loads_into_another_precision")
class ForgetsItsCount(Healthy):
    """Counts the steps in an attribute, which no state dict saves."""

    count = 0

    def __getstate__(self):
        return super().__getstate__() | {"count": self.count}

    def take_step(self, closure):
        self.count += 1
        return super().take_step(closure)

    def direction(self, param, grad, group):
        return super().direction(param, grad, group) / (1 + 0.1 * self.count)


@seen_by("resumes_bit_exactly")
class ForgetsGroupOptions(Healthy):
    def load_state_dict(self, state_dict):
        mine = [dict(group) for group in self.param_groups]
        super().load_state_dict(state_dict)
        for group, kept in zip(self.param_groups, mine, strict=True):
            group.update({name: kept[name] for name in ("lr", "momentum")})


class Box:
    """Something that only pickle knows how to save."""

    def __init__(self, value=0.0):
        self.value = value

    def __eq__(self, other):
        return isinstance(other, Box) and self.value == other.value

    __hash__ = None


@seen_by("checkpoint_loads_safely")
class SavesObjects(Healthy):
    def slots(self, param):
        return super().slots(param) | {"box": Box()}


@seen_by("state_keeps_its_dtype_through_load", "bfloat16_state_keeps_its_dtype_through_load")
class CountsInIntegers(Healthy):
    """The base class casts to float32 what is not called step."""

    def slots(self, param):
        return super().slots(param) | {"calls": torch.zeros((), dtype=torch.int64)}


@seen_by("bfloat16_state_keeps_its_dtype_through_load")
class WideSlots(Healthy):
    """Float32 slots, which the base class rounds when it loads them."""

    def slots(self, param):
        wide = param.dtype if param.is_complex() else torch.float32
        return {"step": torch.zeros(()), "momentum_buffer": torch.zeros_like(param, dtype=wide)}


@seen_by("loading_leaves_the_state_dict_alone")
class PopsWhatItLoads(Healthy):
    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        for state in state_dict["state"].values():
            state.pop("step")


@seen_by("loads_into_another_precision")
class ForgetsInFloat64(Healthy):
    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        if any(param.dtype == torch.float64 for param in self.state):
            self.state.clear()


@seen_by(
    "resumes_bit_exactly",
    "loads_into_another_precision",
    "optimizers_are_independent",
    "deepcopy_is_independent",
    "pickle_is_independent",
)
class CountsOnTheClass(Healthy):
    """One count of steps for all instances, which a new instance resets."""

    count = 0

    def __init__(self, params, **options):
        super().__init__(params, **options)
        CountsOnTheClass.count = 0

    def take_step(self, closure):
        CountsOnTheClass.count += 1
        return super().take_step(closure)

    def direction(self, param, grad, group):
        return super().direction(param, grad, group) / (1 + 0.1 * CountsOnTheClass.count)


@seen_by("deepcopy_is_independent")
class CopiesShareBuffers(Healthy):
    def __deepcopy__(self, memo):
        other = type(self)(copy.deepcopy([dict(group) for group in self.param_groups], memo))
        for group, mine in zip(other.param_groups, self.param_groups, strict=True):
            for param, original in zip(group["params"], mine["params"], strict=True):
                if original in self.state:
                    other.state[param] = dict(self.state[original])
        return other


@seen_by("pickle_is_independent")
class PicklesWithoutState(Healthy):
    def __deepcopy__(self, memo):
        other = type(self)(copy.deepcopy([dict(group) for group in self.param_groups], memo))
        other.load_state_dict(copy.deepcopy(self.state_dict()))
        return other

    def __reduce__(self):
        return rebuilt, (type(self), [dict(group) for group in self.param_groups])


def rebuilt(cls, groups):
    return cls(groups)


@seen_by("non_contiguous_parameters_train_alike")
class ViewsParameters(Healthy):
    def direction(self, param, grad, group):
        return super().direction(param.view(-1), grad.view(-1), group).view(param.shape)


@seen_by("non_contiguous_parameters_train_alike")
class FlatSteps(Healthy):
    """Walks the memory of parameter and gradient side by side, whatever their strides."""

    def direction(self, param, grad, group):
        if grad.stride() != param.stride() and grad.dim() > 1:
            grad = torch.as_strided(grad, grad.shape, param.stride())
        return super().direction(param, grad, group)


@seen_by("scalar_parameter_trains")
class NeedsADimension(Healthy):
    def direction(self, param, grad, group):
        return super().direction(param, grad, group) * len(grad) / len(param)


@seen_by("empty_parameter_is_harmless")
class NeedsElements(Healthy):
    def direction(self, param, grad, group):
        return super().direction(param, grad, group) + 0 * grad.abs().sum() / grad.abs().max()


@seen_by("empty_parameter_is_harmless", "complex_parameters_move_as_pairs_of_reals")
class DividesByCount(Healthy):
    def direction(self, param, grad, group):
        return super().direction(param, grad, group) * (1 + 1 / param.numel())


@seen_by("complex_parameters_descend", "complex_parameters_move_as_pairs_of_reals")
class DropsImaginaryPart(Healthy):
    def direction(self, param, grad, group):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            grad = grad.real + 0 * grad if grad.is_complex() else grad
        return super().direction(param, grad, group)


@seen_by("float16_parameters_train")
class HalfBecomesFloat(Healthy):
    def update(self, param, grad, group):
        if param.dtype == torch.float16:
            param.data = param.data.float()
        if grad.dtype == torch.float16:
            grad = grad.float()
        super().update(param, grad, group)


@seen_by("bfloat16_parameters_train")
class LosesBfloat16(Healthy):
    def update(self, param, grad, group):
        before = param.clone()
        super().update(param, grad, group)
        if param.dtype == torch.bfloat16:
            param.copy_(before)


@seen_by("large_float16_gradients_leave_parameters_finite")
class Squares(Healthy):
    """Its normalization overflows in float16: infinity over infinity."""

    def direction(self, param, grad, group):
        scale = (grad * grad).sum() if grad.dtype == torch.float16 else grad.new_ones(())
        return super().direction(param, grad, group) * (scale / scale)


@seen_by("foreach_equals_per_tensor")
class ForeachDecaysTwice(Healthy):
    def direction(self, param, grad, group):
        grad = super().direction(param, grad, group)
        return grad + group["weight_decay"] * param if group["foreach"] else grad


@seen_by("fused_equals_per_tensor")
class FusedForgetsMomentum(Healthy):
    def update(self, param, grad, group):
        super().update(param, grad, group | ({"momentum": 0.0} if group["fused"] else {}))


@seen_by("capturable_equals_per_tensor")
class CapturableIsLate(Healthy):
    def direction(self, param, grad, group):
        grad = super().direction(param, grad, group)
        return grad * (1 + 1e-4) if group["capturable"] else grad


@seen_by("runs_are_reproducible")
class NumbersItsSlots(Healthy):
    """Each slot gets a serial number, so that no two runs end in the same state."""

    serial = itertools.count()

    def slots(self, param):
        return super().slots(param) | {"serial": next(self.serial)}


@seen_by("grad_scaler_skips_overflow")
class ClaimsAmp(Healthy):
    """Tells GradScaler, unless fused, that it unscales and skips by itself, and does neither."""

    def __init__(self, params, fused=False, **options):
        super().__init__(params, fused=fused, **options)
        self._step_supports_amp_scaling = not fused


@seen_by("steps_do_not_gather_memory")
class GathersHistory(Healthy):
    def take_step(self, closure):
        if "past" not in vars(self):
            self.past = []
        self.past.append(1.0)
        return super().take_step(closure)


LEAKED = []


@seen_by("steps_do_not_gather_memory")
class LeaksTensors(Healthy):
    def direction(self, param, grad, group):
        LEAKED.append(torch.zeros(1))
        return super().direction(param, grad, group)


@seen_by("step_hooks_fire_once")
class HooksTwice(Healthy):
    def step(self, closure=None):
        for hook in self._optimizer_step_pre_hooks.values():
            hook(self, (), {})
        with self.grad_mode():
            return self.take_step(closure)


@seen_by("step_hooks_fire_once", "profiler_sees_the_step")
class CallsItsParentsStep(Healthy):
    def step(self, closure=None):
        return super().step(closure)


@seen_by("state_dict_hooks_fire_once")
class OwnStateDict(Healthy):
    """Bypasses the hooks of the base class."""

    def state_dict(self):
        hooks = self._optimizer_state_dict_post_hooks.copy()
        self._optimizer_state_dict_post_hooks.clear()
        try:
            return super().state_dict()
        finally:
            self._optimizer_state_dict_post_hooks.update(hooks)


@seen_by("load_state_dict_hooks_fire_once")
class LoadsTwice(Healthy):
    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        super().load_state_dict(state_dict)


@seen_by("step_hooks_fire_once", "profiler_sees_the_step")
class UnpatchedStep(Healthy):
    """Says that its step has hooks already, so that the base class adds none."""

    def step(self, closure=None):
        with self.grad_mode():
            return self.take_step(closure)

    step.hooked = True


@seen_by("repr_names_the_class")
class NoRepr(Healthy):
    def __repr__(self):
        return "an optimizer"


@seen_by("equals_its_reference", reference=HealthyReference)
class StepsTooFar(Healthy):
    def direction(self, param, grad, group):
        return super().direction(param, grad, group) * 1.000001


@seen_by("state_is_as_large_as_declared", traits=conformance.Traits(state_bytes=1))
class KeepsASecondBuffer(Healthy):
    def slots(self, param):
        return super().slots(param) | {"spare": torch.zeros_like(param)}


@seen_by("compiled_step_equals_eager", slow=True)
class NamesItsSteps(Healthy):
    """A string that is another at every step is a new constant to the compiler."""

    def slots(self, param):
        return super().slots(param) | {"label": ""}

    def direction(self, param, grad, group):
        self.state[param]["label"] += "."
        label = self.state[param]["label"]
        return super().direction(param, grad, group) * (2 if label == "never" else 1)


@seen_by("compiled_step_equals_eager", slow=True)
class StepsFurtherWhenCompiled(Healthy):
    def direction(self, param, grad, group):
        further = 1.01 if torch.compiler.is_compiling() else 1.0
        return super().direction(param, grad, group) * further


@seen_by("leaves_gradients_alone")
class RemovesGradients(Healthy):
    def take_step(self, closure):
        loss = super().take_step(closure)
        self.zero_grad()
        return loss


@seen_by("closure_loss_is_returned")
class ReturnsAnotherLoss(Healthy):
    def take_step(self, closure):
        loss = super().take_step(closure)
        return None if loss is None else loss + 1


@seen_by(
    "closure_is_called_with_gradients_enabled",
    "closure_loss_is_returned",
    "closure_gradients_are_used",
)
class IgnoresTheClosure(Healthy):
    def take_step(self, closure):
        super().take_step(None)


@seen_by("group_added_during_training_is_trained")
class StartsLateGroupsAtInfinity(Healthy):
    def add_param_group(self, param_group):
        late = bool(self.param_groups) and self.param_groups[0]["params"][0] in self.state
        super().add_param_group(param_group)
        for param in self.param_groups[-1]["params"] if late else ():
            self.state[param] = self.slots(param)
            self.state[param]["momentum_buffer"].fill_(float("inf"))


@seen_by("state_dict_hooks_fire_once")
class DropsTheResultOfHooks(Healthy):
    def state_dict(self):
        state_dict = super().state_dict()
        state_dict.pop("added", None)
        return state_dict


@seen_by("load_state_dict_hooks_fire_once")
class LoadsWhatItWasGiven(Healthy):
    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group.pop("added", None)


@seen_by("grad_scaler_skips_overflow")
class FusedIgnoresOverflow(Healthy):
    """Takes unscaling and skipping over from GradScaler, if fused, and only unscales."""

    def __init__(self, params, fused=False, **options):
        super().__init__(params, fused=fused, **options)
        self._step_supports_amp_scaling = fused

    def direction(self, param, grad, group):
        scale = getattr(self, "grad_scale", None)
        return super().direction(param, grad if scale is None else grad / scale, group)


@seen_by("grad_scaler_skips_overflow")
class CountsSkippedSteps(Healthy):
    """A skipped step leaves the parameters, and makes the next one larger."""

    def zero_grad(self, set_to_none=True):
        super().zero_grad(set_to_none)
        for state in self.state.values():
            if "momentum_buffer" in state:
                state["momentum_buffer"].mul_(1.5)


@seen_by("large_float16_gradients_leave_parameters_finite", "float16_parameters_train")
class OverflowsInHalf(Healthy):
    def update(self, param, grad, group):
        super().update(param, grad, group)
        if param.dtype == torch.float16:
            param.mul_(7e4).mul_(1 / 7e4)


@seen_by("repr_names_the_class")
class CannotBeShown(Healthy):
    def __repr__(self):
        raise ValueError("no")


@seen_by("named_parameters_are_taken")
class TakesNoNames(Healthy):
    def __init__(self, params, **options):
        params = list(params)
        if isinstance(params[0], tuple):
            raise TypeError("optimizer can only optimize Tensors")
        super().__init__(params, **options)


@seen_by("scalar_parameter_trains")
class TurnsScalarsIntoVectors(Healthy):
    def update(self, param, grad, group):
        super().update(param, grad, group)
        if param.dim() == 0:
            param.data = param.data.reshape(1)
            param.grad = None
            self.state.pop(param)


@seen_by("differentiable_steps_keep_the_graph")
class CutsTheGraph(Healthy):
    @torch.no_grad()
    def update(self, param, grad, group):
        super().update(param, grad, group)


@seen_by("differentiable_steps_keep_the_graph")
class DividesByZeroInTheGraph(Healthy):
    """The derivative of a square root at zero is infinite, and infinity times zero is NaN."""

    def direction(self, param, grad, group):
        now = param.clone()
        return super().direction(param, grad, group) + torch.sqrt(0 * now * now)


@seen_by("differentiable_steps_keep_the_graph")
class DifferentiableIsFurther(Healthy):
    def direction(self, param, grad, group):
        further = 1.01 if group["differentiable"] else 1.0
        return super().direction(param, grad, group) * further


@seen_by("sparse_gradients_descend")
class TakesSparseRowsInOrder(Healthy):
    """Takes the values of a sparse gradient for the first rows of a dense one."""

    def update(self, param, grad, group):
        if grad.is_sparse:
            values = grad.coalesce().values()
            grad = torch.zeros_like(param)
            grad[: len(values)] = values
        super().update(param, grad, group)


@seen_by("sparse_gradients_descend")
class MovesSparseRowsUphill(Healthy):
    def update(self, param, grad, group):
        super().update(param, -grad if grad.is_sparse else grad, group)


@seen_by("grad_scaler_skips_overflow")
class ForgetsToUnscale(Healthy):
    """Skips an overflow as it told GradScaler, but steps with scaled gradients."""

    _step_supports_amp_scaling = True

    def take_step(self, closure):
        if float(getattr(self, "found_inf", 0)):
            return None
        return super().take_step(closure)


@seen_by("grad_scaler_skips_overflow")
class CountsInZeroGrad(Healthy):
    def zero_grad(self, set_to_none=True):
        super().zero_grad(set_to_none)
        for state in self.state.values():
            state["step"] += 1


@seen_by("loads_into_another_precision")
class ComesBackInFloat32(Healthy):
    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        self.loaded = True

    def update(self, param, grad, group):
        super().update(param, grad, group)
        if getattr(self, "loaded", False) and param.dtype == torch.float64:
            param.grad = None
            param.data = param.data.float()


@seen_by("sparse_gradients_descend")
class DecaysAllRowsOfSparse(Healthy):
    def update(self, param, grad, group):
        super().update(param, grad, group)
        if grad.is_sparse:
            param.mul_(0.9999)


@seen_by("options_are_per_group")
class UsesLastGroup(Healthy):
    def update(self, param, grad, group):
        super().update(param, grad, self.param_groups[-1])


@seen_by("named_parameters_are_taken")
class NamesChangeTheStep(Healthy):
    def direction(self, param, grad, group):
        return super().direction(param, grad, group) * (1.01 if "param_names" in group else 1)


@seen_by("state_dict_hooks_fire_once")
class BuildsItsStateDictTwice(Healthy):
    def state_dict(self):
        super().state_dict()
        return super().state_dict()


@seen_by("has_the_formula_of_its_reference", reference=Healthy, max_ulp=None)
class DecaysAwayFromZero(Healthy):
    """With the defaults there is no weight decay, so that only the changed option shows it."""

    def direction(self, param, grad, group):
        return super().direction(param, grad - 2 * group["weight_decay"] * param, group)


@seen_by("has_the_formula_of_its_reference", reference=Healthy, max_ulp=None)
class DecaysOutsideTheMomentum(Healthy):
    def update(self, param, grad, group):
        param.mul_(1 - group["lr"] * group["weight_decay"])
        super().update(param, grad, group | {"weight_decay": 0.0})


@seen_by("has_the_formula_of_its_reference", reference=Healthy, max_ulp=None)
class KeepsTheLrInItsMomentum(Healthy):
    """``b = mu b + lr g; p -= b``: the same steps as long as the lr stays."""

    def update(self, param, grad, group):
        if not group["lr"]:
            return
        before = self.state[param].get("lr", group["lr"])
        if self.state[param]:
            self.state[param]["momentum_buffer"].mul_(before / group["lr"])
        super().update(param, grad, group)
        self.state[param]["lr"] = group["lr"]

    def slots(self, param):
        return super().slots(param) | {"lr": 0.0}


class ReferenceOfAnotherFormula(HealthyReference):
    def update(self, params, grads):
        super().update(params, {name: grad / (np.abs(grad) + 1) for name, grad in grads.items()})


@seen_by(
    "has_the_formula_of_its_reference",
    "equals_its_reference",
    reference=ReferenceOfAnotherFormula,
)
class HasAnotherReference(Healthy):
    pass


@seen_by("complex_parameters_move_as_pairs_of_reals")
class SquaresComplexNumbers(Healthy):
    """Normalizes by the root of ``g * g`` in place of each part's own magnitude."""

    def direction(self, param, grad, group):
        grad = super().direction(param, grad, group)
        return grad / (grad * grad + 1e-3).sqrt() * 0.1 if grad.is_complex() else grad


@seen_by("parameters_keep_their_memory")
class ReplacesData(Healthy):
    """Within the version's count, which ``.data =`` leaves."""

    def update(self, param, grad, group):
        super().update(param, grad, group)
        if type(param) is torch.nn.Parameter:
            param.data = param.data.clone(memory_format=torch.preserve_format)


@seen_by("parameters_keep_their_memory")
class MakesContiguous(Healthy):
    def update(self, param, grad, group):
        super().update(param, grad, group)
        if not param.is_contiguous() and param.dim() > 1:
            param.data = param.data.contiguous()


@seen_by("parameters_keep_their_memory")
class Freezes(Healthy):
    def update(self, param, grad, group):
        super().update(param, grad, group)
        if param.is_leaf and not param._backward_hooks:
            return
        if param.is_leaf:
            param.requires_grad_(False)


@seen_by("parameters_keep_their_memory")
class DropsHooksOfParameters(Healthy):
    def update(self, param, grad, group):
        super().update(param, grad, group)
        if param._backward_hooks:
            param._backward_hooks.clear()


@seen_by("parameters_keep_their_memory")
class ListsCopies(Healthy):
    """Puts other parameters of the same memory into the groups when it loads."""

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        params = self.param_groups[0]["params"]
        if params[0]._backward_hooks:
            self.param_groups[0]["params"] = [torch.nn.Parameter(param.data) for param in params]


@seen_by("autograd_sees_the_step")
class WritesBehindAutograd(Healthy):
    def update(self, param, grad, group):
        if type(param) is torch.nn.Parameter:
            data = torch.nn.Parameter(param.data)
            self.state[data] = self.state.pop(param, {})
            super().update(data, grad, group)
            self.state[param] = self.state.pop(data)
        else:
            super().update(param, grad, group)


@seen_by("leaves_gradients_alone")
class ReplacesGradients(Healthy):
    def update(self, param, grad, group):
        super().update(param, grad, group)
        param.grad = grad.clone()


@seen_by("step_hooks_fire_once")
class LosesHooksWhenItLoads(Healthy):
    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        self._optimizer_step_pre_hooks.clear()
