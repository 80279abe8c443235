"""The arguments of ``Monitor.log``, converted for the monitor, or an error that says why they
cannot be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Predictions(NamedTuple):
    """Of a batch: the scores, each sample's class of the largest score, and the labels, in
    int64."""

    scores: Tensor
    predicted: Tensor
    labels: Tensor
    classes: int


class Given(NamedTuple):
    """What one call of ``Monitor.log`` handed over.

    It belongs to the training step ``step``; ``made`` says whether that step was made already,
    ``is_recorded`` whether it is recorded.
    """

    numbers: Mapping[str, Tensor | float]
    predictions: Predictions | None
    step: int
    made: bool
    is_recorded: bool


def number(tag: str, value: Any) -> Tensor | float:
    """The number, or the mean of the numbers, that ``value`` holds.

    If the values are on an accelerator, it is a 0-dim tensor there, so as not to wait for the
    device.

    Raises:
        TypeError: ``value`` holds something else, such as text, ``None`` or complex numbers.
        ValueError: ``value`` holds no number, or one too large for a float64.
    """
    try:
        if isinstance(value, Tensor):
            return mean(value)
        if isinstance(value, list | tuple):
            pairs = [(number(tag, each), size(each)) for each in flat(value)]
            if not pairs:
                raise ValueError("it has no elements")
            total = sum(count for _, count in pairs)
            return sum((each * (count / total) for each, count in pairs), start=0.0)
        if hasattr(value, "__array__"):
            array = np.asanyarray(value)
            if isinstance(array, np.ma.MaskedArray):
                array = array.compressed()
            if array.dtype.kind not in "biuf":
                raise TypeError(f"its elements are {array.dtype}")
            if array.ndim:
                return mean(torch.as_tensor(array.astype(np.float64)))
        if isinstance(value, str | bytes) or not hasattr(value, "__float__"):
            raise TypeError(f"it is {type(value).__name__ if value is not None else None}")
        found = float(value)
        if math.isinf(found) and value != found:
            raise ValueError("it is too large")
        return found
    except OverflowError:
        raise ValueError(said(tag, "it is too large")) from None
    except (TypeError, ValueError) as error:
        raise type(error)(said(tag, error)) from None
    except (RuntimeError, ArithmeticError) as error:
        raise TypeError(said(tag, error)) from error


def said(tag: str, why: object) -> str:
    """The message of an error. The message for an element of a list is complete already, and
    kept."""
    start = f"Monitor.log({tag}=...)"
    text = " ".join(str(why).split())
    return text if text.startswith(start) else f"{start} takes a real number, or several: {text}"


def mean(tensor: Tensor) -> Tensor | float:
    tensor = plain(tensor.detach())
    if not tensor.numel():
        raise ValueError("it has no elements")
    if tensor.is_complex():
        raise TypeError("it is complex: take its real part, or its absolute value")
    if tensor.is_cpu and tensor.numel() == 1:
        return float(tensor.item())
    tensor = tensor.double() if tensor.device.type != "mps" else tensor.float()
    found = tensor.mean()
    if not tensor.is_cpu:
        return found
    if not found.isfinite():
        found = (tensor / tensor.numel()).sum()  # A sum of finite values may overflow.
    return float(found.item())


def plain(tensor: Tensor) -> Tensor:
    """The tensor with all its values in memory: nested, quantized and sparse ones are converted."""
    if tensor.is_meta:
        raise ValueError("it is on the meta device, without values")
    if tensor.is_nested:
        return torch.cat([each.reshape(-1) for each in tensor.unbind()])
    if tensor.is_quantized:
        return tensor.dequantize()
    return tensor.to_dense()


def flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from flat(value)
        else:
            yield value


def size(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() if not value.is_nested else len(plain(value))
    if isinstance(value, np.ma.MaskedArray):
        return value.count()
    return getattr(value, "size", 1)


def predictions(output: Any, target: Any) -> Predictions:
    """The predictions, from class scores and labels. Labels are copied: the caller may write the
    next ones into the same memory.

    Raises:
        TypeError: the labels are not integers, or something cannot become a tensor.
        ValueError: the shapes are not ``(batch, classes, ...)`` and ``(batch, ...)``.
    """
    where = "Monitor.log(output=, target=) takes class scores and labels"
    try:
        output, labels = (
            plain(each.detach()) if isinstance(each, Tensor) else torch.as_tensor(each)
            for each in (output, target)
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{where}, as tensors: {' '.join(str(error).split())}") from error
    if labels.is_floating_point() or labels.is_complex():
        raise TypeError(
            f"{where}, which are integers: the target is {labels.dtype}. Give the labels "
            "themselves (target.argmax(1) of one-hot or soft ones), or leave both out"
        )
    if output.is_complex():
        raise TypeError(f"{where}: the output is complex")
    if output.dim() == 1 and not labels.dim():
        output, labels = output[None], labels[None]
    shapes = f"{tuple(output.shape)} and {tuple(labels.shape)}"
    if (
        output.dim() < 2
        or output.shape[1] < 2
        or output.shape[:1] + output.shape[2:] != labels.shape
    ):
        raise ValueError(
            f"{where} of the shapes (batch, classes, ...) and (batch, ...), two classes at least: "
            f"they are {shapes}. Move the classes to the second place, give labels for one-hot "
            "targets (target.argmax(1)), or leave both out"
        )
    large = output.is_floating_point() and output.dtype.itemsize > 1
    predicted = (output if large else output.float()).argmax(1)
    labels = labels.to(predicted.device, torch.int64, copy=True)
    return Predictions(output, predicted, labels, output.shape[1])
