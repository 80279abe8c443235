"""The model's graph, for TensorBoard's own view of it."""

from __future__ import annotations

import copy
import io
import warnings
from contextlib import redirect_stdout
from typing import Any

import torch
from tensorboard.compat.proto.event_pb2 import Event
from torch import Tensor, nn

from ..write.output import Output
from .quantity import Quantity


class Graph(Quantity):
    """Traces the model with its first input, on a copy that was made before any hook.

    The trace runs a forward pass. As it is on a copy, the model's running statistics do not change,
    and the random number generators are reset afterwards. Autocast is off, since its copies of
    weights cannot be traced.
    """

    def __init__(self, model: nn.Module, output: Output) -> None:
        self._model: nn.Module | None = copy.deepcopy(model)
        self._output = output

    def pass_begins(self, args: tuple[Any, ...]) -> None:
        model, self._model = self._model, None
        if model is None:
            return
        try:
            self._output.event(traced(model, args))
        except Exception as error:
            self._output.note(f"The graph cannot be traced: {error}")


def traced(model: nn.Module, inputs: tuple[Any, ...]) -> Event:
    """The graph, for the event file; raises what ``torch.jit.trace`` raises."""
    # The function behind SummaryWriter.add_graph, which would open an event file of its own.
    from torch.utils.tensorboard._pytorch_graph import graph

    device = next((each.device.type for each in inputs if isinstance(each, Tensor)), "cpu")
    with (
        torch.random.fork_rng(),
        torch.autocast(device, enabled=False),
        warnings.catch_warnings(),
        redirect_stdout(io.StringIO()),  # It prints what it raises.
    ):
        warnings.simplefilter("ignore")
        found, _ = graph(model, inputs, False, False)
    return Event(graph_def=found.SerializeToString())
