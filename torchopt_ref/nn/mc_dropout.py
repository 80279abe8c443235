"""Dropout as an ensemble of networks."""

import ast
import contextlib
import dis
import functools
import inspect
import itertools
import textwrap
from collections.abc import Collection, Iterable, Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
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
      ``MultiheadAttention``, and ``LSTM``, ``GRU`` and ``RNN`` of several layers. (The fast paths
      of torch's attention and encoder layers, which would skip dropout, are off meanwhile);
    - any other module with "drop" in its class name, such as ``DropPath`` and ``DropBlock``, or
      named ``StochasticDepth``;
    - a module whose own code hands ``self.training`` to dropout only: to a function with "drop" or
      "stochastic_depth" in its name, or as an argument with "drop" in its name, such as
      ``F.dropout(x, 0.5, self.training)`` and ``scaled_dot_product_attention(..., dropout_p=self.p
      if self.training else 0)``. Its own code is its methods and properties, its hooks, and the
      functions that these call by a plain name; its method ``train`` is not looked at.

    A module that uses ``self.training`` otherwise may or may not drop something: ``on`` and ``off``
    say so.

    Y. Gal, Z. Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016.

    Args:
        model: its output is one tensor.
        x: what the model takes.
        passes: the number of outputs; with one the variance is 0.
        on: classes of modules to put in training mode, because they drop something there.
        off: classes of modules to leave in evaluation mode. A module of both is on.

    Raises:
        ValueError: ``passes`` is less than 1, the model drops nothing, or what a module does in
            training mode cannot be known: it uses ``self.training`` for more than dropout, its code
            cannot be read, or it is compiled by ``torch.jit``.
    """
    if passes < 1:
        raise ValueError(f"passes must be at least 1, got {passes}")
    modes = {module: module.training for module in model.modules()}
    drops = {module: _drops(module, tuple(on), tuple(off)) for module in modes}
    unknown = [answer for answer in drops.values() if isinstance(answer, str)]
    if unknown:
        raise ValueError("\n".join(dict.fromkeys(unknown)))
    if not any(drops.values()):
        raise ValueError(f"{type(model).__name__} has no dropout that training mode would turn on")
    # The fast paths of attention and encoder layers are for evaluation: they skip dropout layers,
    # and return another memory layout, so that later layers would draw other masks.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        for module in modes:
            module.training = bool(drops[module])
        outputs = torch.stack([model(x) for _ in range(passes)])
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, training in modes.items():
            module.training = training
    return Prediction(outputs.mean(0), outputs.var(0, correction=0))


def _drops(
    module: nn.Module, on: tuple[type[nn.Module], ...], off: tuple[type[nn.Module], ...]
) -> bool | str:
    """Whether the module itself, apart from its children, is to be in training mode: there it drops
    something and does nothing else differently. A text says why that cannot be known."""
    name = type(module).__name__
    if isinstance(module, (*on, *off)):
        return isinstance(module, on)
    if isinstance(module, torch.jit.ScriptModule):
        return (
            f"{name} is compiled by torch.jit, which hides its dropout: hand over the model itself"
        )
    if name == "StochasticDepth" or ("drop" in name.lower() and not _is_known(type(module))):
        return True
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    owners = (*type(module).__mro__, module)
    own = [value for owner in owners for name, value in vars(owner).items() if name != "train"]
    reads = [read for each in _not_torchs([*own, *hooks]) for read in _reads_of_training(each)]
    normalizes = isinstance(module, nn.modules.batchnorm._NormBase)
    if None in reads and not normalizes:
        return f"the code of {name} cannot be read, which uses self.training: {_say(name)}"
    drops = not normalizes and (bool(reads) or _is_dropout(module))
    if drops:
        # A hook of torch's, such as spectral_norm's, may use the mode that dropout asks for.
        reads += [read for each in _functions(hooks) for read in _reads_of_training(each)]
    # While its own dropout is on, normalization could not leave the statistics of a batch alone.
    if (True in reads) if normalizes else (False in reads):
        return f"{name} uses self.training, and not for dropout alone: {_say(name)}"
    return drops


def _say(name: str) -> str:
    return f"say by on=[{name}] that it drops something, or by off=[{name}] that it does not"


def _is_dropout(module: nn.Module) -> bool:
    if isinstance(module, nn.MultiheadAttention):
        return module.dropout > 0
    if isinstance(module, nn.RNNBase):
        return module.dropout > 0 and module.num_layers > 1
    return isinstance(module, _DropoutNd)


def _not_torchs(values: Iterable[Any]) -> Iterator[FunctionType]:
    """The functions in these values, what they decorate, and what they call by a plain name; but
    none of torch's."""
    functions, seen = [*_functions(values)], set()
    while functions:
        function = functions.pop()
        if function in seen:
            continue
        seen.add(function)
        # Also what is wrapped in it, which functools.wraps leaves in an attribute.
        functions += _functions(vars(function).values())
        if not _is_known(function):
            yield function
            functions += _functions(_reached(function))


def _functions(values: Iterable[Any]) -> Iterator[FunctionType]:
    """Those that are functions, and the functions inside of methods, partials, properties and other
    objects that can be called or have functions as attributes."""
    for value in values:
        if inspect.isfunction(value):
            yield value
        elif not isinstance(value, nn.Module | ModuleType | type):
            inside = [name for kind, name in _INSIDE.items() if isinstance(value, kind)]
            yield from _functions(getattr(value, name) for name in inside)
            attributes = [*getattr(value, "__dict__", {}).values()]
            attributes += [type(value).__call__] if callable(value) else []
            yield from filter(inspect.isfunction, attributes)


def _is_known(code: type | FunctionType) -> bool:
    """Whether it is of a package whose dropping modules ``_drops`` knows by their class. (By
    ``__module__`` a decorated function would be of the package of what is decorated.)"""
    of = code.__module__ if isinstance(code, type) else code.__globals__.get("__name__")
    return (of or "").startswith(_KNOWN)


_INSIDE: dict[type, str] = {
    property: "fget",
    functools.cached_property: "func",
    functools.partial: "func",
    functools.partialmethod: "func",
    functools.singledispatchmethod: "func",
    MethodType: "__func__",
    staticmethod: "__func__",
    classmethod: "__func__",
}


def _reached(function: FunctionType) -> Iterator[Any]:
    """The values of its free variables, and the globals that it reads, also in functions inside of
    it. ``inspect.getclosurevars`` looks into no inner function, and takes an attribute for the
    global of the same name."""
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # It may still be empty.
            yield cell.cell_contents
    for read in _instructions(function):
        if read.opname == "LOAD_GLOBAL":
            yield function.__globals__.get(read.argval)


def _instructions(function: FunctionType) -> Iterator[dis.Instruction]:
    return itertools.chain.from_iterable(map(dis.get_instructions, _nested(function.__code__)))


def _nested(code: CodeType) -> Iterator[CodeType]:
    """A code object and those of the functions inside of it."""
    yield code
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from _nested(constant)


def _reads_of_training(function: FunctionType) -> list[bool | None]:
    """For each place where the function reads ``….training``: whether only dropout receives it;
    None if that cannot be seen."""
    named = [each.opname for each in _instructions(function) if each.argval == "training"]
    if not named:
        return []
    try:
        # That of the code: of a decorated function, inspect would return what is decorated.
        code = ast.parse(textwrap.dedent(inspect.getsource(function.__code__)))
    except (OSError, TypeError, SyntaxError):
        return [None]
    # Of code that was cut short or has changed since, inspect returns something else.
    return list(_reads_in(code)) or [None] * named.count("LOAD_ATTR")


def _reads_in(node: ast.AST, for_dropout: bool = False) -> Iterator[bool]:
    if isinstance(node, ast.Attribute) and node.attr == "training":
        if isinstance(node.ctx, ast.Load):
            # The mode of another module, such as self.part.training, may stay as it is.
            yield for_dropout and isinstance(node.value, ast.Name)
    elif isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        called = node.func.id if isinstance(node.func, ast.Name) else called
        if called == "getattr" and any(_is_the_word(argument) for argument in node.args):
            yield for_dropout
        drops = _is_named_after_dropout(called)
        # The first argument is what is dropped from.
        for each in (node.func, *node.args[:1]):
            yield from _reads_in(each)
        for argument in node.args[1:]:
            yield from _reads_in(argument, drops)
        for keyword in node.keywords:
            yield from _reads_in(keyword.value, drops or _is_named_after_dropout(keyword.arg or ""))
    else:
        for_dropout = for_dropout and not isinstance(node, ast.NamedExpr | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from _reads_in(child, for_dropout)


def _is_the_word(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value == "training"


def _is_named_after_dropout(name: str) -> bool:
    return "drop" in name.lower() or "stochastic_depth" in name
