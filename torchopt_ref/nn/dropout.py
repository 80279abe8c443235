"""Dropout whose mask another engine can draw too, and which CPUs draw fast.

N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov, "Dropout: A Simple Way to
Prevent Neural Networks from Overfitting", JMLR 15 (2014).
"""

import inspect
import math

import torch

SCALINGS = ("inverted", "inference")
LANES = 4  # 16-bit lanes in one 64-bit draw


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

    The mask comes from 16 random bits for each element, in the order of the indices whatever the
    memory format, so that p is resolved to 2^-16: the probability is off by at most 2^-17, and a
    p strictly between 0 and 1 is at least 2^-16 and at most 1 - 2^-16. On a CPU
    ``numpy_ref.random.Generator`` draws the same masks. For p = 0 and p = 1 nothing is drawn.
    For the backward pass one byte per element is kept. Under ``torch.compile`` the stream is the
    compiler's, and a ``generator`` breaks the graph.

    Raises:
        ValueError: ``p`` outside [0, 1], or an unknown ``scaling``.
    """

    def __init__(
        self,
        p: float = 0.5,
        inplace: bool = False,
        *,
        scaling: str = "inverted",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(p, inplace)
        _check(p, scaling)
        self.scaling = scaling
        self.generator = generator

    def forward(self, input: torch.Tensor) -> torch.Tensor:
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
    scaling: str = "inverted",
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """The function of :class:`Dropout`; the arguments of ``torch.nn.functional.dropout``."""
    _check(p, scaling)
    if training and p != 0:
        scale = 1 / (1 - p) if scaling == "inverted" and p != 1 else 1.0
        if torch.compiler.is_compiling() and generator is None:
            # The compiler knows neither random_ nor jvp, and makes one loop of this.
            result = input * (torch.rand_like(input, dtype=torch.float32) >= p) * scale
        else:
            result = _ScaledMask.apply(input, _keep_mask(input, p, generator), scale)
    elif not training and scaling == "inference":
        result = input * (1 - p)
    else:
        return input
    return input.copy_(result) if inplace else result


class _ScaledMask(torch.autograd.Function):
    """``x mask scale``: linear in x, so its derivative is the same product, differentiable too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor, mask: torch.Tensor, scale: float) -> torch.Tensor:
        # A conversion from uint8 is vectorised where one from bool is not.
        return torch.empty_like(x).copy_(mask.view(torch.uint8)).mul_(x).mul_(scale)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        _, mask, ctx.scale = inputs
        ctx.save_for_backward(mask)
        ctx.save_for_forward(mask)

    @staticmethod
    def backward(ctx, grad_output):
        (mask,) = ctx.saved_tensors
        return _ScaledMask.forward(grad_output, mask, ctx.scale), None, None

    @staticmethod
    def jvp(ctx, tangent, *_):
        (mask,) = ctx.saved_tensors
        return _ScaledMask.forward(tangent, mask, ctx.scale)


# apply() asks for it on every call; finding it anew is a tenth of a small layer's time.
_ScaledMask.forward.__signature__ = inspect.signature(_ScaledMask.forward)  # type: ignore[attr-defined]


def _keep_mask(input: torch.Tensor, p: float, generator: torch.Generator | None) -> torch.Tensor:
    """True, with probability ``1 - p``, where an element of ``input`` is kept."""
    if p == 1:
        return input.new_zeros(input.shape, dtype=torch.bool)
    # From the input, not from torch.empty, so that vmap gives each sample its own draw.
    draws = input.new_empty(math.ceil(input.numel() / LANES), dtype=torch.int64)
    # Without both bounds the sign of every fourth lane, bit 63, is never set.
    draws.random_(-(2**63), None, generator=generator)
    lanes = draws.view(torch.int16)[: input.numel()].view(input.shape)
    dropped = min(max(round(p * 65536), 1), 65535)
    return lanes >= dropped - 32768


def _check(p: float, scaling: str) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if scaling not in SCALINGS:
        raise ValueError(
            f"Dropout has no scaling {scaling!r}: choose from " + ", ".join(map(repr, SCALINGS))
        )
