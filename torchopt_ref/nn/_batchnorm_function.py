"""The arithmetic of batch normalisation and its derivatives, as an autograd function."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function, forward_ad

# For more elements than this, one more pass over a tensor costs less than allocating another.
_LARGE = 64 * 1024


def batch_normalize(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    eps: float,
    group: dist.ProcessGroup | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise x (N, C, ...) by the running statistics, or by the batch's own if these are None.

    ``group``: the processes whose batches are taken together as one batch. Returns y, and the mean
    and the unbiased variance (C) of the batch, which are to be tracked and have no gradient. If
    running statistics are given, mean and variance have no meaning.
    """
    count = _channel_count(x, group) if running_mean is None else None
    inputs = (x, weight, bias, running_mean, running_var, eps, group, count)
    if not torch.compiler.is_compiling() and (
        torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    ):
        # torch.func and forward mode differentiate the plain operations, to any order.
        y, tracked_mean, unbiased_var, _, _ = _normalize(*inputs, spare_memory=False)
        tracked_mean, unbiased_var = tracked_mean.detach(), unbiased_var.detach()
    else:
        y, tracked_mean, unbiased_var, _, _ = _BatchNormalize.apply(*inputs)
    return y, tracked_mean.view(-1), unbiased_var.view(-1)


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
    variance only. If running statistics are given, they do not depend on x:
    dx = weight * invstd * g.

    **Rounding.** The mean is rounded (to float32 for 16-bit x, else to the dtype of x), by an
    amount that counts when the mean is large beside the standard deviation. xc is therefore not
    quite centred: its own mean, ``rest``, corrects all that is computed from it.

    **Memory.** The forward pass saves x, weight, mean and invstd for the backward pass. For a large
    x, each pass allocates one tensor of that size and uses it for intermediate values, too:
    writing to new memory costs several times as much as a pass over memory that is in use, so xc
    is computed twice.

    When the backward pass is itself recorded, to be differentiated in turn, it computes the
    statistics again, so that the record holds them as functions of x.
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
        count: Tensor | None,
    ) -> tuple[Tensor, ...]:
        y, tracked_mean, unbiased_var, mean, invstd = _normalize(
            x,
            weight,
            bias,
            running_mean,
            running_var,
            eps,
            group,
            count,
            spare_memory=_should_spare_memory(x),
        )
        ctx.mark_non_differentiable(tracked_mean, unbiased_var, mean, invstd)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, mean, invstd)
        ctx.eps, ctx.group, ctx.count = eps, group, count
        return y, tracked_mean, unbiased_var, mean, invstd

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if dy is None:
            return (None,) * 8
        x, weight, mean, invstd = ctx.saved_tensors
        group, count = ctx.group, ctx.count
        recorded = torch.is_grad_enabled() and not torch.compiler.is_compiling()
        if recorded and count is not None:
            if group is not None:
                raise NotImplementedError("synchronised batch statistics have no second derivative")
            mean, invstd = _recorded_statistics(x, count, ctx.eps)
        spare_memory = (
            not recorded
            and _should_spare_memory(x)
            and not torch._C._functorch.is_legacy_batchedtensor(dy)  # is_grads_batched=True
        )

        x_needs, weight_needs, bias_needs = ctx.needs_input_grad[:3]
        dx: Tensor | None = None
        dweight: Tensor | None = None
        dbias: Tensor | None = None
        if count is not None:
            xc = x - mean
            out = xc if spare_memory else None
            rest = _average(_channel_sum(xc), count, group)
            xc = torch.sub(xc, rest, out=out)
            dbias = _channel_sum(dy)
            dweight = _channel_sum(torch.mul(dy, xc, out=out)) * invstd
            if x_needs:
                mean_dy = _average(dbias, count, group)
                mean_dy_xhat = _average(dweight, count, group)
                if spare_memory:
                    xc = torch.sub(torch.sub(x, mean, out=out), rest, out=out)
                dx = torch.addcmul(mean_dy, xc, mean_dy_xhat * invstd, out=out)
                dx = torch.sub(dy, dx, out=out)
                dx = torch.mul(dx, _scale(invstd, weight), out=out)
        else:
            if x_needs:
                dx = dy * _scale(invstd, weight)
            if weight_needs:
                dweight = _channel_sum(dy * (x - mean)) * invstd
            if bias_needs:
                dbias = _channel_sum(dy)
        return (
            dx,
            dweight.view(-1) if weight_needs and dweight is not None else None,
            dbias.view(-1) if bias_needs and dbias is not None else None,
            *(None,) * 5,
        )


def _normalize(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    eps: float,
    group: dist.ProcessGroup | None,
    count: Tensor | None,
    *,
    spare_memory: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return five tensors: y; the mean and the unbiased variance, to be tracked; the mean as first
    rounded; 1 / sqrt(var + eps).

    That mean is subtracted from x first, then ``rest``, the mean of the difference.

    ``spare_memory``: overwrite intermediate results. Autograd must not record them, nor vmap batch
    them.
    """
    if running_mean is None or running_var is None:
        assert count is not None
        mean = _average(_channel_sum(x), count, group)
        xc = x - mean
        out = xc if spare_memory else None
        rest = _average(_channel_sum(xc), count, group)
        xc = torch.sub(xc, rest, out=out)
        squares = _total(_channel_sum(torch.mul(xc, xc, out=out)), group)
        var, unbiased_var = squares / count, squares / (count - 1)
        tracked_mean = mean + rest.where(rest.isfinite(), 0)
        if spare_memory:
            xc = torch.sub(torch.sub(x, mean, out=out), rest, out=out)
    else:
        mean = _per_channel(running_mean, x)
        tracked_mean = mean.clone()  # the compiler cannot return one tensor twice
        var = unbiased_var = _per_channel(running_var, x)
        xc = x - mean
        out = xc if spare_memory else None
    invstd = (var + eps).rsqrt()
    scale = _scale(invstd, weight)
    if bias is None:
        y = torch.mul(xc, scale, out=out)
    else:
        y = torch.addcmul(bias.view_as(mean), xc, scale, out=out)
    return _in_torch_layout(y.to(x.dtype)), tracked_mean, unbiased_var, mean, invstd


def _recorded_statistics(x: Tensor, count: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The mean and 1 / sqrt(var + eps) of the batch as differentiable functions of x."""
    mean = _channel_sum(x) / count
    var = _channel_sum((x - mean).square()) / count
    return mean, (var + eps).rsqrt()


def _scale(invstd: Tensor, weight: Tensor | None) -> Tensor:
    return invstd if weight is None else invstd * weight.view_as(invstd)


def _channel_count(x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """The elements of a channel, counted. A tensor: torch divides faster by it than by a number."""
    elements = x.shape[0] * math.prod(x.shape[2:])
    count = torch.full((), elements, dtype=_sum_dtype(x), device=x.device)
    if group is not None:
        dist.all_reduce(count, group=group)
    return count


def _channel_sum(x: Tensor) -> Tensor:
    """The sum over every dimension but the second.

    The first dimension is summed last. A single sum over all would share the work among threads by
    channels, where elementwise operations share it by samples, and threads would wait for each
    other's caches.
    """
    dtype = _sum_dtype(x)
    if x.dim() > 2:
        x = x.sum([*range(2, x.dim())], keepdim=True, dtype=dtype)
    return x.sum(0, keepdim=True, dtype=dtype)


def _average(sums: Tensor, count: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    return _total(sums, group) / count


def _total(sums: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    if group is not None:
        sums = sums.clone()
        dist.all_reduce(sums, group=group)
    return sums


def _sum_dtype(x: Tensor) -> torch.dtype:
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype


def _per_channel(statistic: Tensor, x: Tensor) -> Tensor:
    """A copy of a statistic (C), in a shape that broadcasts over x (N, C, ...)."""
    shape = (1, -1, *[1] * (x.dim() - 2))
    return statistic.to(_sum_dtype(x), copy=True).view(shape)


def _in_torch_layout(y: Tensor) -> Tensor:
    """``y`` in the memory format that torch's layer returns: channels last, or contiguous.

    Being the result of elementwise operations, ``y`` comes in the layout of x: if that is channels
    last, it is kept; any other layout becomes contiguous.
    """
    channels_last = y.dim() > 3 and y.movedim(1, -1).is_contiguous()
    return y if channels_last else y.contiguous()


def _should_spare_memory(x: Tensor) -> bool:
    """Only for large tensors. A compiler saves memory by itself; vmap takes no ``out=``."""
    return (
        x.numel() > _LARGE
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
    )
