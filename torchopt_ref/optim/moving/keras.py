"""A training that moves from Keras or back."""

import inspect
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchopt_ref.optim import keras
from torchopt_ref.optim.optimizer import Optimizer
from torchopt_ref.optim.rule import Group, Rule

from .arrays import (
    Place,
    check_is_of,
    check_names,
    common,
    full_name,
    placed_groups,
    places,
    slots_of,
    steps_of,
    write,
)

MOMENTS = {"exp_avg": "_momentums", "exp_avg_sq": "_velocities", "max_exp_avg_sq": "_velocity_hats"}
KERAS_SLOTS = {
    "SGD": {"momentum_buffer": "momentums"},
    "Adagrad": {"sum": "_accumulators"},
    "RMSprop": {
        "square_avg": "_velocities",
        "momentum_buffer": "_momentums",
        "grad_avg": "_average_gradients",
    },
    "Adam": MOMENTS,
    "AdamW": MOMENTS,
}
"""The optimizers that move, and the attributes in which Keras keeps their slots."""

KERAS_OPTIONS = {ours: theirs for theirs, ours in keras.NAMES.items()}

NOT_IN_THE_STEP = {
    "clipnorm": "call torch.nn.utils.clip_grad_norm_ for each parameter before step()",
    "clipvalue": "call torch.nn.utils.clip_grad_value_ before step()",
    "global_clipnorm": "call torch.nn.utils.clip_grad_norm_ before step()",
    "use_ema": "keep a torch.optim.swa_utils.AveragedModel",
    "loss_scale_factor": "use a torch.amp.GradScaler",
    "gradient_accumulation_steps": "average the gradients of several backward() before step(), and "
    "for the move divide Keras' iterations by it",
}
"""Options of Keras that go around every optimizer's step, and what to do here instead."""


def check_keras(optimizer: Any) -> None:
    """Refuse what cannot be moved from Keras, or to it."""
    name, module = type(optimizer).__name__, type(optimizer).__module__
    if name == "LossScaleOptimizer":
        raise TypeError("a LossScaleOptimizer only scales losses: move its inner_optimizer")
    if name not in KERAS_SLOTS or module.partition(".")[0] != "keras":
        raise TypeError(f"{', '.join(KERAS_SLOTS)} of Keras 3 move, not {full_name(optimizer)}")
    if not optimizer.built:
        raise ValueError(f"Keras' {name} is not built: call build(model.trainable_variables)")
    for option, instead in NOT_IN_THE_STEP.items():
        if getattr(optimizer, option, None):
            raise ValueError(
                f"Keras' {option} is not part of the step here: {instead}, and set it to "
                f"{False if option == 'use_ema' else None} for the move"
            )


def keras_places(optimizer: Any, model_map: Any) -> dict[str, Place]:
    """The map's places by the variables' names, in the order of the map."""
    named = keras_variables(optimizer)
    names = {id(variable): name for name, variable in named.items()}
    entries = model_map.items() if isinstance(model_map, Mapping) else model_map
    mapped = places(
        (key if isinstance(key, str) else names.get(id(key), stranger(key)), entry)
        for key, entry in entries
    )
    check_names(mapped, named, "the Keras optimizer")
    return mapped


def stranger(key: Any) -> str:
    return f"{getattr(key, 'path', full_name(key))} (not one of its variables)"


def keras_variables(optimizer: Any) -> dict[str, Any]:
    """The variables by path; where several have the same path, their number is added to it."""
    variables = optimizer._trainable_variables
    times = Counter(variable.path for variable in variables)
    return {
        variable.path if times[variable.path] == 1 else f"{variable.path} ({number})": variable
        for number, variable in enumerate(variables)
    }


def keras_slots(optimizer: Any, rule: Rule, group: Group) -> list[dict[str, Any]]:
    """Keras' slots of each variable, by our names."""
    where = KERAS_SLOTS[type(optimizer).__name__]
    columns = {name: getattr(optimizer, where[name]) for name in rule.slots(group)}
    count = len(optimizer._trainable_variables)
    return [{name: column[i] for name, column in columns.items()} for i in range(count)]


def keras_options(optimizer: Any, cls: type[Optimizer]) -> dict[str, Any]:
    """Keras' hyper-parameters by our names, all but learning rate and weight decay."""

    def option(name: str) -> Any:
        value = getattr(optimizer, name)
        if callable(value):
            raise ValueError(f"Keras' {name} is a function: give Keras a number for the move")
        return value if isinstance(value, bool) else float(value)

    names = inspect.signature(cls).parameters.keys() - {"params", "lr", "weight_decay", "flags"}
    return {
        name: (option(KERAS_OPTIONS["betas[0]"]), option(KERAS_OPTIONS["betas[1]"]))
        if name == "betas"
        else option(KERAS_OPTIONS.get(name, name))
        for name in names
    }


def keras_decay(optimizer: Any, variable: Any) -> float:
    return float(optimizer.weight_decay or 0) if optimizer._use_weight_decay(variable) else 0.0


def from_keras(optimizer: Any, model_map: Any) -> Optimizer:
    """The training of a Keras optimizer, to go on here: our optimizer of the same class.

    Args:
        optimizer: a built ``keras.optimizers.SGD``, ``Adagrad``, ``RMSprop``, ``Adam`` or
            ``AdamW``, of any backend of Keras.
        model_map: which torch parameter corresponds to each of Keras' variables: a dict from the
            variables' paths, or pairs of path or variable with the parameter. If the
            variable's layout is that of the parameter, give the parameter. Else give
            ``(parameter, function)``, also where both have one shape, as for a square kernel: the
            function turns the variable's array into the parameter's and only moves elements:
            ``numpy.transpose`` for the kernel of a ``Dense``,
            ``lambda kernel: kernel.transpose(3, 2, 0, 1)`` for that of a ``Conv2D``. The function
            is used for the slots as well, and ``to_keras`` finds its inverse by itself.

    **The weights are written into the parameters of the map**; what the optimizer does not train,
    such as a batch normalisation's averages, stays. The optimizer returned has the parameters in
    the order of the map, those that Keras excludes from its weight decay in a second group; Keras'
    hyper-parameters, slots and number of steps. A learning rate schedule is not moved, only its
    present value: make the schedule again, as a ``torch.optim.lr_scheduler``.

    Raises ``TypeError`` for another class, and ``ValueError`` for an optimizer that is not built;
    for an option that is not part of the step here (``clipnorm``, ``clipvalue``,
    ``global_clipnorm``, ``use_ema``, ``loss_scale_factor``, ``gradient_accumulation_steps``) or is
    a function; for a learning rate in float64 that float32 does not have; for variables that are
    missing or twice in the map; and for shapes or dtypes that differ. If an error is raised,
    nothing has been written.

    Example::

        optimizer = from_keras(
            model.optimizer,
            {
                "sequential/dense/kernel": (torch_model[0].weight, numpy.transpose),
                "sequential/dense/bias": torch_model[0].bias,
            },
        )
    """
    check_keras(optimizer)
    cls: type[Optimizer] = getattr(keras, type(optimizer).__name__)
    mapped, variables = keras_places(optimizer, model_map), keras_variables(optimizer)
    lr = float(optimizer.learning_rate)
    wide = any(place.param.dtype == torch.float64 for place in mapped.values())
    if wide and float(np.float32(lr)) != lr:
        raise ValueError(
            f"Keras has the learning rate {lr!r} in float64, here it is kept in float32: "
            "give Keras a number of float32 for the move"
        )
    options = keras_options(optimizer, cls) | {"lr": lr}
    slots = dict(zip(variables, keras_slots(optimizer, cls.rule, options), strict=True))
    moved = {
        name: place.tensors({"weight": variables[name]} | slots[name])
        for name, place in mapped.items()
    }
    groups: dict[float, list[Tensor]] = {}
    for name, place in mapped.items():
        groups.setdefault(keras_decay(optimizer, variables[name]), []).append(place.param)
    ours = cls(
        [{"params": groups[decay], "weight_decay": decay} for decay in sorted(groups)[::-1]],
        **options,
    )
    of = placed_groups(ours.param_groups, mapped)
    for name, place in mapped.items():
        write(ours, of[name], place.param, int(optimizer.iterations), moved[name])
    return ours


def to_keras(
    optimizer: Optimizer, keras_optimizer: Any, model_map: Any, steps: int | None = None
) -> None:
    """The reverse of :func:`from_keras`: write a training into a built Keras optimizer.

    Args:
        optimizer: one of :mod:`torchopt_ref.optim.keras`.
        keras_optimizer: Keras' of the same class and hyper-parameters, built for the variables.
        model_map: as in ``from_keras``.
        steps: the number of steps made, where it is not counted here (``SGD``) or differs among
            parameters. If it is not given for SGD, Keras keeps its own count; with a learning rate
            schedule of Keras it must be given.

    This writes the weights into Keras' variables, and the slots, the number of steps and the
    learning rate into the optimizer. A learning rate schedule of Keras is not overwritten; it
    depends on the number of steps only. Raises as ``from_keras`` does, and ``ValueError`` if any
    hyper-parameter but the learning rate differs, or if parameters differ in their learning rates,
    or in their step counts where ``steps`` is not given: Keras has only one of each. If an error is
    raised, nothing has been written.
    """
    check_is_of(optimizer, "keras")
    check_keras(keras_optimizer)
    kind, theirs = type(optimizer), type(keras_optimizer).__name__
    if kind.__name__ != theirs:
        raise TypeError(f"keras.{kind.__name__} is not moved into Keras' {theirs}")
    mapped, variables = keras_places(keras_optimizer, model_map), keras_variables(keras_optimizer)
    of = placed_groups(optimizer.param_groups, mapped)
    check_names(of, mapped, "the map")
    expected = keras_options(keras_optimizer, kind)
    for name, group in of.items():
        decay = keras_decay(keras_optimizer, variables[name])
        for option, value in (expected | {"weight_decay": decay}).items():
            here = tuple(map(float, group[option])) if option == "betas" else group[option]
            if here != value:
                raise ValueError(
                    f"{name}: {option} is {here} here and {value} in Keras: "
                    "give the Keras optimizer the same"
                )
    lr = common(of.values(), "lr")
    fixed = hasattr(keras_optimizer._learning_rate, "assign")
    steps = steps_of(optimizer, (place.param for place in mapped.values()), steps)
    if steps is None and not fixed:
        raise ValueError(f"{theirs} counts no steps, which Keras' schedule goes by: give steps=")
    written = []
    slots = keras_slots(keras_optimizer, optimizer.rule, expected)
    for (name, variable), targets in zip(variables.items(), slots, strict=True):
        place, group = mapped[name], of[name]
        given = {"weight": place.param} | slots_of(optimizer, group, place.param)
        for what, target in ({"weight": variable} | targets).items():
            written.append((target, place.array(what, given[what], np.asarray(target))))
    for target, array in written:
        target.assign(array)
    if steps is not None:
        keras_optimizer.iterations.assign(steps)
    if fixed:
        keras_optimizer.learning_rate = lr
