"""Checking that a device has a known name and is there."""

from torchopt_ref.errors import UserError, unknown


def check_device(device: str) -> None:
    """Raise ``UserError`` for a ``--device`` that is unknown or not there."""
    kind, colon, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (colon and not index.isdecimal()):
        raise unknown("device", device, ("cpu", "cuda"))
    if kind == "cpu":
        return
    import torch  # not at the top: a malformed option is reported without loading torch

    count = torch.cuda.device_count()
    if int(index or 0) >= count:
        raise UserError(
            f"--device {device}: torch finds {count} CUDA devices here: choose another, or cpu"
        )
