"""Curves by layer, by param group and of all parameters, from the norms of parameter tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from ..write.facts import group_values
from ..write.over_layers import GRADIENTS, UPDATES, Decades, three_points
from ..write.record import Record
from .layers import Layers

SMOOTHING = 0.9
"""The decay factor of the two running averages whose ratio is the gradient noise scale."""

HYPER_PARAMETERS = {"lr": "learning rate", "weight_decay": "weight decay"}


class UpdateCurves:
    """The curves of one optimizer.

    With a layer's parameters ``theta`` of ``n`` elements, their gradient ``g`` and the update
    ``u = theta_before - theta_after``, norms being Euclidean:

    - ``weight norm`` ``|theta_before|``, ``gradient norm`` ``|g|``, ``update norm`` ``|u|``;
    - ``update to weight`` ``|u| / |theta_before|``: about 1e-3 is healthy (A. Karpathy, notes of
      CS231n, "Babysitting the learning process");
    - ``effective step`` ``|u| / (lr sqrt(n))``: the update of an element, as root mean square, in
      units of the learning rate; 1 in Adam's first step, the gradient's size for SGD;
    - ``gradient cosine`` ``g' . g / (|g'| |g|)``, ``g'`` being the gradient of the step before:
      near 0 where noise decides, near 1 where steps agree, negative where they overshoot;
    - ``gradient noise scale`` ``B tr(S) / |G|^2`` in samples, ``B`` being the batch size: the batch
      size at which a gradient is noise and signal in equal parts (S. McCandlish et al., "An
      empirical model of large-batch training", 2018, appendix A.1). The small batch is that of a
      step, the big one that of two successive steps, which makes the unbiased estimates
      ``tr(S) = |g - g'|^2 / 2`` and ``|G|^2 = g . g'``. Both are averaged over the records, with
      the factor 0.9, then divided; there is no point where the second is not positive.

    A layer whose gradient is None has no ``gradient norm``; one whose gradient is 0 has one.

    ``[all]`` is the optimizer as one layer. For ``update to weight`` and ``gradient norm``
    there are also ``[largest]``, ``[median]`` and ``[smallest]`` over the layers, and the same of
    their decimal logarithms.
    Values of a param group other than ``lr`` are drawn once they change.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        layers: Layers,
        name: str,
    ) -> None:
        self._optimizer, self._layers = optimizer, layers
        self._of = f" of {name}" if name else ""
        self._averages: dict[str, tuple[float, float]] = {}
        self._decades = Decades(self._of)
        self._given = [group_values(group) for group in optimizer.param_groups]

    def drawer(
        self,
        record: Record,
        params: Sequence[nn.Parameter],
        compared: Sequence[int],
        there: Sequence[int],
    ) -> Callable[[np.ndarray], None]:
        """A function that adds the curves' points to ``record``, once the norms are fetched.

        That function takes five numbers for each tensor, as five blocks: the norms of all weights,
        of all updates, of all gradients and of all gradients of the step before, and the dot
        products of the last two. The norm of the gradient is 0 for tensors without a gradient
        (``there`` are those with one). The last two numbers are 0 for tensors without a gradient
        in this step or in the step before (``compared`` are those with both).
        """
        groups = self._optimizer.param_groups
        record.scalars.update(self._hyper_parameters())
        group_of = {p: i for i, group in enumerate(groups) for p in group["params"]}
        in_group = np.array([group_of[param] for param in params], int)
        lr = np.array([float(group.get("lr", 0.0)) or np.nan for group in groups])[in_group]
        layer = [self._layers.of(param) for param in params]
        count = np.array([param.numel() for param in params], float)
        again = np.isin(np.arange(len(params)), compared)
        given = np.isin(np.arange(len(params)), there).astype(float)

        def draw(values: np.ndarray) -> None:
            values = values.reshape(5, -1)
            scale = power_of_two(values[:4])
            weight, update, gradient, before = values[:4] / scale
            dots = np.where(np.isfinite(values[4]), values[4], np.nan) / scale / scale
            with np.errstate(all="ignore"):
                table = {
                    **{"weight": weight**2, "update": update**2, "gradient": gradient**2},
                    **{"step": (update / lr) ** 2, "count": count},
                    **{"dot": dots, "before": before**2, "given": given},
                    "after": np.where(again, gradient**2, 0),
                }
                groupings = [
                    numbered([self._layers.charts.get(each, "") for each in layer]),
                    ([f"[all{self._of}]"], np.zeros(len(params), int)),
                ]
                if len(groups) > 1:
                    names = [f"[group {i}{self._of}]" for i in range(len(groups))]
                    groupings.append((names, in_group))
                for names, rows in groupings:
                    self._add(record, names, summed(table, rows, len(names)), scale)
                names, rows = numbered(layer)
                self._add_over_layers(record, quantities(summed(table, rows, len(names)), scale))

        return draw

    def _hyper_parameters(self) -> dict[str, float]:
        found = {}
        for number, group in enumerate(self._optimizer.param_groups):
            first = self._given[number] if number < len(self._given) else {}
            for key, value in group_values(group).items():
                if key == "lr" or value != first.get(key):
                    tag = HYPER_PARAMETERS.get(key, key.replace("_", " "))
                    found[f"{tag}/group {number}{self._of}"] = value
        return found

    def _add(
        self,
        record: Record,
        names: Sequence[str],
        sums: Mapping[str, np.ndarray],
        scale: np.float64,
    ) -> None:
        for quantity, values in quantities(sums, scale).items():
            arrived = sums["given"] if quantity == "gradient norm" else np.ones(len(values))
            for name, value, is_there in zip(names, values, arrived, strict=True):
                if is_there and (quantity in NORMS or not np.isnan(value)):
                    record.scalars[f"{quantity}/{name}"] = float(value)
        noise = scale**2 * (sums["after"] + sums["before"] - 2 * sums["dot"]) / 2
        for name, tr, signal in zip(names, noise, scale**2 * sums["dot"], strict=True):
            if name.startswith("[") and record.samples and 0 < tr < np.inf:
                old = self._averages.get(name, (tr, signal))
                tr, signal = (
                    SMOOTHING * a + (1 - SMOOTHING) * b
                    for a, b in zip(old, (tr, signal), strict=True)
                )
                self._averages[name] = tr, signal
                if signal > 0:
                    record.scalars[f"gradient noise scale/{name}"] = record.samples * tr / signal

    def _add_over_layers(self, record: Record, found: Mapping[str, np.ndarray]) -> None:
        for quantity in (UPDATES, GRADIENTS):
            values = found[quantity][np.isfinite(found[quantity])]
            if len(values):
                record.scalars |= three_points(quantity, values, self._of)
                record.scalars |= self._decades.points(quantity, values)


NORMS = ("weight norm", "gradient norm", "update norm")


def power_of_two(values: np.ndarray) -> np.float64:
    """The largest power of two that is not above the largest finite value; 1 if that is 0. The
    squares of values divided by it can be summed without overflow."""
    largest = np.max(values, initial=0.0, where=np.isfinite(values))
    return np.exp2(np.floor(np.log2(largest))) if largest else np.float64(1)


def quantities(sums: Mapping[str, np.ndarray], scale: np.float64) -> dict[str, np.ndarray]:
    """The curves' values from the sums of squares of norms that were divided by ``scale``; NaN
    where undefined."""
    ratio = np.sqrt(sums["update"] / sums["weight"])
    return {
        "weight norm": scale * np.sqrt(sums["weight"]),
        "gradient norm": scale * np.sqrt(sums["gradient"]),
        "update norm": scale * np.sqrt(sums["update"]),
        "update to weight": np.where(sums["weight"] > 0, ratio, np.nan),
        "effective step": scale * np.sqrt(sums["step"] / sums["count"]),
        "gradient cosine": sums["dot"] / np.sqrt(sums["before"] * sums["after"]),
    }


def summed(table: Mapping[str, np.ndarray], rows: np.ndarray, number: int) -> dict[str, np.ndarray]:
    """The sums of each column over the tensors that share a row; those of row -1 are omitted."""
    here = rows >= 0
    return {
        key: np.bincount(rows[here], weights=column[here], minlength=number)
        for key, column in table.items()
    }


def numbered(layers: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The distinct names, and the place of each layer's name among them; -1 for an empty one."""
    names = [name for name in dict.fromkeys(layers) if name]
    place = {"": -1} | {name: i for i, name in enumerate(names)}
    return names, np.array([place[layer] for layer in layers], int)
