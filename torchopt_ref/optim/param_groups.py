"""Which parameters to decay."""

from typing import Any

from torch import nn

# Batch, instance and group normalisation need no mention: their parameters are vectors.
_NORMALISATIONS = (nn.LayerNorm, nn.RMSNorm)


def param_groups_weight_decay(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two parameter groups for an optimizer: with ``weight_decay``, and with none.

    Not decayed are scalars and vectors (biases, the parameters of normalisation layers of any kind,
    the slopes of PReLU, learned scales), the parameters of ``LayerNorm`` and ``RMSNorm`` of any
    shape, and whatever has "bias" in its name, such as ``bias_k`` of ``MultiheadAttention``.
    Everything else is decayed: matrices, kernels, and embeddings too. The reason not to decay
    biases (they are few, and have no scale that could grow relative to others) does not apply to
    these.

    A tied parameter is in one group once, by its first name. Frozen parameters
    (``requires_grad=False``) are included, since an optimizer skips a parameter without gradient
    and a layer may be thawed later. In each group the order is that of ``model.parameters()``.
    Both groups are always there, so that state dicts keep their form; either may be empty.

    Raises ``ValueError`` for a negative ``weight_decay``.

    Example: ``AdamW(param_groups_weight_decay(model, 0.01), lr=1e-3)``
    """
    if not weight_decay >= 0:
        raise ValueError(f"Invalid weight_decay value: {weight_decay}")
    decayed: list[nn.Parameter] = []
    undecayed: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        owner, _, own_name = name.rpartition(".")
        normalises = isinstance(model.get_submodule(owner), _NORMALISATIONS)
        spared = parameter.ndim <= 1 or normalises or "bias" in own_name
        (undecayed if spared else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": undecayed, "weight_decay": 0.0},
    ]
