"""Fill the layers of a whole model, each by the activation that follows it."""

from collections import deque
from typing import Literal, NamedTuple, get_args

import torch
from torch import fx, nn
from torch.nn.init import zeros_

from .book import normal_, scaled_std
from .fans import Fans, layer_fans

Scheme = Literal["auto", "he", "xavier", "normal", "zeros"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)

# Names of modules, functions and methods, in lower case and without underscores.
HE_ACTIVATIONS = {
    "relu", "relu6", "leakyrelu", "prelu", "rrelu", "elu", "celu", "gelu", "silu", "mish",
    "softplus", "hardswish",
}  # fmt: skip
OTHER_ACTIVATIONS = {
    "sigmoid", "logsigmoid", "hardsigmoid", "tanh", "hardtanh", "tanhshrink", "softsign", "selu",
    "glu", "softmax", "logsoftmax",
}  # fmt: skip
ACTIVATIONS = HE_ACTIVATIONS | OTHER_ACTIVATIONS
_PRODUCTS = {
    "linear", "bilinear", "conv1d", "conv2d", "conv3d", "convtranspose1d", "convtranspose2d",
    "convtranspose3d", "matmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "embedding",
    "scaleddotproductattention",
}  # fmt: skip

_LAYERS = (nn.Linear, nn.modules.conv._ConvNd, nn.Embedding, nn.EmbeddingBag)
_OTHER_LAYERS = (nn.Bilinear, nn.RNNBase, nn.RNNCellBase)


class Initialized(NamedTuple):
    """What :func:`initialize` did to one parameter.

    ``scheme`` is ``"he"``, ``"xavier"``, ``"normal"``, ``"zeros"``, ``"kept"`` for a parameter
    that was left alone, or ``"as NAME"`` for one that is the parameter NAME itself. ``activation``
    is the one that was found or given, ``"none"`` where none follows, and empty where it was not
    asked for; ``fans`` and ``std`` are None where they mean nothing.
    """

    name: str
    layer: str
    shape: tuple[int, ...]
    scheme: str
    activation: str = ""
    fans: Fans | None = None
    std: float | None = None


class InitTable(list[Initialized]):
    """One :class:`Initialized` for each name of a parameter; ``str`` makes an aligned table."""

    def __str__(self) -> str:
        lines = [("parameter", "layer", "shape", "scheme", "activation", "fan_in", "std")]
        for row in self:
            fan_in = "" if row.fans is None else str(row.fans.fan_in)
            std = "" if row.std is None else f"{row.std:.4g}"
            shape = "x".join(map(str, row.shape)) or "scalar"
            lines.append((row.name, row.layer, shape, row.scheme, row.activation, fan_in, std))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )


def initialize(
    model: nn.Module,
    scheme: Scheme = "auto",
    *,
    activation: str | None = None,
    std: float = 0.01,
    generator: torch.Generator | None = None,
) -> InitTable:
    """Fill the weights and biases of every linear, convolution and embedding layer of ``model``.

    ==============  ==============================================================================
    ``scheme``      weights
    ==============  ==============================================================================
    ``"auto"``      He before an activation of the ReLU family, Xavier before any other or none
    ``"he"``        N(0, 2 / fan_in)
    ``"xavier"``    N(0, 1 / fan_in)
    ``"normal"``    N(0, std^2)
    ``"zeros"``     0
    ==============  ==============================================================================

    The fans are those of :func:`layer_fans`. Biases become 0, and so does the row of an
    embedding's ``padding_idx``. Everything else keeps its values: the weights of normalisation
    and recurrent layers, the input projections of ``MultiheadAttention`` (its ``out_proj`` is a
    linear layer and is filled), and parameters that a module of the user's own holds directly.

    To find what follows a layer, ``"auto"`` traces the model with ``torch.fx`` and goes on from
    the layer through normalisation, dropout, pooling, reshaping and sums. It stops at whatever
    multiplies by weights or is made of layers (linear, convolution, embedding, recurrent and
    attention layers, ``matmul``). The nearest activation counts. A layer that reaches no activation
    is a linear output and gets Xavier: its outputs start with the variance of its inputs. For an
    embedding, whose fan_in is 1, that is N(0, 1), as in torch.

    Args:
        model: changed in place; may be in any mode and on any device.
        scheme: see above, default ``"auto"``.
        activation: for ``"auto"``, the name of the activation after every layer that the trace does
            not show: all of them where the model cannot be traced, and those inside torch's own
            composite layers. Without it such a layer of a traced model gets Xavier.
        std: the standard deviation of ``"normal"``, default 0.01.
        generator: used for one parameter after the other in the order of ``named_parameters``; by
            default that of the device of each parameter.

    Returns:
        A row for each parameter, in the order of ``named_parameters``. A tied parameter is filled
        once, under its first name, and has a row for each further name.

    Raises:
        ValueError: an unknown ``scheme`` or ``activation``, a negative ``std`` with
            ``"normal"``, a parameter that a lazy module has not made yet, or a model that cannot be
            traced and no ``activation``.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"unknown scheme {scheme!r}: choose from " + ", ".join(map(repr, SCHEMES)))
    if activation is not None and _plain(activation) not in ACTIVATIONS | {"none"}:
        raise ValueError(
            f"unknown activation {activation!r}: choose from "
            + ", ".join(map(repr, sorted(ACTIVATIONS | {"none"})))
        )
    found = _find_activations(model, activation) if scheme == "auto" else {}
    first_names: dict[nn.Parameter, str] = {}
    table = InitTable()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if nn.parameter.is_lazy(parameter):
            raise ValueError(f"{name} has no shape yet: run the model once before initialize")
        owner, _, role = name.rpartition(".")
        layer = model.get_submodule(owner)
        row = Initialized(name, type(layer).__name__, tuple(parameter.shape), "kept")
        if parameter in first_names:
            row = row._replace(scheme=f"as {first_names[parameter]}")
        elif isinstance(layer, _LAYERS) and role == "bias":
            zeros_(parameter)
            row = row._replace(scheme="zeros", std=0.0)
        elif isinstance(layer, _LAYERS) and role == "weight":
            follows = found.get(layer, _plain(activation or "none")) if scheme == "auto" else ""
            row = _fill_weight(layer, row, scheme, follows, std, generator)
        first_names.setdefault(parameter, name)
        table.append(row)
    return table


def _fill_weight(
    layer: nn.Module,
    row: Initialized,
    scheme: str,
    follows: str,
    std: float,
    generator: torch.Generator | None,
) -> Initialized:
    if scheme == "auto":
        scheme = "he" if follows in HE_ACTIVATIONS else "xavier"
    fans = layer_fans(layer)
    stds = {"he": scaled_std(2, fans), "xavier": scaled_std(1, fans), "normal": std, "zeros": 0.0}
    weight = layer.get_parameter("weight")
    if scheme == "zeros":
        zeros_(weight)
    else:
        normal_(weight, stds[scheme], generator=generator)
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.padding_idx is not None:
        zeros_(weight.detach()[layer.padding_idx])
    return row._replace(scheme=scheme, activation=follows, fans=fans, std=stds[scheme])


def _find_activations(model: nn.Module, given: str | None) -> dict[nn.Module, str]:
    """The activation after each layer that a trace of ``model`` meets; "none" where none is."""
    try:
        graph = _Tracer().trace(model)
    except Exception as error:  # the model's own code runs, and may raise anything
        if given is None:
            raise ValueError(
                f"{type(model).__name__} cannot be traced ({error}): name the activation that "
                "follows its layers, activation=..."
            ) from error
        return {}
    modules = dict(model.named_modules(remove_duplicate=False))
    found: dict[nn.Module, str] = {}
    for node in graph.nodes:
        layer = modules[str(node.target)] if node.op == "call_module" else None
        if isinstance(layer, _LAYERS):
            found.setdefault(layer, _nearest_activation(node, modules))
    return found


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        ours = type(m).__module__.startswith("torchopt_ref.nn")
        return ours or super().is_leaf_module(m, module_qualified_name)


def _nearest_activation(start: fx.Node, modules: dict[str, nn.Module]) -> str:
    """Search breadth first from ``start``; a path ends at another weighted product."""
    seen, queue = {start}, deque([start])
    while queue:
        for node in queue.popleft().users:
            if node in seen:
                continue
            seen.add(node)
            if node.op == "call_module":
                module = modules[str(node.target)]
                name = _plain(type(module).__name__)
                ends = isinstance(module, _LAYERS + _OTHER_LAYERS) or any(module.children())
            else:
                name = _plain(getattr(node.target, "__name__", str(node.target)))
                ends = name in _PRODUCTS
            if name in ACTIVATIONS:
                return name
            if not ends:
                queue.append(node)
    return "none"


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
