"""How a layer sees that torch records a graph of the model, and what it answers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def is_for_elsewhere() -> bool:
    """Whether ``torch.jit.trace`` or ``torch.export`` records the operations.

    What reads such a graph (an ONNX converter, a quantiser, a runtime without Python) knows torch's
    one operation for the whole layer, so that is what the layers let it see.
    """
    return torch.jit.is_tracing() or torch.compiler.is_exporting()


def is_for_a_compiler() -> bool:
    """Whether ``torch.compile``, or what ``make_fx`` records for, sees the operations."""
    proxies = torch._C._TorchDispatchModeKey.PROXY
    return torch.compiler.is_compiling() or torch._C._get_dispatch_mode(proxies) is not None


def as_one_call(layer: nn.Module, input: Any) -> Any:
    """The call of ``layer`` as a node of the graph of ``torch.fx``; None outside of its tracing.

    ``torch.fx`` does not look into the layers of ``torch.nn``, which it knows by the name of their
    module, and so they stay layers with a mode. A layer that is traced alone has no such call.
    """
    if isinstance(input, Tensor) or not isinstance(input, torch.fx.Proxy):
        return None
    tracer = input.tracer
    if not isinstance(tracer, torch.fx.Tracer) or tracer.root is layer:
        return None
    return tracer.create_proxy("call_module", tracer.path_of_module(layer), (input,), {})
