"""A state in one form, so that equal trainings make equal files, which read back as they are."""

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
"""Bits of an integer that ``weights_only`` reads."""
EQUAL = {np.float64: float, np.bool_: bool}
"""NumPy's numbers that are a Python number of the same precision; so is every integer."""


def canonical(value: Any, place: str = "") -> Any:
    """A copy that makes the same file as any other equal value, and reads back as it is.

    Where one object stands in several places, pickle refers back to the first. Strings that were
    read from a file are several where a program has one.

    Raises:
        UserError: what is at ``place`` is of a type that ``weights_only`` does not read, or that
            would read back as another one.
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
    """Always of torch's own classes; of others, and with attributes of its own, it is tried."""
    if type(tensor).__module__.startswith("torch.") and not vars(tensor):
        return True
    file = io.BytesIO()
    try:
        torch.save(tensor, file)
        file.seek(0)
        return type(torch.load(file, weights_only=True)) is type(tensor)
    except Exception:  # whatever a class of a user's own does when it is pickled
        return False
