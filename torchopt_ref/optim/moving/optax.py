"""A training that moves from Optax or back."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from torchopt_ref.optim import optax
from torchopt_ref.optim.optimizer import Optimizer
from torchopt_ref.optim.rule import Group

from .arrays import (
    Place,
    check_is_of,
    check_names,
    common,
    is_pair,
    placed_groups,
    places,
    slots_of,
    steps_of,
    write,
)

OPTAX_SLOTS = {
    "TraceState": {"trace": "momentum_buffer"},
    "ScaleByRssState": {"sum_of_squares": "sum"},
    "ScaleByRmsState": {"nu": "square_avg"},
    "ScaleByRmsWithCountState": {"nu": "square_avg"},
    "ScaleByRStdDevState": {"mu": "grad_avg", "nu": "square_avg"},
    "ScaleByRStdDevWithCountState": {"mu": "grad_avg", "nu": "square_avg"},
    "ScaleByAdamState": {"mu": "exp_avg", "nu": "exp_avg_sq"},
}
"""The states of Optax that hold slots: fields, and what they are here."""

OPTAX_AROUND = (
    *("EmptyState", "MaskedState", "PartitionState", "ScaleByScheduleState"),
    *("WrappedScheduleState", "InjectHyperparamsState", "InjectStatefulHyperparamsState"),
)
"""States without slots of their own."""

OPTAX_OPTIONS = {theirs: ours for theirs, ours in optax.NAMES.items() if "[" not in ours}


class Leaves(NamedTuple):
    """What becomes of the parts of an Optax state: ``slot(name, path, leaf)``, ``count(leaf)``,
    ``option(name, leaf)`` for hyper-parameters, ``kind(name)`` for the states themselves."""

    slot: Callable[[str, str, Any], Any]
    count: Callable[[Any], Any]
    option: Callable[[str, Any], Any]
    kind: Callable[[str], Any]


def walked(state: Any, leaves: Leaves) -> Any:
    """A copy of a state with its leaves replaced as ``leaves`` says. Its parts are found by the
    names of their types, at any depth."""
    if type(state) in (tuple, list):
        return type(state)(walked(part, leaves) for part in state)
    if isinstance(state, Mapping):
        return {name: walked(part, leaves) for name, part in state.items()}
    kind = type(state).__name__
    if kind not in OPTAX_SLOTS and kind not in OPTAX_AROUND:
        raise ValueError(
            f"the state has a {kind}, which is not part of a step here; known are "
            f"{', '.join((*OPTAX_SLOTS, *OPTAX_AROUND))}"
        )
    leaves.kind(kind)
    new: dict[str, Any] = {}
    for field in state._fields:
        part = getattr(state, field)
        if slot := OPTAX_SLOTS.get(kind, {}).get(field):
            new[field] = mapped_tree(functools.partial(leaves.slot, slot), part)
        elif field == "count":
            new[field] = leaves.count(part)
        elif field == "hyperparams":
            new[field] = {name: leaves.option(name, value) for name, value in part.items()}
        else:
            new[field] = walked(part, leaves)
    return state._replace(**new)


def imported_jax() -> Any:
    try:
        import jax
    except ImportError as error:
        raise ImportError(
            "Optax' states are trees of JAX, which is missing: pip install 'torchopt-ref[dialects]'"
        ) from error
    return jax


def mapped_tree(function: Callable[[str, Any], Any], tree: Any, is_leaf: Any = None) -> Any:
    """The tree with ``function(path, leaf)`` for its leaves; a path reads "layers/0/kernel"."""
    util = imported_jax().tree_util

    def with_path(path: Any, leaf: Any) -> Any:
        return function(util.keystr(path, simple=True, separator="/"), leaf)

    return util.tree_map_with_path(with_path, tree, is_leaf=is_leaf)


def optax_places(params_map: Any, found: "Found") -> dict[str, Place]:
    """The map's places by path; all slots that are there must have one."""
    if isinstance(params_map, Mapping):
        params_map = {
            "/".join(map(str, key)) if isinstance(key, tuple) else key: entry
            for key, entry in params_map.items()
        }
    entries: list[tuple[str, Any]] = []
    mapped_tree(lambda path, entry: entries.append((path, entry)), params_map, is_pair)
    mapped = places(entries)
    check_names([name for name in mapped if name in found.slots], found.slots, "the state")
    return mapped


class Found(NamedTuple):
    """What a state holds: slots by path, counts, hyper-parameters, the names of its parts."""

    slots: dict[str, dict[str, Any]]
    counts: list[Any]
    options: dict[str, Any]
    kinds: set[str]


def found_in(state: Any) -> Found:
    found = Found({}, [], {}, set())

    def slot(name: str, path: str, leaf: Any) -> None:
        if name in found.slots.setdefault(path, {}):
            raise ValueError(f"the state has two optimizers of {path}: only one can be moved")
        found.slots[path][name] = leaf

    def option(name: str, leaf: Any) -> None:
        found.options[name] = leaf

    walked(state, Leaves(slot, found.counts.append, option, found.kinds.add))
    return found


def check_slots(optimizer: Optimizer, of: Mapping[str, Group], found: Found) -> None:
    """Refuse a state whose slots are not those that the optimizer has under its options."""
    if found.slots:
        check_names([*of, *found.slots], found.slots, "the state")
    for name in {**of, **found.slots}:
        if name not in of:
            raise ValueError(f"the state has slots of {name}, whose parameter the optimizer lacks")
        there, here = set(found.slots.get(name, ())), set(optimizer.rule.slots(of[name]))
        if there != here:
            raise ValueError(
                f"{name}: the state has {listed(there)}, optax.{type(optimizer).__name__} with "
                f"its options {listed(here)}"
            )
        corrected = any("WithCount" in kind for kind in found.kinds)
        if of[name].get("bias_correction", corrected) != corrected:
            raise ValueError(f"the state is of bias_correction={corrected}, the optimizer is not")


def listed(slots: set[str]) -> str:
    return ", ".join(sorted(slots)) or "no slots"


def options_from(found: Found, group: Group) -> dict[str, Any]:
    """The hyper-parameters that the state holds, by our names. A group without weight decay gets
    none from the state: in Optax a mask excludes such parameters from the decay."""
    values: dict[str, Any] = {
        OPTAX_OPTIONS.get(name, name): float(leaf) for name, leaf in found.options.items()
    }
    if "betas" in group:
        beta1, beta2 = group["betas"]
        values["betas"] = (values.pop("b1", beta1), values.pop("b2", beta2))
    if group.get("weight_decay") == 0:
        values.pop("weight_decay", None)
    if unknown := values.keys() - group.keys():
        raise ValueError(f"the state has hyper-parameters of another optimizer: {listed(unknown)}")
    return values


def option_of(groups: list[dict[str, Any]], name: str) -> float:
    """The value of a hyper-parameter, by Optax' name. For the weight decay, groups without decay do
    not count: in Optax a mask excludes them."""
    if name in ("b1", "b2"):
        return common([{name: group["betas"][name == "b2"]} for group in groups], name)
    ours = OPTAX_OPTIONS.get(name, name)
    if ours not in groups[0]:
        raise ValueError(f"the state has a hyper-parameter of another optimizer: {name}")
    decayed = [group for group in groups if group[ours] != 0] if ours == "weight_decay" else []
    return common(decayed or groups, ours)


def leaves_of(tree: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    mapped_tree(lambda path, leaf: found.update({path: leaf}), tree)
    return found


def from_optax(state: Any, params_map: Any, optimizer: Optimizer, params: Any = None) -> Optimizer:
    """Let a training of Optax go on here: fill ``optimizer`` with the state, and return it.

    Args:
        state: the optimizer state that ``tx.init`` returns, or the one among the results of
            ``tx.update``, where the transformation ``tx`` is ``optax.sgd``, ``adagrad``,
            ``rmsprop``, ``adam`` or ``adamw``, also within ``chain``, ``masked``, ``partition`` or
            ``inject_hyperparams``.
        params_map: which torch parameter corresponds to each leaf of Optax' parameters: a tree of
            the same structure, or a dict from paths (``"layers/0/kernel"``, or a tuple of the
            parts). If the leaf's layout is that of the parameter, give the parameter. Else give
            ``(parameter, function)``, also where both have one shape, as for a square kernel: the
            function turns the leaf's array into the parameter's and only moves elements:
            ``numpy.transpose`` for a dense kernel, ``lambda kernel: kernel.transpose(3, 2, 0, 1)``
            for a convolution's. The function is used for the slots as well, and ``to_optax`` finds
            its inverse by itself.
        optimizer: one of :mod:`torchopt_ref.optim.optax` with the parameters of the map and the
            hyper-parameters of the training. A state holds only those that ``inject_hyperparams``
            keeps in it; these are written into the groups.
        params: Optax' parameters. **With them the weights are written too**; without, they stay.

    A learning rate schedule is not moved, since the state has only its count: make the schedule
    again, as a ``torch.optim.lr_scheduler``. A transformation without a state cannot be seen, so
    repeat here what ``tx`` does around the step: clipping, or a mask of the weight decay (as a
    group of its own). The state of ``adam`` also looks like that of ``radam``, ``yogi`` or
    ``adamax``, which do not exist here.

    Raises ``ValueError`` for a state with other slots than the optimizer's, or with parts that are
    not understood, such as AMSGrad's; leaves that are missing or twice in the map; shapes or dtypes
    that differ; counts that differ. Then nothing has been written.

    Example::

        optimizer = optax.Adam(model.parameters(), lr=1e-3)
        params_map = {
            "dense/kernel": (model[0].weight, numpy.transpose),
            "dense/bias": model[0].bias,
        }
        from_optax(state, params_map, optimizer, params)
    """
    check_is_of(optimizer, "optax")
    found = found_in(state)
    mapped = optax_places(params_map, found)
    counts = sorted({int(count) for count in found.counts})
    if len(counts) > 1:
        raise ValueError(f"the state's counts differ, {counts[0]} and {counts[-1]}: make them one")
    taken = [options_from(found, group) for group in optimizer.param_groups]
    merged = [
        {**group, **options} for group, options in zip(optimizer.param_groups, taken, strict=True)
    ]
    for group in merged:
        optimizer.check(group)
    of = placed_groups(merged, mapped)
    check_slots(optimizer, of, found)
    arrays = {name: dict(found.slots.get(name, {})) for name in mapped}
    if params is not None:
        weights = leaves_of(params)
        check_names(mapped, weights, "the tree of parameters")
        for name, leaf in weights.items():
            arrays[name]["weight"] = leaf
    moved = {name: place.tensors(arrays[name]) for name, place in mapped.items()}
    for group, options in zip(optimizer.param_groups, taken, strict=True):
        group.update(options)
    for name, place in mapped.items():
        write(optimizer, of.get(name), place.param, counts[0] if counts else 0, moved[name])
    return optimizer


def to_optax(
    optimizer: Optimizer,
    state_like: Any,
    params_map: Any,
    params_like: Any = None,
    steps: int | None = None,
) -> Any:
    """The reverse of :func:`from_optax`: a training's state for Optax.

    Args:
        optimizer: one of :mod:`torchopt_ref.optim.optax`.
        state_like: a state of the same structure, such as ``tx.init(params)``, which stays as it
            is. If ``tx`` has other hyper-parameters than ``optimizer``, that is not noticed; but
            those that ``inject_hyperparams`` keeps in the state become those of ``optimizer``.
        params_map: as in ``from_optax``.
        params_like: a tree of Optax' parameters, if the weights are wanted as well.
        steps: the number of steps made. It is needed if the state has a count (as for a schedule),
            but steps are not counted here (``SGD``) or their counts differ among parameters.

    Returns the state, made of JAX' arrays; with ``params_like`` a pair of state and parameters.
    Raises as ``from_optax`` does, and ``ValueError`` if ``steps`` is not given and the step
    counts of parameters differ, since Optax has only one count.
    """
    check_is_of(optimizer, "optax")
    jnp = imported_jax().numpy
    found = found_in(state_like)
    mapped = optax_places(params_map, found)
    of = placed_groups(optimizer.param_groups, mapped)
    check_slots(optimizer, of, found)
    steps = steps_of(optimizer, (mapped[name].param for name in of), steps)
    if found.counts and steps is None:
        raise ValueError(f"{type(optimizer).__name__} counts no steps, the state does: give steps=")

    def array(path: str, what: str, tensor: Tensor, leaf: Any) -> Any:
        return jnp.asarray(mapped[path].array(what, tensor, leaf))

    def slot(name: str, path: str, leaf: Any) -> Any:
        slots = slots_of(optimizer, of[path], mapped[path].param)
        return array(path, name, slots[name], leaf)

    def option(name: str, leaf: Any) -> Any:
        return jnp.asarray(option_of(optimizer.param_groups, name), leaf.dtype)

    leaves = Leaves(slot, lambda leaf: jnp.asarray(steps, leaf.dtype), option, lambda kind: None)
    state = walked(state_like, leaves)
    if params_like is None:
        return state
    check_names(mapped, leaves_of(params_like), "the tree of parameters")
    return state, mapped_tree(
        lambda path, leaf: array(path, "weight", mapped[path].param, leaf), params_like
    )
