"""The parameters' memory, which others look at, too."""

import copy
from typing import Any

import torch
from torch.nn import Parameter

from ..comparing import same, snapshot
from ..subject import UNDER_WAY, Params, Subject
from ..verdicts import Failure, require
from .tensors import transposed


def parameters_keep_their_memory(subject: Subject) -> None:
    """A step writes into the parameters' own memory, and leaves all else about them as it is.

    Tied weights, flattened parameters, DDP and CUDA graphs look at that memory: after
    ``p.data = ...`` they see the old values for ever. Also looked at: dtype, strides,
    ``requires_grad``, hooks on the parameter, and that it is still the one in the param groups.

    Remedy: ``param.add_(...)`` or ``param.copy_(...)`` under ``torch.no_grad()``, never
    ``param.data = ...``; make no contiguous copy of a parameter.
    """
    require_kept(subject, subject.parameters())
    turned = [Parameter(transposed(param.detach())) for param in subject.parameters()]
    try:
        require_kept(subject, turned)
    except Failure:
        raise
    except Exception:
        return  # non_contiguous_parameters_train_alike reports what it does not take.


def require_kept(subject: Subject, params: Params) -> None:
    views = [param.detach() for param in params]
    hooks: list[dict[int, Any]] = []
    for param in params:
        param.register_hook(lambda grad: grad)
        hooks.append(dict(param._backward_hooks or {}))
    before = [about(param) for param in params]
    optimizer = subject.build(params)
    subject.train(optimizer, params, range(UNDER_WAY))
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    subject.train(optimizer, params, range(UNDER_WAY, UNDER_WAY + 2))
    held = [param for group in optimizer.param_groups for param in group["params"]]
    for index, (param, view, was) in enumerate(zip(params, views, before, strict=True)):
        for name, value in about(param).items():
            require(value == was[name], f"parameter {index}: {name} {was[name]} became {value}")
        require(same(param.detach(), view), f"a view of parameter {index} does not see the step")
        require(any(param is each for each in held), f"parameter {index} is in no param group now")
        kept = (param._backward_hooks or {}).items() >= hooks[index].items()
        require(kept, f"parameter {index} has lost its hooks")


def about(param: Parameter) -> dict[str, Any]:
    return {
        "class": type(param).__name__,
        "dtype": param.dtype,
        "shape": tuple(param.shape),
        "strides": param.stride(),
        "address": param.data_ptr(),
        "requires_grad": param.requires_grad,
        "is_leaf": param.is_leaf,
    }


def autograd_sees_the_step(subject: Subject) -> None:
    """A backward pass through a graph from before the step raises, as the parameters have changed.

    It would mix old activations with new weights, and silently compute a gradient that belongs to
    no function.
    torch counts in-place changes to find this; what is written through ``.data`` is not counted.

    Remedy: write to the parameter itself, ``param.add_(...)``, under ``torch.no_grad()``, never to
    ``param.data``.
    """
    params = subject.parameters()
    optimizer = subject.build(params)
    for step in range(UNDER_WAY):
        before, versions = snapshot(params), [param._version for param in params]
        subject.train(optimizer, params, [step])
        for index, (param, was, version) in enumerate(zip(params, before, versions, strict=True)):
            changed = not torch.equal(param.detach(), was)
            require(
                not changed or param._version > version,
                f"parameter {index} changed at step {step + 1}, its _version did not",
            )
