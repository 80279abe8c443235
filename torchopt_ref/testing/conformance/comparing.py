"""Comparing tensors and states."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from .verdicts import Failure


def snapshot(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Copies that no later step changes."""
    return [tensor.detach().clone() for tensor in tensors]


def dense(tensor: Tensor) -> Tensor:
    return tensor.to_dense() if tensor.layout != torch.strided else tensor


def same(a: Tensor, b: Tensor) -> bool:
    """Equal in shape, dtype, device and value; NaN equals NaN."""
    if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        return False
    a, b = dense(a), dense(b)
    return bool(((a == b) | ((a != a) & (b != b))).all())


def require_same(what: str, seen: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Fail unless each tensor is the ``same`` as the one expected."""
    for index, (one, other) in enumerate(zip(seen, expected, strict=True)):
        if not same(one.detach(), other.detach()):
            raise Failure(f"{what}: parameter {index} {difference(one, other)}")


def require_close(
    what: str, seen: Sequence[Tensor], expected: Sequence[Tensor], *, rtol: float, atol: float
) -> None:
    """Fail unless each tensor is close to the one expected, as ``torch.allclose`` defines it."""
    for index, (one, other) in enumerate(zip(seen, expected, strict=True)):
        if one.dtype != other.dtype or not torch.allclose(
            one.detach(), other.detach(), rtol=rtol, atol=atol, equal_nan=True
        ):
            raise Failure(f"{what}: parameter {index} {difference(one, other)}")


def difference(seen: Tensor, expected: Tensor) -> str:
    """In words and numbers, how two tensors differ."""
    if seen.shape != expected.shape or seen.dtype != expected.dtype:
        return f"is {seen.dtype} {tuple(seen.shape)}, not {expected.dtype} {tuple(expected.shape)}"
    gap = (dense(seen.detach()) - dense(expected.detach())).abs()
    count = int((gap != 0).sum())
    return f"differs in {count} of {gap.numel()} elements, by up to {float(gap.max()):.3g}"


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """The leaves of nested dicts and lists, each under the path that leads to it."""
    if isinstance(value, dict):
        pairs: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, Sequence) and not isinstance(value, str):
        pairs = enumerate(value)
    else:
        return {path: value}
    leaves: dict[str, Any] = {}
    for key, item in pairs:
        leaves |= flat(item, f"{path}.{key}" if path else str(key))
    return leaves


def require_same_state(what: str, seen: dict[str, Any], expected: dict[str, Any]) -> None:
    """Fail unless two (parts of) state dicts hold the same leaves under the same paths."""
    mine, theirs = flat(seen), flat(expected)
    if mine.keys() != theirs.keys():
        only = ", ".join(sorted(mine.keys() ^ theirs.keys()))
        raise Failure(f"{what}: only one side has {only}")
    for path, value in mine.items():
        other = theirs[path]
        tensors = isinstance(value, Tensor), isinstance(other, Tensor)
        if all(tensors):
            if not same(value, other):
                raise Failure(f"{what}: {path} {difference(value, other)}")
        elif any(tensors) or (value != other and not (value != value and other != other)):
            raise Failure(f"{what}: {path} is {value!r}, not {other!r}")
