"""Brings a state into one form, so that equal states make equal files and read back the same."""

from __future__ import annotations

import io
import sys
from collections import Counter, OrderedDict
from typing import Any

import numpy as np
import torch

from torchopt_ref.errors import UserError

PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes, bytearray),
    *(torch.Size, torch.device, torch.dtype, torch.layout),
)
LONGEST = 2039
"""The most bits of an integer that ``weights_only`` reads."""
EQUAL = {np.float64: float, np.bool_: bool}
"""NumPy's numbers, besides integers, that a Python number holds in full precision."""


def canonical(value: Any, place: str = "") -> Any:
    """A copy that makes the same file for all equal values, and reads back unchanged.

    Equal values need not make equal files: pickle writes an object once and then refers to it, and
    a string that is one object in a program may be several after it was read from a file.

    Raises:
        UserError: the value at ``place`` has a type that ``weights_only`` does not read, or that
            would read back as another type.
    """
    kind = type(value)
    if kind in EQUAL or isinstance(value, np.integer):
        return EQUAL.get(kind, int)(value)
    if kind is str:
        return sys.intern(value)
    if kind in (dict, OrderedDict, Counter):
        copied: Any = kind()
        for key, each in value.items():
            copied[canonical(key, place)] = canonical(each, f"{place}[{key!r}]")
        if hasattr(value, "_metadata"):  # versions of modules, which some models ask for
            copied._metadata = canonical(value._metadata)
        return copied
    if kind in (list, tuple, set):
        return kind(canonical(each, f"{place}[{i}]") for i, each in enumerate(value))
    if kind is int and value.bit_length() > LONGEST:
        raise UserError(f"the state of this training cannot be saved: {place} is a too large int")
    if kind in PLAIN or (isinstance(value, torch.Tensor) and reads_back(value)):
        return value
    raise UserError(
        f"the state of this training cannot be saved: {place} is a {kind.__module__}."
        f"{kind.__qualname__}, which torch.load(weights_only=True) does not read: its owner's "
        "state_dict must give tensors, numbers, strings, lists, tuples and dicts"
    )


def reads_back(tensor: torch.Tensor) -> bool:
    """Whether ``torch.load`` gives back the same class. Those of torch need no trial."""
    if type(tensor).__module__.partition(".")[0] == "torch" and not vars(tensor):
        return True
    file = io.BytesIO()
    try:
        torch.save(tensor, file)
        file.seek(0)
        return type(torch.load(file, weights_only=True)) is type(tensor)
    except Exception:  # whatever a class of a user's own does when it is pickled
        return False
