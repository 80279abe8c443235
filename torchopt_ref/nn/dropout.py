"""Dropout that is fast on CPUs, and whose masks ``numpy_ref.random`` can draw too.

N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov, "Dropout: A Simple Way to
Prevent Neural Networks from Overfitting", JMLR 15 (2014).
"""

import inspect
import math
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch.overrides import handle_torch_function, has_torch_function_unary

from ._recomputation import to_draw_from
from ._recording import as_one_call, is_for_a_compiler, is_for_elsewhere

Scaling = Literal["inverted", "inference"]
SCALINGS: tuple[Scaling, ...] = get_args(Scaling)
LANES = {16: torch.int16, 32: torch.int32, 64: torch.int64}  # by their number of bits


class Dropout(torch.nn.Dropout):
    """Drops each element of the input with probability ``p`` while training.

    ========================  ==========================  =================
    ``scaling``               training                    evaluation
    ========================  ==========================  =================
    ``"inverted"``, torch's   ``y = x mask / (1 - p)``    ``y = x``
    ``"inference"``, the      ``y = x mask``              ``y = x (1 - p)``
    textbook's
    ========================  ==========================  =================

    The gradient is multiplied by the same factor. As in ``torch.nn.Dropout`` a NaN or an infinity
    that is dropped becomes NaN.

    Args:
        p: the probability of dropping an element, default 0.5.
        inplace: write the result into the input.
        scaling: ``"inverted"`` (default) or ``"inference"``.
        generator: the ``torch.Generator`` of the masks, on the device of the input; by default
            that device's own. It is not part of the state dict.

    Shapes and dtypes: any; the output has the shape, the dtype and the memory format of the input.

    The mask comes from random bits, in the order of the indices whatever the memory format. Each
    element has 16 of them where that is enough, as for p = 0.5, else 32, and 64 where p is close
    to 0 or 1: enough to drop with probability p and to keep with probability 1 - p up to one part
    in 2^24, which is how exact the factor is in float32. (Below p = 2^-41 even 64 bits are too
    few: then the probability of dropping is off by up to 2^-65.) On a CPU
    ``numpy_ref.random.Generator`` draws the same masks. For p = 0 and p = 1 nothing is drawn. For
    the backward pass one byte per element is kept.

    Activation checkpointing (``torch.utils.checkpoint``, reentrant or not) drops the same units
    when it runs a region again, and leaves the ``generator`` as after a single run. Under
    ``torch.compile`` the stream is the compiler's, and a ``generator`` breaks the graph. Models
    that are scripted, traced or exported have torch's operation, with torch's stream.

    Raises:
        ValueError: ``p`` outside [0, 1], or an unknown ``scaling``; a ``generator`` in a model
            that is traced or exported in training.
        RuntimeError: a ``generator`` in a backward pass that runs the layer again in a way that
            is not ``torch.utils.checkpoint``'s.
    """

    def __init__(
        self,
        p: float = 0.5,
        inplace: bool = False,
        *,
        scaling: Scaling = "inverted",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(p, inplace)
        _check(p, scaling)
        self.scaling = scaling
        self.generator = generator

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not torch.jit.is_scripting():
            return self._forward(input)
        else:  # all that TorchScript compiles  # noqa: RET505
            assert self.generator is None, "TorchScript takes no Dropout(generator=...)"
            return _by_torch(input, self.p, self.training, self.inplace, self.scaling)

    def _forward(self, input: torch.Tensor) -> torch.Tensor:
        traced = as_one_call(self, input)
        if traced is not None:
            return traced
        return dropout(
            input,
            self.p,
            self.training,
            self.inplace,
            scaling=self.scaling,
            generator=self.generator,
        )

    def extra_repr(self) -> str:
        scaling = "" if self.scaling == "inverted" else f", scaling={self.scaling}"
        return super().extra_repr() + scaling


def dropout(
    input: torch.Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    scaling: Scaling = "inverted",
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """The function of :class:`Dropout`; the arguments of ``torch.nn.functional.dropout``."""
    if has_torch_function_unary(input):
        return handle_torch_function(
            dropout,
            (input,),
            input,
            p=p,
            training=training,
            inplace=inplace,
            scaling=scaling,
            generator=generator,
        )
    _check(p, scaling)
    p = float(p)  # a tensor of one element, too
    if is_for_elsewhere():
        if training and generator is not None:
            raise ValueError("a traced or exported model takes no Dropout(generator=...)")
        return _by_torch(input, p, training, inplace, scaling)
    if training and p != 0:
        result = _drop(
            input, p, 1 / (1 - p) if scaling == "inverted" and p != 1 else 1.0, generator
        )
    elif not training and scaling == "inference":
        result = input * (1 - p)
    else:
        return input
    return input.copy_(result) if inplace else result


def _drop(
    input: torch.Tensor, p: float, scale: float, generator: torch.Generator | None
) -> torch.Tensor:
    """``input mask scale`` with a fresh mask, for 0 < p <= 1."""
    if input.is_nested:
        return _drop_nested(input, p, scale, generator)
    if p == 1:
        return input * input.new_zeros(())
    if generator is None and is_for_a_compiler():
        # The compiler knows neither random_ nor jvp, and makes one loop of this.
        draws = torch.randint_like(input, 2**62, dtype=torch.int64)
        return input * (draws >= round(p * 2**62)) * scale
    return _ScaledMask.apply(input, _keep_mask(input, p, generator), scale)


def _drop_nested(
    input: Any, p: float, scale: float, generator: torch.Generator | None
) -> torch.Tensor:
    """Each component by itself; all at once where they lie side by side in memory."""
    if input.layout == torch.jagged and input.is_contiguous():
        values = _drop(input.values(), p, scale, generator)
        return torch.nested.nested_tensor_from_jagged(values, input.offsets())
    components = [_drop(component, p, scale, generator) for component in input.unbind()]
    return torch.nested.as_nested_tensor(components, layout=input.layout)


def _by_torch(
    input: torch.Tensor, p: float, training: bool, inplace: bool, scaling: str
) -> torch.Tensor:
    dropped = F.dropout(input, p, training, inplace)
    if scaling == "inference":
        dropped = dropped.mul_(1 - p) if inplace else dropped * (1 - p)
    return dropped


class _ScaledMask(torch.autograd.Function):
    """``x mask scale``: linear in x, so its derivative is the same product, differentiable too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor, mask: torch.Tensor, scale: float) -> torch.Tensor:
        # A conversion from uint8 is vectorised where one from bool is not.
        return torch.empty_like(x).copy_(mask.view(torch.uint8)).mul_(x).mul_(scale)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[torch.Tensor, torch.Tensor, float], output: torch.Tensor
    ) -> None:
        _, mask, ctx.scale = inputs
        ctx.save_for_backward(mask)
        ctx.save_for_forward(mask)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return _ScaledMask.forward(grad_output, mask, ctx.scale), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor, *_: None) -> torch.Tensor:
        (mask,) = ctx.saved_tensors
        return _ScaledMask.forward(tangent, mask, ctx.scale)


# apply() asks for it at every call, and computing it takes a tenth of a small layer's time.
_ScaledMask.forward.__signature__ = inspect.signature(_ScaledMask.forward)  # type: ignore[attr-defined]


def _keep_mask(input: torch.Tensor, p: float, generator: torch.Generator | None) -> torch.Tensor:
    """True, with probability ``1 - p``, where an element of ``input`` is kept."""
    bits, dropped = _threshold(p)
    # From the input, not from torch.empty, so that vmap gives each sample its own draw.
    draws = input.new_empty(math.ceil(input.numel() * bits / 64), dtype=torch.int64)
    if generator is not None:
        generator = to_draw_from(generator)
    # With the default bounds bit 63, the sign of the highest lane, would always be 0.
    draws.random_(-(2**63), None, generator=generator)
    lanes = draws.view(LANES[bits])[: input.numel()].view(input.shape)
    return lanes >= dropped - 2 ** (bits - 1)


def _threshold(p: float) -> tuple[int, int]:
    """How many random bits an element needs, and how many of their ``2^bits`` values drop it.

    The fewest bits that make both p and 1 - p right to one part in 2^24, the precision of float32.
    """
    for bits in LANES:
        dropped = round(p * 2**bits)
        if abs(dropped / 2**bits - p) <= min(p, 1 - p) * 2**-24:
            break
    return bits, dropped


def _check(p: float, scaling: str) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if scaling not in SCALINGS:
        raise ValueError(
            f"Dropout has no scaling {scaling!r}: choose from " + ", ".join(map(repr, SCALINGS))
        )
