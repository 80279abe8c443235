"""Fold a batch normalisation into the layer before it, for inference."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

__all__ = ["fold_batchnorm"]

Layer = TypeVar("Layer", nn.Linear, _ConvNd)


def fold_batchnorm(layer: Layer, bn: _BatchNorm) -> Layer:
    """Return a layer that computes ``bn(layer(x))`` as ``bn`` does in evaluation mode.

    With ``scale = bn.weight / sqrt(bn.running_var + bn.eps)``, per output channel::

        weight = layer.weight * scale
        bias   = (layer.bias - bn.running_mean) * scale + bn.bias

    The new layer is a copy whose parameters are new, in the dtype of the old weight, computed in
    float32 at least; it always has a bias. ``layer`` and ``bn`` stay as they are.

    Args:
        layer: an ``nn.Linear`` whose outputs are (N, C), or a convolution, transposed or not, of
            1 to 3 dimensions, with or without groups and bias.
        bn: a ``BatchNorm*d``, of ``torch.nn`` or of this package, with running statistics.

    Raises:
        TypeError: ``layer`` or ``bn`` is of another type, or has a ``forward`` of its own, which
            may do more than its class in ``torch.nn`` (quantise, mask, activate).
        ValueError: ``bn`` has no running statistics, or another number of channels; a parameter of
            either is computed from others (by ``torch.nn.utils.parametrize``, ``weight_norm``,
            ``spectral_norm``, ``prune``) or not initialised yet.
    """
    if not isinstance(layer, nn.Linear | _ConvNd):
        raise TypeError(f"cannot fold into {type(layer).__name__}: not linear, not a convolution")
    if not isinstance(bn, _BatchNorm):
        raise TypeError(f"cannot fold {type(bn).__name__}: not a BatchNorm")
    if bn.running_mean is None or bn.running_var is None:
        raise ValueError("cannot fold a BatchNorm that always normalises by the batch's statistics")
    for module in (layer, bn):
        _check_plain(module)
    channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    if bn.num_features != channels:
        raise ValueError(f"the layer has {channels} channels, the BatchNorm {bn.num_features}")

    weight = layer.weight.detach()
    dtype = torch.promote_types(weight.dtype, torch.float32)
    scale = (bn.running_var.to(dtype) + bn.eps).rsqrt()
    if bn.weight is not None:
        scale = scale * bn.weight.detach().to(dtype)
    bias = -bn.running_mean.to(dtype)
    if layer.bias is not None:
        bias = bias + layer.bias.detach()
    bias = bias * scale
    if bn.bias is not None:
        bias = bias + bn.bias.detach()

    folded = copy.deepcopy(layer)
    folded.weight = nn.Parameter(_scale_outputs(layer, weight.to(dtype), scale).to(weight.dtype))
    folded.bias = nn.Parameter(bias.to(weight.dtype))
    return folded


def _check_plain(module: nn.Module) -> None:
    """Refuse a ``forward`` of the module's own, and weights that are computed or not there yet.

    A computed weight may be stale, and cannot be replaced by a folded one.
    """
    home = type(module).forward.__module__
    if "forward" in vars(module) or not home.startswith(("torch.nn.", "torchopt_ref.nn.")):
        raise TypeError(f"cannot fold {type(module).__name__}: its forward is not torch.nn's")
    for name in ("weight", "bias"):
        if name not in module._parameters:
            raise ValueError(
                f"cannot fold {type(module).__name__}: its {name} is computed from other "
                "parameters; make it plain first (remove_parametrizations, remove_weight_norm, "
                "prune.remove)"
            )
        parameter = module._parameters[name]
        if parameter is not None and nn.parameter.is_lazy(parameter):
            raise ValueError(f"cannot fold {type(module).__name__}: its {name} is not initialised")


def _scale_outputs(layer: nn.Module, weight: Tensor, scale: Tensor) -> Tensor:
    if isinstance(layer, _ConvNd) and layer.transposed:
        # (in, out / groups, ...): each group has some of the rows, and its outputs are the columns.
        grouped = weight.unflatten(0, (layer.groups, -1))
        scale = scale.view(layer.groups, 1, -1, *[1] * (weight.dim() - 2))
        return (grouped * scale).flatten(0, 1)
    return weight * scale.view(-1, *[1] * (weight.dim() - 1))
