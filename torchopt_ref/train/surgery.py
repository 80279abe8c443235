"""Puts this project's layers in the place of torch's, in any model."""

from __future__ import annotations

from torch import nn

from torchopt_ref.nn import BatchNorm1d, BatchNorm2d, BatchNorm3d, Dropout

BATCHNORMS: dict[type[nn.Module], type] = {
    nn.BatchNorm1d: BatchNorm1d,
    nn.BatchNorm2d: BatchNorm2d,
    nn.BatchNorm3d: BatchNorm3d,
}


def use_our_layers(model: nn.Module) -> int:
    """Replace BatchNorm and Dropout in ``model``, in place; return how many were replaced.

    The new layer has the parameters, buffers, options and mode of the old one, but not its hooks.
    An optimizer of the parameters stays valid. A BatchNorm computes its statistics over the batches
    of all processes (``sync=True``). Subclasses of torch's layers stay, since they do something
    else.
    """
    exchanged: dict[nn.Module, nn.Module] = {}
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # named_children skips repetitions
            ours = exchanged.get(child) or our_layer(child) if child else None
            if child and ours:
                exchanged[child] = ours
                setattr(parent, name, ours)
    return len(exchanged)


def our_layer(layer: nn.Module) -> nn.Module | None:
    """The layer of this project that does what ``layer`` does; None if there is none."""
    ours: nn.Module
    if isinstance(layer, nn.modules.batchnorm._BatchNorm) and type(layer) in BATCHNORMS:
        ours = BATCHNORMS[type(layer)](
            layer.num_features,
            layer.eps,
            layer.momentum,
            layer.affine,
            layer.track_running_stats,
            sync=True,
        )
        for name, parameter in layer.named_parameters():
            setattr(ours, name, parameter)
        if layer.affine and layer.bias is None:
            ours.register_parameter("bias", None)
        for name, buffer in layer.named_buffers():
            setattr(ours, name, buffer)
    elif type(layer) is nn.Dropout:
        ours = Dropout(layer.p, layer.inplace)
    else:
        return None
    return ours.train(layer.training)
