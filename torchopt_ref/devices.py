"""Choosing a device."""

import torch

from torchopt_ref.errors import UserError, unknown


def check_device(device: str) -> None:
    """Raise ``UserError`` for a ``--device`` that is unknown or not there."""
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise unknown("device", device, ("cpu", "cuda"))
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {device}: torch finds no CUDA device here: use cpu")
