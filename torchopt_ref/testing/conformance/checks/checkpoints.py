"""State dicts: saving, loading, resuming."""

import copy
import io
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchopt_ref.errors import short_line

from ..comparing import flat, require_close, require_same, require_same_state, snapshot
from ..subject import Params, Subject, has_lr, set_lr
from ..verdicts import Failure, Skip, refusal, require

LOW_PRECISION = "bfloat16|half|dtype|float"


def as_bytes(state_dict: dict[str, Any]) -> io.BytesIO:
    buffer = io.BytesIO()
    torch.save(state_dict, buffer)
    buffer.seek(0)
    return buffer


def through_bytes(state_dict: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint on disk gives back."""
    return torch.load(as_bytes(state_dict), weights_only=False)


def copies_of(params: Params) -> Params:
    return [torch.nn.Parameter(param.detach().clone()) for param in params]


def resumed(subject: Subject, params: Params, optimizer: Optimizer) -> tuple[Params, Optimizer]:
    """New parameters and a new optimizer that has loaded the state of the old."""
    again = copies_of(params)
    other = subject.build(again)
    other.load_state_dict(through_bytes(optimizer.state_dict()))
    return again, other


def resumes_bit_exactly(subject: Subject) -> None:
    """Saved after 5 steps, loaded into a new optimizer, it goes on as if nothing had happened.

    Long runs are interrupted; what ``state_dict`` forgets (a step count, a buffer kept as an
    attribute, an option of a group) changes the training silently at every restart.

    Remedy: keep counts and buffers in ``self.state[param]``, options in the group; nothing in
    attributes.
    """
    params, optimizer = subject.trained(range(3))
    if has_lr(optimizer):
        set_lr(optimizer, 0.5)
    subject.train(optimizer, params, range(3, 5))
    again, other = resumed(subject, params, optimizer)
    subject.train(optimizer, params, range(5, 12))
    subject.train(other, again, range(5, 12))
    require_same("7 steps after resuming", again, params)


def checkpoint_loads_safely(subject: Subject) -> None:
    """``torch.load`` with ``weights_only=True``, its default, reads a saved state dict.

    Otherwise users must switch off the protection against code in foreign checkpoints.

    Remedy: keep only tensors, numbers, strings, lists and dicts of them in state and groups.
    """
    _, optimizer = subject.trained(range(2))
    try:
        torch.load(as_bytes(optimizer.state_dict()), weights_only=True)
    except Exception as error:
        raise Failure(f"torch.load: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What torch refused: one line of its page of advice."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if "WeightsUnpickler" in line), short_line(error))


def state_keeps_its_dtype_through_load(subject: Subject) -> None:
    """Every state tensor has, after loading, the dtype that it was saved with.

    ``Optimizer.load_state_dict`` casts everything but ``step`` to the parameter's dtype: a float64
    or integer slot is rounded at every restart, unless the optimizer sees to it.

    Remedy: override ``load_state_dict`` and put the saved tensors' own dtype back after
    ``super()``.
    """
    require_same_dtypes(subject, torch.float32)


def bfloat16_state_keeps_its_dtype_through_load(subject: Subject) -> None:
    """The state of bfloat16 parameters has, after loading, the dtype that it was saved with.

    ``Optimizer.load_state_dict`` casts everything but ``step`` to the parameter's dtype: a float32
    slot loses two thirds of its digits at every restart, unless the optimizer sees to it.

    Remedy: override ``load_state_dict`` and put the saved tensors' own dtype back after
    ``super()``.
    """
    require_same_dtypes(subject, torch.bfloat16)


def require_same_dtypes(subject: Subject, dtype: torch.dtype) -> None:
    params = subject.parameters(dtype)
    with refusal(LOW_PRECISION):
        optimizer = subject.build(params)
        subject.train(optimizer, params, range(2))
    _, other = resumed(subject, params, optimizer)
    before, after = (flat(each.state_dict()["state"]) for each in (optimizer, other))
    for path, value in before.items():
        if isinstance(value, Tensor) and isinstance(after.get(path), Tensor):
            loaded = after[path].dtype
            slot = path.partition(".")[2]
            require(
                loaded == value.dtype,
                f"{slot} is {value.dtype} before, {loaded} after loading",
            )


def loading_leaves_the_state_dict_alone(subject: Subject) -> None:
    """``load_state_dict`` does not change the dict that it is given.

    One checkpoint is loaded into several optimizers, or compared with later.

    Remedy: copy (``state_dict = state_dict.copy()``) before anything is popped or replaced.
    """
    params, optimizer = subject.trained(range(2))
    saved = through_bytes(optimizer.state_dict())
    kept = copy.deepcopy(saved)
    subject.build(copies_of(params)).load_state_dict(saved)
    require_same_state("the loaded dict", saved, kept)


def loads_into_another_precision(subject: Subject) -> None:
    """State saved with float32 parameters is loaded for float64 ones, and trains on as before.

    ``model.double()`` is how suspicious numbers are looked into.

    Remedy: leave the casting of state to ``super().load_state_dict``.
    """
    params, optimizer = subject.trained(range(3))
    wide = [torch.nn.Parameter(param.detach().double()) for param in params]
    with refusal("float64|double|dtype"):
        other = subject.build(wide)
        other.load_state_dict(through_bytes(optimizer.state_dict()))
        subject.train(other, wide, range(3, 6))
    subject.train(optimizer, params, range(3, 6))
    require(all(param.dtype == torch.float64 for param in wide), "a parameter is no longer float64")
    narrow = [param.detach().float() for param in wide]
    require_close("in float64 against float32", narrow, params, rtol=1e-3, atol=1e-4)


def loads_onto_another_device(subject: Subject) -> None:
    """State saved from the CPU is loaded for parameters on a GPU, and trains on there.

    Checkpoints move between machines.

    Remedy: leave the moving of state to ``super().load_state_dict``; make tensors on
    ``param.device``.
    """
    if not torch.cuda.is_available():
        raise Skip("torch finds no CUDA device")
    params, optimizer = subject.trained(range(3))
    moved = [torch.nn.Parameter(param.detach().cuda()) for param in params]
    with refusal("cuda|device"):
        other = subject.build(moved)
    other.load_state_dict(through_bytes(optimizer.state_dict()))

    def gradients(moved: Params, step: int) -> list[Tensor]:
        return [grad.cuda() for grad in subject.gradients(moved, step)]

    subject.train(other, moved, range(3, 6), gradients)
    subject.train(optimizer, params, range(3, 6))
    require_close(
        "on the GPU", [param.detach().cpu() for param in moved], params, rtol=1e-3, atol=1e-4
    )


def optimizers_are_independent(subject: Subject) -> None:
    """Two optimizers of one class, in one process, do not disturb each other.

    State kept on the class or in the module mixes up models, and GANs train two.

    Remedy: keep nothing on the class or in the module.
    """
    expected, _ = subject.trained(range(6))
    params, optimizer = subject.trained(range(3))
    others, another = subject.trained(range(3))
    another.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    before = snapshot(params)
    subject.train(another, others, range(20, 24))
    require_same("while another optimizer stepped", params, before)
    subject.train(optimizer, params, range(3, 6))
    require_same("after another optimizer stepped", params, expected)
