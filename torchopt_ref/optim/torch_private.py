"""What optimizers and the monitor use of torch that is private, and so may change.

``tests/optim/test_torch_private.py`` has a test for each, which fails when torch removes or changes
it. One private name is not here: ``Optimizer._step_supports_amp_scaling``, which ``GradScaler``
looks for (``tests/optim/test_amp.py``).
"""

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules import module as torch_module
from torch.optim import optimizer as torch_optimizer

# Nested containers of tensors, as ``torch.func`` takes them.
from torch.utils._pytree import tree_flatten as tree_flatten
from torch.utils._pytree import tree_map as tree_map
from torch.utils._pytree import tree_unflatten as tree_unflatten

global_hooks_with_kwargs: dict[int, bool] = torch_module._global_forward_hooks_with_kwargs
"""The global forward hooks that get keyword arguments. torch keeps the entry of a removed hook."""


def is_watched() -> bool:
    """Whether torch's operations do more than compute.

    They do within a transform of ``torch.func``, whose tensors have no memory of their own, and
    under a dispatch mode, which records or replaces operations.
    """
    return (
        torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._len_torch_dispatch_stack() > 0
    )


def is_step_watched(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a hook, a profiler or the compiler needs torch's wrapper around the step."""
    return bool(
        optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
        or torch_optimizer._global_optimizer_pre_hooks
        or torch_optimizer._global_optimizer_post_hooks
        or torch.autograd.profiler._is_profiler_enabled
        or torch.compiler.is_compiling()
    )


def in_backward() -> bool:
    """Whether a backward pass is running: a layer called in it is recomputed by checkpointing."""
    return torch._C._current_graph_task_id() != -1


def constant_for_compiler(function: Callable[..., Any]) -> Callable[..., Any]:
    """``torch.compiler.assume_constant_result``, but without the seconds that its import takes."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


PREFIX = "aoti_torch_"
"""The prefix of the functions of torch's C interface, which torch keeps stable for compiled models
but does not document (``torch/csrc/inductor/aoti_torch/c/shim.h``)."""


@functools.cache
def c_interface() -> ctypes.CDLL:
    """The library with torch's C interface."""
    folder = Path(torch.__file__).parent / "lib"
    for name in ("libtorch_cpu.so", "libtorch_cpu.dylib", "torch_cpu.dll"):
        if (folder / name).exists():
            return ctypes.CDLL(str(folder / name))
    raise OSError(f"no torch_cpu library in {folder}")


def function(name: str) -> tuple[str, int]:
    """The symbol of a function of the C interface, and its address."""
    pointer = ctypes.cast(getattr(c_interface(), PREFIX + name), ctypes.c_void_p)
    assert pointer.value is not None
    return PREFIX + name, pointer.value


def constant(name: str) -> int:
    """A number of the C interface, such as that of a dtype."""
    return getattr(c_interface(), PREFIX + name)()


@functools.cache
def parallel_for() -> Callable[[int, int, int, Any, int], int]:
    """``at::parallel_for`` in the C interface: calls a function on torch's own threads, on as many
    as torch is set to use."""
    found = c_interface().torch_parallel_for
    found.argtypes = [ctypes.c_int64] * 3 + [ctypes.c_void_p] * 2
    return found


def offset_of_handle() -> int:
    """The offset, in a tensor's Python object, of the word that holds the C++ object's address.

    The address of that word is what the C interface calls an ``AtenTensorHandle``. So Python has to
    read only the ``id`` of a tensor; reading its address, shape and dtype would take longer than
    the step of the tensor.
    """
    tensor = torch.zeros(1)
    for offset in range(16, 48, 8):
        if ctypes.c_int64.from_address(id(tensor) + offset).value == tensor._cdata:
            return offset
    raise RuntimeError("a tensor's Python object does not hold its C++ object's address")
