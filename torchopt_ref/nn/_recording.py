"""How a layer sees that torch records a graph of the model, and what it answers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def is_for_elsewhere() -> bool:
    """Whether ``torch.jit.trace`` or ``torch.export`` records the operations.

    Programs that read such a graph (an ONNX converter, a quantiser, a runtime without Python) know
    the single operation that torch has for the whole layer, so the layers use that operation here.
    """
    return torch.jit.is_tracing() or torch.compiler.is_exporting()


def is_for_a_compiler() -> bool:
    """Whether ``torch.compile`` or ``make_fx``, which records for a compiler, is at work."""
    proxies = torch._C._TorchDispatchModeKey.PROXY
    return torch.compiler.is_compiling() or torch._C._get_dispatch_mode(proxies) is not None


def as_one_call(layer: nn.Module, input: Any) -> Any:
    """The call of ``layer`` as a node of the graph of ``torch.fx``; None outside of its tracing.

    ``torch.fx`` does not trace into the layers of ``torch.nn``, which it recognizes by the name of
    their module; so in the graph they remain layers that have a training and an evaluation mode.
    This does the same for our layers. A layer that is traced alone has no such call.
    """
    if isinstance(input, Tensor) or not isinstance(input, torch.fx.Proxy):
        return None
    tracer = input.tracer
    if not isinstance(tracer, torch.fx.Tracer) or tracer.root is layer:
        return None
    return tracer.create_proxy("call_module", tracer.path_of_module(layer), (input,), {})
