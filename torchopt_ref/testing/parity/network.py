"""A whole network in lockstep: both sides train it, and every tensor on the way is compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from numpy_ref.gradient import relative_error
from numpy_ref.network import MultiLayerNet
from numpy_ref.random import Generator
from torchopt_ref.sides import (
    BY_NAME,
    Arrays,
    Configuration,
    NumpyGroups,
    NumpyNetwork,
    TorchNetwork,
    Twin,
    optimizer_name,
)

TOLERANCE = 1e-9
"""The largest relative difference that a float64 tensor may show."""


@dataclass(frozen=True)
class TensorDifference:
    """A tensor that differed: ``error`` is relative to the largest value in the tensor."""

    iteration: int
    tensor: str
    error: float

    def __str__(self) -> str:
        return f"{self.tensor} at iteration {self.iteration}, by {self.error:.2g}"


@dataclass(frozen=True)
class NetworkReport:
    """What ``check_network`` saw: a row of ``torchopt-ref parity --network``.

    ``loss_error`` is the largest relative difference of a loss; ``first`` the first tensor, in the
    order of computation, that differed by more than ``TOLERANCE``; ``largest`` the one that
    differed most.
    """

    HEADER: ClassVar[str] = (
        f"{'optimizer':<15}{'iterations':>10}{'loss':>10}  "
        f"first tensor above {TOLERANCE:g}; largest difference"
    )

    optimizer: str
    dialect: str
    iterations: int
    loss_error: float
    first: TensorDifference | None
    largest: TensorDifference

    @property
    def passed(self) -> bool:
        return self.loss_error <= TOLERANCE and self.first is None

    def __str__(self) -> str:
        return (
            f"{self.optimizer:<15}{self.iterations:>10}{self.loss_error:>10.2g}"
            f"  {self.first or 'none'}; {self.largest}"
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"passed": self.passed}


Batches = Iterable[tuple[np.ndarray, np.ndarray]]


def check_network(
    optimizer: str,
    *,
    iterations: int = 200,
    seed: int = 0,
    device: str = "cpu",
) -> NetworkReport:
    """Train one network on both sides from the same weights, mini-batches and masks, in float64.

    The network is 20-32-32-5, ReLU, with batch normalisation, dropout 0.2 and weight decay 1e-3 in
    the loss; the data are random. ``optimizer`` is the name of one of this project's, such as
    "Adam" or "book.Adam", taken with its defaults.
    """
    mine, theirs = network_sides(optimizer, seed, device)
    return compare_networks(mine, theirs, lockstep_batches(iterations, seed))


def network_rows(
    optimizers: Sequence[str], iterations: int = 200, device: str = "cpu", seed: int = 0
) -> Iterator[NetworkReport]:
    """A report for each of these optimizers, one at a time, on the same network and data."""
    for optimizer in optimizers:
        yield check_network(optimizer, iterations=iterations, seed=seed, device=device)


def network_sides(
    optimizer: str, seed: int = 0, device: str = "cpu"
) -> tuple[NumpyNetwork, TorchNetwork]:
    """The network of ``check_network`` on both sides.

    Biases before a normalisation are not trained: their gradient is zero but for rounding, and
    adaptive optimizers divide that by its own size.
    """
    chosen = Configuration(BY_NAME[optimizer], {})
    network = lockstep_network(seed)
    inert = {f"b{i}" for i in range(1, network.depth) if f"BatchNorm{i}" in network.layers}
    trained = [name for name in network.params if name not in inert]
    twin = Twin(network, torch.Generator(device).manual_seed(seed), device)
    return (
        NumpyNetwork(network, NumpyGroups((chosen.reference(), trained))),
        TorchNetwork(twin, chosen.ours([twin.parameters_by_name[name] for name in trained])),
    )


def lockstep_network(seed: int = 0) -> MultiLayerNet:
    """NumPy's network of ``check_network``."""
    masks = Generator(seed)
    return MultiLayerNet(
        20,
        (32, 32),
        5,
        batchnorm=True,
        dropout=0.2,
        draw=lambda shape: masks.keep_mask(shape, 0.2),
        weight_decay=1e-3,
        rng=np.random.default_rng(seed),
    )


def lockstep_batches(iterations: int, seed: int = 0) -> Batches:
    """The mini-batches of ``check_network``: 16 random vectors with the labels of a linear map."""
    rng = np.random.default_rng(seed + 1)
    labels = rng.standard_normal((20, 5))
    for _ in range(iterations):
        x = rng.standard_normal((16, 20))
        yield x, (x @ labels).argmax(axis=1)


def compare_networks(mine: NumpyNetwork, theirs: TorchNetwork, batches: Batches) -> NetworkReport:
    """Train both on ``batches``. After each batch compare, in this order, every layer's output, the
    loss, the gradients from the last layer to the first, the running statistics, the parameters.

    Differences are relative to the largest value of the tensor.
    """
    first, largest = None, TensorDifference(0, "nothing", 0.0)
    loss_error, iteration = 0.0, 0
    for iteration, (x, t) in enumerate(batches, start=1):
        by_torch = torch_step(theirs, x, t)
        for kind, tensors in numpy_step(mine, x, t).items():
            for name, value in tensors.items():
                error = relative_error(value, by_torch[kind][name])
                difference = TensorDifference(iteration, f"{kind} {name}", error)
                if first is None and not error <= TOLERANCE:
                    first = difference
                largest = difference if is_larger(error, largest.error) else largest
                if kind == "loss" and is_larger(error, loss_error):
                    loss_error = error
    kind_of_optimizer = type(theirs.optimizer)
    return NetworkReport(
        optimizer_name(kind_of_optimizer),
        getattr(kind_of_optimizer, "dialect", "torch"),
        iteration,
        loss_error,
        first,
        largest,
    )


def is_larger(error: float, other: float) -> bool:
    """Whether an error is the larger one; none is larger than NaN."""
    return not (error <= other or np.isnan(other))


def numpy_step(side: NumpyNetwork, x: np.ndarray, t: np.ndarray) -> dict[str, Arrays]:
    loss = side.train(x, t)
    trained = [name for name in side.grads if name in side.optimizer.state]
    return {
        "output": dict(side.network.activations),
        "loss": {"": np.asarray(loss)},
        "gradient": {name: side.grads[name] for name in reversed(trained)},
        "statistic": side.statistics(),
        "parameter": side.params,
    }


def torch_step(side: TorchNetwork, x: np.ndarray, t: np.ndarray) -> dict[str, Arrays]:
    with outputs_of(side.twin) as outputs:
        loss = side.train(x, t)
    grads = {name: param.grad for name, param in side.params.items()}
    return {
        "output": outputs,
        "loss": {"": np.asarray(loss)},
        "gradient": {name: side.as_array(grad) for name, grad in grads.items() if grad is not None},
        "statistic": side.statistics(),
        "parameter": {name: tensors["param"] for name, tensors in side.tensors().items()},
    }


@contextmanager
def outputs_of(twin: Twin) -> Iterator[Arrays]:
    """A context in which the output of each layer is kept, by the layer's name."""
    outputs: Arrays = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: outputs.update({name: output.detach().cpu().numpy()})

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in twin.named_children()]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()
