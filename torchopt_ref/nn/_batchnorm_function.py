"""The arithmetic of batch normalisation and its derivatives, as an autograd function."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function, forward_ad

# A product of this many elements is summed while it is still in the cache.
_CHUNK = 1024 * 1024


def batch_normalize(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    eps: float,
    group: dist.ProcessGroup | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise x (N, C, ...) by the given statistics, or by the batch's own if these are None.

    ``group``: the processes whose batches together are the batch. Returns y, and the mean and the
    unbiased variance to be tracked, both (C): those of the batch, without a gradient.
    """
    inputs = (x, weight, bias, running_mean, running_var, eps, group)
    if not torch.compiler.is_compiling() and (
        torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    ):
        # torch.func and forward mode differentiate the plain operations, to any order.
        y, mean, unbiased_var, _ = _normalize(*inputs, reuse=False)
        mean, unbiased_var = mean.detach(), unbiased_var.detach()
    else:
        y, mean, unbiased_var, _ = _BatchNormalize.apply(*inputs)
    return y, mean.view(-1), unbiased_var.view(-1)


class _BatchNormalize(Function):
    """y = weight * xhat + bias with xhat = (x - mean) * invstd, invstd = 1 / sqrt(var + eps).

    Below, N is the number of elements of a channel, sums run over those elements, and g = dL/dy.

    **Through the computational graph**, the derivation of F. Kratzert, *Understanding the backward
    pass through Batch Normalization Layer*, 2016. Forward is a chain of simple nodes; backward
    visits them in the opposite order and multiplies by each node's local derivative::

        forward                          backward, from the bottom up
        mean   = sum(x) / N              dx      = dxc + dmean / N
        xc     = x - mean                dmean   = -sum(dxc)
        sq     = xc ** 2                 dxc     = dxhat * invstd + dsq * 2 * xc
        var    = sum(sq) / N             dsq     = dvar / N
        std    = sqrt(var + eps)         dvar    = dstd / (2 * std)
        invstd = 1 / std                 dstd    = -dinvstd / std ** 2
        xhat   = xc * invstd             dinvstd = sum(dxhat * xc)
        y      = weight * xhat + bias    dxhat   = g * weight
                                         dweight = sum(g * xhat)
                                         dbias   = sum(g)

    **In closed form**, by substituting upwards. dinvstd = weight * dweight / invstd, so that
    dsq = -weight * invstd ** 2 * dweight / (2 * N), and the second term of dxc becomes
    -weight * invstd * xhat * dweight / N. Its sum vanishes with sum(xhat), which leaves
    dmean = -weight * invstd * dbias. Together::

        dx = weight * invstd * (g - dbias / N - xhat * dweight / N)

    Two sums and one elementwise expression. The two terms that are subtracted take out of g what
    lies along the constant and along xhat: moving x in these directions moves the mean and the
    variance only. Given statistics do not move with x: dx = weight * invstd * g.

    **Rounding.** A mean is rounded to the dtype of x, by an amount that counts when the mean is
    large beside the standard deviation. The centred values are therefore centred once more.

    What the backward pass saves is x, weight, mean and invstd. When it is itself recorded, to be
    differentiated in turn, it repeats the statistics so that the record holds them as functions
    of x.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        eps: float,
        group: dist.ProcessGroup | None,
    ) -> tuple[Tensor, ...]:
        y, mean, unbiased_var, invstd = _normalize(
            x, weight, bias, running_mean, running_var, eps, group, reuse=_eager()
        )
        ctx.mark_non_differentiable(mean, unbiased_var, invstd)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, mean, invstd)
        ctx.of_batch, ctx.eps, ctx.group = running_mean is None, eps, group
        return y, mean, unbiased_var, invstd

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if dy is None:
            return (None,) * 7
        x, weight, mean, invstd = ctx.saved_tensors
        recorded = torch.is_grad_enabled() and not torch.compiler.is_compiling()
        if recorded and ctx.of_batch:
            if ctx.group is not None:
                raise NotImplementedError("synchronised batch statistics have no second derivative")
            mean, invstd = _recorded_statistics(x, ctx.eps)
        reuse = not recorded and _eager() and not torch._C._functorch.is_legacy_batchedtensor(dy)

        x_needs, weight_needs, bias_needs = ctx.needs_input_grad[:3]
        dx = dweight = dbias = None
        scale = _scale(invstd, weight)
        if ctx.of_batch:
            xc = _centre_again(x - mean, ctx.group, reuse)
            dbias = _channel_sum(dy)
            dweight = _channel_dot(dy, xc) * invstd
            if x_needs:
                sums = torch.stack([dbias, dweight])
                mean_dy, mean_dy_xhat = _average(sums, _channel_count(x), ctx.group)[0].unbind()
                out = xc if reuse else None
                dx = torch.addcmul(mean_dy, xc, mean_dy_xhat * invstd, out=out)
                dx = torch.sub(dy, dx, out=out)
                dx = torch.mul(dx, scale, out=out)
        else:
            if x_needs:
                dx = dy * scale
            if weight_needs:
                dweight = _channel_dot(dy, x - mean) * invstd
            if bias_needs:
                dbias = _channel_sum(dy)
        return (
            dx.to(x.dtype) if dx is not None else None,
            dweight.view(-1) if weight_needs else None,
            dbias.view(-1) if bias_needs else None,
            None,
            None,
            None,
            None,
        )


def _normalize(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    eps: float,
    group: dist.ProcessGroup | None,
    *,
    reuse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return y, the mean, the unbiased variance and 1 / sqrt(var + eps).

    ``reuse``: overwrite intermediate results, which must then be neither recorded nor batched.
    """
    if running_mean is None or running_var is None:
        count = _channel_count(x)
        mean, total = _average(_channel_sum(x), count, group)
        xc = _centre_again(x - mean, group, reuse)
        var = _average(_channel_dot(xc, xc), count, group)[0]
        unbiased_var = var * (total / (total - 1))
    else:
        mean = _per_channel(running_mean, x).to(_sum_dtype(x), copy=True)
        var = unbiased_var = _per_channel(running_var, x).to(_sum_dtype(x), copy=True)
        xc = x - mean
    invstd = (var + eps).rsqrt()
    scale = _scale(invstd, weight)
    out = xc if reuse else None
    if bias is None:
        y = torch.mul(xc, scale, out=out)
    else:
        y = torch.addcmul(_per_channel(bias, x), xc, scale, out=out)
    return _in_torch_layout(y.to(x.dtype)), mean, unbiased_var, invstd


def _recorded_statistics(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The mean and 1 / sqrt(var + eps) of the batch as differentiable functions of x."""
    count = _channel_count(x)
    mean = _channel_sum(x) / count
    return mean, (_channel_sum((x - mean).square()) / count + eps).rsqrt()


def _centre_again(xc: Tensor, group: dist.ProcessGroup | None, reuse: bool) -> Tensor:
    """Subtract the mean that rounding has left in xc."""
    rest = _average(_channel_sum(xc), _channel_count(xc), group)[0]
    return torch.sub(xc, rest, out=xc if reuse else None)


def _scale(invstd: Tensor, weight: Tensor | None) -> Tensor:
    return invstd if weight is None else invstd * _per_channel(weight, invstd)


def _average(sums: Tensor, count: int, group: dist.ProcessGroup | None) -> tuple[Tensor, Any]:
    """Divide sums over this process's elements, or over those of the group; return the divisor."""
    if group is None:
        return sums / float(count), count
    packed = torch.cat([sums.flatten(), sums.new_tensor([count])])
    dist.all_reduce(packed, group=group)
    return (packed[:-1] / packed[-1]).view_as(sums), packed[-1]


def _channel_sum(x: Tensor) -> Tensor:
    """The sum over every dimension but the second."""
    return x.sum([0, *range(2, x.dim())], keepdim=True, dtype=_sum_dtype(x))


def _sum_dtype(x: Tensor) -> torch.dtype:
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype


def _channel_dot(a: Tensor, b: Tensor) -> Tensor:
    """The channel sums of a * b, in chunks: a product of the full size would cost a memory pass."""
    if a.numel() <= _CHUNK or torch.compiler.is_compiling():
        return _channel_sum(a * b)
    rows = max(1, _CHUNK * len(a) // a.numel())
    chunks = zip(a.split(rows), b.split(rows), strict=True)
    return torch.stack([_channel_sum(u * v) for u, v in chunks]).sum(0)


def _channel_count(x: Tensor) -> int:
    return x.shape[0] * math.prod(x.shape[2:])


def _per_channel(t: Tensor, x: Tensor) -> Tensor:
    """View t (C) so that it broadcasts over x (N, C, ...)."""
    return t.view(1, -1, *[1] * (x.dim() - 2))


def _in_torch_layout(y: Tensor) -> Tensor:
    """Contiguous or channels last, as torch returns it, where elementwise results look like x."""
    channels_last = y.dim() > 3 and y.movedim(1, -1).is_contiguous()
    return y if channels_last else y.contiguous()


def _eager() -> bool:
    return not (torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active())
