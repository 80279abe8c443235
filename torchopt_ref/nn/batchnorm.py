"""Batch normalisation whose forward and backward passes are written out by hand.

S. Ioffe, C. Szegedy, *Batch Normalization: Accelerating Deep Network Training by Reducing Internal
Covariate Shift*, ICML 2015, https://arxiv.org/abs/1502.03167.
"""

from __future__ import annotations

from types import FunctionType
from typing import TypedDict

import torch
import torch.distributed as dist
from torch import Tensor
from typing_extensions import Unpack

from ._batchnorm_function import batch_normalize
from ._recording import as_one_call, is_for_elsewhere

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d"]


# torch's forward under another name, by which TorchScript finds it.
_FORWARD = torch.nn.modules.batchnorm._BatchNorm.forward
_forward_of_torch = FunctionType(_FORWARD.__code__, _FORWARD.__globals__, "_forward_of_torch")


class NewerOptions(TypedDict, total=False):
    """Options that older versions of torch do not have: they are only passed on."""

    bias: bool  # from 2.14 on


class _BatchNorm(torch.nn.modules.batchnorm._BatchNorm):
    """What the three classes share: everything but the number of dimensions that they accept."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        fused: bool = False,
        sync: bool = False,
        process_group: dist.ProcessGroup | None = None,
        **newer_options: Unpack[NewerOptions],
    ) -> None:
        super().__init__(
            num_features,
            eps,
            momentum,
            affine,
            track_running_stats,
            device,
            dtype,
            **newer_options,
        )
        if fused and sync:
            raise ValueError("fused=True and sync=True exclude each other")
        if process_group is not None and not sync:
            raise ValueError("process_group needs sync=True")
        self.fused = fused
        self.sync = sync
        self.process_group = process_group

    _forward_of_torch = _forward_of_torch

    def forward(self, input: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            return self._forward(input)
        else:  # all that TorchScript compiles  # noqa: RET505
            return self._forward_of_torch(input)

    def _forward(self, input: Tensor) -> Tensor:
        traced = as_one_call(self, input)
        if traced is not None:
            return traced
        group = self._group_to_share_with()
        # torch's kernels also take an empty batch: it is counted, but changes no statistics.
        for_torch = is_for_elsewhere() or input.is_mkldnn or input.numel() == 0
        if self.fused or (group is None and for_torch):
            return self._forward_of_torch(input)
        self._check_input_dim(input)
        weight, bias = self.weight, self.bias
        running_mean, running_var = self.running_mean, self.running_var
        _check_match(
            input,
            running_mean=running_mean,
            running_var=running_var,
            weight=weight,
            bias=bias,
        )
        if (running_mean is None) != (running_var is None):
            raise ValueError(
                "running_mean and running_var must either both be None or neither be None"
            )
        if not self.training and running_mean is not None:
            if self.eps < 0:
                raise ValueError(f"batch_norm eps must be non-negative, but got {self.eps}")
            return batch_normalize(input, weight, bias, running_mean, running_var, self.eps)[0]

        if self.eps <= 0:
            raise ValueError(f"batch_norm eps must be positive during training, but got {self.eps}")
        if group is None and input.numel() == input.shape[1]:
            raise ValueError(
                "Expected more than 1 value per channel when training, "
                f"got input size {input.shape}"
            )
        y, mean, unbiased_var = batch_normalize(input, weight, bias, None, None, self.eps, group)
        if self.training and self.track_running_stats:
            share = self._count_batch()
            for running, new in ((running_mean, mean), (running_var, unbiased_var)):
                if running is not None:
                    # In the dtype of the sums, so that a 16-bit buffer is rounded once.
                    running.copy_((1 - share) * running.to(new.dtype) + share * new)
        return y

    def _group_to_share_with(self) -> dist.ProcessGroup | None:
        if not (self.sync and self.training and dist.is_available() and dist.is_initialized()):
            return None
        group = self.process_group or dist.group.WORLD
        return group if dist.get_world_size(group) > 1 else None

    def _count_batch(self) -> float:
        """Count one more batch and return its share in the running statistics."""
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                return 1 / float(self.num_batches_tracked)
        return self.momentum or 0.0

    def extra_repr(self) -> str:
        chosen = "".join(f", {name}=True" for name in ("fused", "sync") if getattr(self, name))
        return super().extra_repr() + chosen


def _check_match(input: Tensor, **per_channel: Tensor | None) -> None:
    """Raise torch's errors where broadcasting and type promotion would hide a mistake."""
    dtype, channels = input.dtype, input.shape[1]
    if not dtype.is_floating_point:
        raise NotImplementedError(f'"batch_norm" not implemented for {dtype}')
    low_precision = dtype in (torch.float16, torch.bfloat16)
    for name, tensor in per_channel.items():
        if tensor is None:
            continue
        if tensor.numel() != channels:
            raise RuntimeError(f"{name} should contain {channels} elements not {tensor.numel()}")
        if tensor.dtype != dtype and not (low_precision and tensor.dtype == torch.float32):
            raise RuntimeError(f"mixed dtype: {name} is {tensor.dtype} and the input is {dtype}")


class BatchNorm1d(_BatchNorm, torch.nn.BatchNorm1d):
    """Batch normalisation of (N, C) or (N, C, L) inputs; a drop-in for ``torch.nn.BatchNorm1d``.

    ::

        y = weight * (x - mean) / sqrt(var + eps) + bias

    In training, ``mean`` and ``var`` (C) are the mean and the biased variance of each channel of
    the batch, taken over every dimension but the second, and the running statistics follow them::

        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var  = (1 - momentum) * running_var  + momentum * var * n / (n - 1)

    for n elements in a channel. In evaluation ``mean`` and ``var`` are the running statistics.

    Parameters, buffers and state dict are those of ``torch.nn``: ``weight`` and ``bias`` (C),
    which start at 1 and 0; ``running_mean`` and ``running_var`` (C), which start at 0 and 1;
    ``num_batches_tracked`` (int64). y has the shape and the dtype of x and is contiguous, or
    channels last where x is. float16 and bfloat16 are computed in float32 and rounded once, the
    running statistics too; their parameters may be of the same dtype or of float32.
    Models that are scripted, traced or exported have torch's operation.

    Args:
        num_features: the number of channels, C.
        eps: added to the variance. Default: 1e-5.
        momentum: the share of the new batch in the running statistics; None averages all batches
            with equal weight. Default: 0.1.
        affine: whether there are ``weight`` and ``bias``. Default: True.
        track_running_stats: whether there are running statistics; without them the batch's are
            used in evaluation, too. Default: True.
        device, dtype: of parameters and buffers.
        fused: hand over to torch's native kernels, which are faster, notably for small inputs,
            but lose digits when the mean is large beside the standard deviation. Default: False.
        sync: share the batch statistics, in training, with the other processes of
            ``torch.distributed``, as if the batches of all were one; they need not be equally
            large, and may be on any device. The gradients of ``weight`` and ``bias`` are those of
            the process's own batch. Without an initialised process group it does nothing.
            Default: False.
        process_group: the processes to share with; None means all. Default: None.

    Any further keyword that the installed torch accepts, such as ``bias`` in 2.14, is passed on.

    Raises:
        ValueError: ``sync`` together with ``fused``, or ``process_group`` without ``sync``; when
            called: a wrong number of dimensions, one value per channel in training, an ``eps``
            below 0, or of 0 in training, one running statistic without the other.
        RuntimeError: a wrong number of channels, or dtypes that do not go together.
        NotImplementedError: integer or complex inputs; a second derivative with ``sync``.

    S. Ioffe, C. Szegedy, *Batch Normalization: Accelerating Deep Network Training by Reducing
    Internal Covariate Shift*, ICML 2015. The backward pass is derived where it is implemented.
    """


class BatchNorm2d(_BatchNorm, torch.nn.BatchNorm2d):
    """Batch normalisation of (N, C, H, W) inputs; otherwise as :class:`BatchNorm1d`."""


class BatchNorm3d(_BatchNorm, torch.nn.BatchNorm3d):
    """Batch normalisation of (N, C, D, H, W) inputs; otherwise as :class:`BatchNorm1d`."""
