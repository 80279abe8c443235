"""Batches: splits the parameters of a param group into calls of the engines that update them.

All about parameters is gathered afresh at each step; only formulas and compiled kernels are cached.
So no change of a parameter, gradient, slot or group in between needs special treatment.
"""

import functools
import warnings
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from . import torch_private
from .checks import check_engine, check_steps
from .engines import cpu, cuda, eager, memory
from .engines.formula import Form, formula
from .engines.memory import PLAIN
from .engines.views import in_memory
from .exact import quiet
from .rule import Group, Rule, python_number
from .state import NUMBERS, ONE, add_state, captured, hyper_parameters

Launch = Callable[[], None]
"""A prepared update of some parameters: every check that can refuse it has been made."""

NONE, STRIDED = type(None), {torch.strided}


class HasRule(Protocol):
    """What this module needs of an optimizer."""

    rule: ClassVar[Rule]
    state: defaultdict[Tensor, Any]

    def sparse_gradient(self, grad: Tensor, hyper: Group) -> Tensor: ...


class Rows(NamedTuple):
    """Parameters of a group that have a gradient, with what their step needs, in parallel lists.

    ``hyper`` has the group's options as numbers; ``steps`` is empty for a rule that does not count;
    ``fresh`` has the positions of the rows whose slots have just been created; ``plain`` is true if
    all tensors are of the types in ``PLAIN``.
    """

    rule: Rule
    group: Group
    hyper: Group
    grad_scale: Tensor | None
    params: list[Tensor]
    grads: list[Tensor]
    slots: dict[str, list[Tensor]]
    steps: list[Tensor]
    fresh: set[int]
    plain: bool

    def scalars(self, step: Any, fresh: bool, dtype: torch.dtype) -> dict[str, Any]:
        """The keyword arguments of the rule in step number ``step``, for an update in ``dtype``."""
        found = self.rule.all_scalars(self.hyper, step, fresh, dtype)
        if not NUMBERS.issuperset(map(type, found.values())):
            found = {name: python_number(value) for name, value in found.items()}
        if self.grad_scale is not None:
            found["grad_scale"] = self.grad_scale.item()
        return found

    def row(self, position: int) -> list[Tensor]:
        slots = [column[position] for column in self.slots.values()]
        return [self.params[position], self.grads[position], *slots]


def launches(optimizer: HasRule, group: Group) -> list[Launch]:
    """The prepared calls that together take the next step of a group."""
    params: list[Tensor] = group["params"]
    grads: list[Any] = [param.grad for param in params]
    if NONE in map(type, grads):
        params = [param for param, grad in zip(params, grads, strict=True) if grad is not None]
        grads = [grad for grad in grads if grad is not None]
    if not params:
        return []
    rows = gather(optimizer, group, params, grads)
    if is_for_kernel(group) and kernels():
        return by_kernel(rows)
    check_steps(group, rows.steps)
    return [functools.partial(by_eager, rows, range(len(params)))]


def gather(optimizer: HasRule, group: Group, params: list[Tensor], grads: list[Tensor]) -> Rows:
    """The rows of a group. State that is missing is created."""
    hyper = hyper_parameters(group)
    if group.get("fused") or group.get("capturable"):
        check_engine(group, params)
    if {grad.layout for grad in grads} != STRIDED:
        grads = [
            grad if grad.layout in STRIDED else optimizer.sparse_gradient(grad, hyper)
            for grad in grads
        ]
    rule, initial = optimizer.rule, optimizer.rule.slots(hyper)
    known = (rule, group, hyper, getattr(optimizer, "grad_scale", None), params, grads)
    if not (initial or rule.counts):
        return Rows(*known, {}, [], set(), PLAIN.issuperset(map(type, chain(params, grads))))
    states = [optimizer.state[param] for param in params]
    names = [*initial, "step"] if rule.counts else [*initial]
    fresh: set[int] = set()
    try:
        columns = {name: [state[name] for state in states] for name in names}
    except KeyError:
        columns = {}
    types = set(map(type, chain(params, grads, *columns.values())))
    if not columns or NONE in types:
        created = [
            add_state(state, rule, initial, param, group)
            for state, param in zip(states, params, strict=True)
        ]
        fresh = {position for position, new in enumerate(created) if new}
        columns = {name: [state[name] for state in states] for name in names}
        types = set(map(type, chain(params, grads, *columns.values())))
    steps = columns.pop("step") if rule.counts else []
    return Rows(*known, columns, steps, fresh, types <= PLAIN)


def is_for_kernel(group: Group) -> bool:
    """Whether kernels may take the step, as far as the group's options and torch's modes allow."""
    if torch.compiler.is_compiling() or group["differentiable"]:
        return False
    foreach, fused = group.get("foreach"), group.get("fused")
    if not fused and (foreach is False or (fused is False and not foreach)):
        return False
    return not torch_private.is_watched()


@functools.cache
def kernels() -> bool:
    """Whether machine code can be made on this machine; warns once if it cannot."""
    try:
        memory.reader()
    except (OSError, RuntimeError, AttributeError) as error:
        warnings.warn(f"no kernels, so that steps are slow: {error}", stacklevel=2)
        return False
    return True


@functools.cache
def triton_kernels(device: torch.device) -> bool:
    """Whether there are kernels for a CUDA device."""
    reason = cuda.unavailable(device)
    if reason is not None:
        warnings.warn(f"no kernels for {device}, so that steps are slow: {reason}", stacklevel=2)
    return reason is None


def by_eager(rows: Rows, which: Iterable[int]) -> None:
    """The step of the rows at ``which``, one parameter after the other."""
    rule, stays = rows.rule, captured(rows.group)
    updates: dict[Any, Callable[..., None]] = {}
    with torch.set_grad_enabled(rows.group["differentiable"]), quiet():
        for position in which:
            count = counted(rows.steps[position], stays) if rule.counts else 0
            # Counts that must not be read are told apart by the identity of their tensors.
            known = id(rows.steps[position]) if isinstance(count, Tensor) else count
            row, wide = rows.row(position), torch.float32
            if rule.rounded_scalars is not None:
                wide = eager.compute_dtype(row)
            key = (known, position in rows.fresh, wide)
            if key not in updates:
                scalars = rows.scalars(count, key[1], wide)
                updates[key] = eager.update(rule, tuple(rows.slots), scalars)
            updates[key](row)


def counted(step: Any, stays: bool) -> Any:
    """Add 1 to a step count. Returns it as a number; as a float64 tensor if it must not be read."""
    if stays or step.device.type != "cpu":
        # Not ONE: the compiler would simplify 0 + ONE to ONE, and the count would share its memory.
        step += 1
        return step.double()
    step += ONE if type(step) is Tensor and step.is_floating_point() else 1
    return step.item()


def by_kernel(rows: Rows) -> list[Launch]:
    """One kernel for all rows of one device and the same dtypes; the eager engine for the rest."""
    columns = [rows.params, rows.grads, *rows.slots.values()]
    # With ``grad_scale`` the step also writes the gradients, unscaled.
    columns, seen = in_memory(columns, rows.plain, unscales=rows.grad_scale is not None)
    count = Count.of(rows)
    which: Sequence[int] = range(len(rows.params))
    if count is None:
        check_steps(rows.group, rows.steps)
    if count is None or seen.overlap:
        return [functools.partial(by_eager, rows, which)]
    found: list[Launch] = []
    for which in seen.of_one_kind():
        part, params, own = seen, rows.params, count
        if len(which) < len(params):
            part, own = seen.pick(which), count.pick(which)
            params = [params[position] for position in which]
        update = kernel_update(rows, which, part, own)
        if update is None:
            found.append(functools.partial(by_eager, rows, which))
        else:
            found.append(functools.partial(run, update, own.handles, params, (columns, rows.steps)))
    return found


def run(update: Launch, handles: "array[int]", params: list[Tensor], alive: object) -> None:
    """Take the step of a batch. ``alive`` holds the tensors that ``update`` knows only by their
    address, so that they are not freed before."""
    update()
    memory.count_steps(handles)
    eager.notice_writes(params)


class Count(NamedTuple):
    """The step counts of some rows.

    If they are in the CPU's memory, ``values`` has what they will be after the coming step, and
    machine code adds 1 to them by ``handles``. If they are on the rows' device, ``counters`` has
    the tensors themselves. If the rule does not count, ``values`` is all 0.
    """

    values: "array[float]"
    handles: "array[int]"
    counters: list[Tensor]

    @classmethod
    def of(cls, rows: Rows) -> "Count | None":
        """The counts of ``rows``; None where machine code cannot add to them."""
        if not rows.steps:
            return cls(array("d", bytes(8 * len(rows.params))), array("q"), [])
        if PLAIN.issuperset(map(type, rows.steps)):
            read = memory.read_steps(rows.steps)
            # If parameters share a count, each must add to it before the next parameter steps. A
            # kernel cannot do that, so such rows are left to the eager engine.
            if read is not None and len({*read[0]}) == len(rows.steps):
                return cls(read[1], read[0], [])
            if all(step.is_cuda and step.dtype == torch.float32 for step in rows.steps):
                return cls(array("d"), array("q"), rows.steps)
        return None

    def pick(self, which: Sequence[int]) -> "Count":
        if self.counters:
            return self._replace(counters=[self.counters[position] for position in which])
        values = array("d", [self.values[position] for position in which])
        return Count(values, array("q", [self.handles[p] for p in which if self.handles]), [])

    def keys(self, fresh: list[bool]) -> Sequence[tuple[Any, bool]]:
        """The step of each row and whether its slots are new; one pair if that is equal for all.

        For counts on the device there is one pair, with all steps in one tensor; there the slots of
        all rows are new, or those of none.
        """
        if self.counters:
            return [(torch.stack(self.counters).double() + 1, any(fresh))]
        if self.values.count(self.values[0]) == len(self.values) and len({*fresh}) <= 1:
            return [(self.values[0], any(fresh))]
        return list(zip(self.values, fresh or [False] * len(self.values), strict=True))


def kernel_update(
    rows: Rows, which: Sequence[int], part: memory.Places, count: Count
) -> Launch | None:
    """The call of a kernel for ``part``, the rows at ``which``; None if there is no kernel."""
    if not memory.is_for_kernels(part.kinds[0], part.width):
        return None
    fresh = [position in rows.fresh for position in which] if rows.fresh else []
    if count.counters and len({*fresh}) > 1:
        return None
    keys = count.keys(fresh)
    different = keys if len(keys) == 1 else [*dict.fromkeys(keys)]
    dtypes = part.dtypes()
    wide = torch.float64 if torch.float64 in dtypes else torch.float32
    values = [rows.scalars(*key, wide) for key in different]
    form, *others = [Form.of(rows.rule, tuple(rows.slots), each) for each in values]
    known = formula(form)
    if known is None or any(other != form for other in others):
        return None
    numbers = [known.evaluate(each) for each in values]
    if len(numbers) > 1:
        of_key = dict(zip(different, numbers, strict=True))
        numbers = [of_key[key] for key in keys]
    device = part.device()
    if device.type == "cpu" and not count.counters:
        return functools.partial(cpu.update, cpu.compiled(form, dtypes), part, numbers)
    if device.type == "cuda" and triton_kernels(device):
        counters = [step.data_ptr() for step in count.counters] or [0] * len(which)
        there = cuda.on_device(numbers, len(which), device)
        return functools.partial(cuda.update, cuda.kernel(form, dtypes), part, counters, there)
    return None
