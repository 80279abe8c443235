"""Dropout as an ensemble of networks."""

import ast
import dis
import functools
import inspect
import itertools
import textwrap
from collections.abc import Collection, Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

_KNOWN = ("torch.", "torchopt_ref.nn.", "lightning.", "pytorch_lightning.")


class Prediction(NamedTuple):
    """Mean and variance over the networks of an ensemble, each shaped like the model's output."""

    mean: torch.Tensor
    variance: torch.Tensor


@torch.no_grad()
def mc_dropout(
    model: nn.Module,
    x: torch.Tensor,
    passes: int,
    *,
    on: Collection[type[nn.Module]] = (),
    off: Collection[type[nn.Module]] = (),
) -> Prediction:
    """Predict with dropout left on, and see how far the predictions spread.

    ``mean = 1/T sum y_t`` and ``variance = 1/T sum (y_t - mean)^2`` over ``T = passes`` outputs
    ``y_t = model(x)``, each with other masks. Only what drops something is in training mode
    meanwhile; so batch normalisation uses its running statistics and leaves them alone. Afterwards
    every module is in the mode in which it was, also when the model raises. No gradient is
    recorded.

    What drops something:

    - dropout layers, those of this package and of ``torch.nn``; with ``dropout`` above 0 also
      ``MultiheadAttention``, and ``LSTM``, ``GRU`` and ``RNN`` of several layers.
      ``TransformerEncoderLayer`` is in training mode, too, since its fast path for evaluation
      skips its dropout layers;
    - any other module with "drop" in its class name, such as ``DropPath`` and ``DropBlock``, or
      named ``StochasticDepth``;
    - a module whose own code hands ``self.training`` to dropout only: to a function with "drop" or
      "stochastic_depth" in its name, or as an argument with "drop" in its name, such as
      ``F.dropout(x, 0.5, self.training)`` and ``scaled_dot_product_attention(..., dropout_p=self.p
      if self.training else 0)``. Its own code is its methods and properties, its hooks, and the
      functions that these call by a plain name.

    A module that uses ``self.training`` otherwise may or may not drop something: ``on`` and ``off``
    say so.

    Y. Gal, Z. Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016.

    Args:
        model: its output is one tensor.
        x: what the model takes.
        passes: the number of outputs; with one the variance is 0.
        on: classes of modules to put in training mode, because they drop something there.
        off: classes of modules to leave in evaluation mode.

    Raises:
        ValueError: ``passes`` is less than 1, the model drops nothing, or what a module does in
            training mode cannot be known: it uses ``self.training`` for more than dropout, its code
            cannot be read, or it is compiled by ``torch.jit``.
    """
    if passes < 1:
        raise ValueError(f"passes must be at least 1, got {passes}")
    modes = {module: module.training for module in model.modules()}
    dropping = {module for module in modes if _drops(module, tuple(on), tuple(off))}
    if not dropping:
        raise ValueError(f"{type(model).__name__} has no dropout layer: every pass is the same")
    try:
        for module in modes:
            # The fast path of an encoder layer is for evaluation and skips the dropout layers.
            slow = isinstance(module, nn.TransformerEncoderLayer)
            module.training = slow or module in dropping
        outputs = torch.stack([model(x) for _ in range(passes)])
    finally:
        for module, training in modes.items():
            module.training = training
    return Prediction(outputs.mean(0), outputs.var(0, correction=0))


def _drops(
    module: nn.Module, on: tuple[type[nn.Module], ...], off: tuple[type[nn.Module], ...]
) -> bool:
    """Whether the module itself, apart from its children, is to be in training mode: there it drops
    something and does nothing else differently. Raises ``ValueError`` if that cannot be known."""
    name = type(module).__name__
    if isinstance(module, (*on, *off)):
        return isinstance(module, on)
    if isinstance(module, _DropoutNd):
        return True
    if isinstance(module, nn.MultiheadAttention) and module.dropout > 0:
        return True
    if isinstance(module, nn.RNNBase) and module.dropout > 0 and module.num_layers > 1:
        return True
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return False
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError(
            f"{name} is compiled by torch.jit, which hides its dropout: hand over the model itself"
        )
    if "drop" in name.lower() or name == "StochasticDepth":
        return True
    uses = [use for code in _own_code(module) for use in _uses_of_training(code)]
    if not all(uses):
        raise ValueError(
            f"{name} uses self.training for more than handing it to dropout: say by on=[{name}] "
            f"that it drops something, or by off=[{name}] that it does not"
        )
    return bool(uses)


def _own_code(module: nn.Module) -> Iterator[ast.Module]:
    """The code of the module's own functions, not torch's, that mention ``training``."""
    for function in _own_functions(module):
        codes = list(_nested(function.__code__))
        if not any("training" in (*code.co_names, *code.co_consts) for code in codes):
            continue
        try:
            # That of the code: of a decorated function, inspect would return what is decorated.
            yield ast.parse(textwrap.dedent(inspect.getsource(function.__code__)))
        except (OSError, TypeError, SyntaxError):
            name = type(module).__name__
            raise ValueError(
                f"{name} uses self.training, and its code cannot be read: say by on=[{name}] that "
                f"it drops something, or by off=[{name}] that it does not"
            ) from None


def _own_functions(module: nn.Module) -> Iterator[FunctionType]:
    """Functions of its classes, attributes and hooks, and what these call by a plain name."""
    classes = [cls for cls in type(module).__mro__ if not _is_known(cls)]
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    found = [value for owner in (*classes, module) for value in vars(owner).values()] + hooks
    seen = set()
    while found:
        function = _behind(found.pop())
        if not inspect.isfunction(function) or function in seen or _is_known(function):
            continue
        seen.add(function)
        yield function
        found += inspect.getclosurevars(function).nonlocals.values()
        found += [function.__globals__.get(name) for name in _global_names(function)]


def _global_names(function: FunctionType) -> set[str]:
    """The globals that it reads, also in functions inside of it. ``inspect.getclosurevars`` looks
    into no inner function, and takes an attribute for the global of the same name."""
    read = itertools.chain.from_iterable(map(dis.get_instructions, _nested(function.__code__)))
    return {each.argval for each in read if each.opname == "LOAD_GLOBAL"}


def _is_known(code: type | FunctionType) -> bool:
    """Whether it is of a package whose dropping modules ``_drops`` knows by their class."""
    return (code.__module__ or "").startswith(_KNOWN) or code is object


def _behind(value: Any) -> Any:
    """The function inside a property, a method or a partial."""
    if isinstance(value, property):
        return _behind(value.fget)
    if isinstance(value, functools.partial | functools.partialmethod | functools.cached_property):
        return _behind(value.func)
    if isinstance(value, MethodType | staticmethod | classmethod):
        return _behind(value.__func__)
    return value


def _nested(code: CodeType) -> Iterator[CodeType]:
    """A code object and those of the functions inside of it."""
    yield code
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from _nested(constant)


def _uses_of_training(node: ast.AST, for_dropout: bool = False) -> Iterator[bool]:
    """For each place that reads ``….training``: whether only dropout receives it."""
    if isinstance(node, ast.Attribute) and node.attr == "training":
        if isinstance(node.ctx, ast.Load):
            yield for_dropout
        return
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        called = node.func.id if isinstance(node.func, ast.Name) else called
        for_dropout = for_dropout or _is_named_after_dropout(called)
        if called == "getattr" and any(_is_the_word(argument) for argument in node.args):
            yield for_dropout
    if isinstance(node, ast.keyword):
        for_dropout = for_dropout or _is_named_after_dropout(node.arg or "")
    for child in ast.iter_child_nodes(node):
        yield from _uses_of_training(child, for_dropout)


def _is_the_word(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value == "training"


def _is_named_after_dropout(name: str) -> bool:
    return "drop" in name.lower() or "stochastic_depth" in name
