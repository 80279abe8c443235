"""Memory and synchronization."""

import gc
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from ..subject import UNDER_WAY, Subject, seeded
from ..verdicts import Skip, require


def state_is_as_large_as_declared(subject: Subject) -> str:
    """The bytes of state per byte of parameters are those of the trait ``state_bytes``.

    Optimizer state decides which model fits. Without the trait the size is only measured.

    Remedy: drop the slot that is not needed, or declare what is: --state-bytes.
    """
    param = Parameter(torch.randn(64, 64, generator=seeded(0)))
    optimizer = subject.build([param])
    subject.train(optimizer, [param], range(2))
    tensors = [tensor for tensor in tensors_of(optimizer.state) if tensor.dim() > 0]
    measured = sum(t.numel() * t.element_size() for t in tensors) / (4 * param.numel())
    declared = subject.traits.state_bytes
    seen = f"{measured:.3g} bytes of state per byte of parameters"
    if declared is not None:
        require(abs(measured - declared) < 0.05, f"{seen}, declared {declared:g}")
    return seen


def steps_do_not_gather_memory(subject: Subject) -> None:
    """After its first steps, an optimizer always holds the same number of tensors and numbers.

    A list that grows, or a graph that is kept, ends a long run out of memory.

    Remedy: step under ``torch.no_grad()``, and keep no list that grows; or declare history.
    """
    if subject.traits.history:
        raise Skip("its state grows up to a bound of its own (history)")
    with old_objects_out_of_sight():
        params, optimizer = subject.trained(range(UNDER_WAY))
        held, alive = size_of(optimizer), live_tensors()
        subject.train(optimizer, params, range(UNDER_WAY, 2 * UNDER_WAY))
        more_alive = live_tensors() - alive
        more_held = size_of(optimizer) - held
    require(more_held == 0, f"{UNDER_WAY} steps added {more_held} numbers to the optimizer")
    require(more_alive == 0, f"{UNDER_WAY} steps left {more_alive} more tensors alive")


def size_of(optimizer: Optimizer) -> int:
    """How many numbers, in tensors or outside, the optimizer's attributes hold."""
    return sum(leaf.numel() if isinstance(leaf, Tensor) else 1 for leaf in leaves(vars(optimizer)))


def tensors_of(value: Any) -> list[Tensor]:
    return [leaf for leaf in leaves(value) if isinstance(leaf, Tensor)]


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, Collection) and not isinstance(value, str | Tensor):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


@contextmanager
def old_objects_out_of_sight() -> Iterator[None]:
    """A context in which the garbage collector looks at new objects only; looking at all objects
    would take half a second."""
    already = gc.get_freeze_count() > 0
    gc.freeze()
    try:
        yield
    finally:
        if not already:
            gc.unfreeze()


def live_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(each), Tensor) for each in gc.get_objects())


def step_does_not_synchronize(subject: Subject) -> None:
    """On a GPU, a step waits for no result: no ``.item()``, no copy to the host.

    Waiting leaves the GPU idle at every step.

    Remedy: keep counts on the host or on the device throughout: no ``.item()``, ``float()`` or
    ``if`` of a tensor.
    """
    if not torch.cuda.is_available():
        raise Skip("torch finds no CUDA device")
    if subject.traits.needs_closure:
        raise Skip("the closure's loss is read on the host (needs_closure)")
    params = [Parameter(param.detach().cuda()) for param in subject.parameters()]
    optimizer = subject.build(params)
    for step in range(3):
        for param, grad in zip(params, subject.gradients(params, step), strict=True):
            param.grad = subject.laid_out(grad.cuda())
        torch.cuda.set_sync_debug_mode("error" if step == 2 else "default")
        try:
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
