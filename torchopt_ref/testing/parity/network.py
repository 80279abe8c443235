"""A whole network in lockstep: both engines train it, and every tensor on the way is compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import torch

import numpy_ref.optimizers as reference
from numpy_ref.gradient import relative_error
from numpy_ref.network import MultiLayerNet
from numpy_ref.random import Generator
from torchopt_ref import optim
from torchopt_ref.sides import BY_NAME, Configuration, Twin, as_array, optimizer_name

TOLERANCE = 1e-9
"""The largest relative difference that a float64 tensor may show."""


@dataclass(frozen=True)
class Difference:
    """A tensor that differed: ``error`` is relative to the largest value of its kind."""

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
    first: Difference | None
    largest: Difference

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
    """Train one network by both engines from the same weights, mini-batches and masks, in float64.

    The network is 20-32-32-5, ReLU, with batch normalisation, dropout 0.2 and weight decay 1e-3 in
    the loss; the data are random. ``optimizer`` is the name of one of this project's, such as
    "Adam" or "book.Adam", taken with its defaults.
    """
    chosen = Configuration(BY_NAME[optimizer], {})
    network = lockstep_network(seed)
    twin = Twin(network, torch.Generator(device).manual_seed(seed), device)
    return compare_networks(
        network,
        chosen.reference(),
        twin,
        chosen.ours(twin.parameters()),
        lockstep_batches(iterations, seed),
    )


def network_rows(
    optimizers: Sequence[str], iterations: int = 200, device: str = "cpu", seed: int = 0
) -> Iterator[NetworkReport]:
    """``check_network`` for each optimizer."""
    for optimizer in optimizers:
        yield check_network(optimizer, iterations=iterations, seed=seed, device=device)


def lockstep_network(seed: int = 0) -> MultiLayerNet:
    """The reference side of ``check_network``."""
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


def compare_networks(
    network: MultiLayerNet,
    optimizer: reference.Optimizer,
    twin: Twin,
    twin_optimizer: optim.Optimizer,
    batches: Batches,
) -> NetworkReport:
    """Train both on ``batches``; after each compare, in this order, every layer's output, the loss,
    the gradients from the last layer to the first, the running statistics, the parameters.

    Differences are relative to the largest value of the tensor. Biases before a normalisation are
    left as they are: their gradient is zero but for rounding, and adaptive optimizers divide that
    by its own size.
    """
    inert = {f"b{i}" for i in range(1, network.depth) if f"BatchNorm{i}" in network.layers}
    first, largest = None, Difference(0, "nothing", 0.0)
    loss_error, iteration = 0.0, 0
    for iteration, (x, t) in enumerate(batches, start=1):
        theirs = torch_step(twin, twin_optimizer, x, t, inert)
        mine = numpy_step(network, optimizer, x, t, inert)
        for kind, tensors in mine.items():
            for name, value in tensors.items():
                error = relative_error(value, theirs[kind][name])
                difference = Difference(iteration, f"{kind} {name}", error)
                if first is None and not error <= TOLERANCE:
                    first = difference
                largest = largest if error <= largest.error else difference
                loss_error = max(loss_error, error) if kind == "loss" else loss_error
    name, dialect = optimizer_name(type(twin_optimizer)), twin_optimizer.dialect
    return NetworkReport(name, dialect, iteration, loss_error, first, largest)


def numpy_step(
    network: MultiLayerNet,
    optimizer: reference.Optimizer,
    x: np.ndarray,
    t: np.ndarray,
    inert: set[str],
) -> dict[str, dict[str, np.ndarray]]:
    loss, grads = network.gradient(x, t)
    grads = {name: grads[name] for name in grads if name not in inert}
    optimizer.update(network.params, grads)
    running = {
        f"{name}.{statistic}": getattr(layer, statistic)
        for name, layer in network.layers.items()
        if name.startswith("BatchNorm")
        for statistic in ("running_mean", "running_var")
    }
    return {
        "output": dict(network.activations),
        "loss": {"": np.asarray(loss)},
        "gradient": dict(reversed(grads.items())),
        "statistic": running,
        "parameter": network.params,
    }


def torch_step(
    twin: Twin,
    optimizer: torch.optim.Optimizer,
    x: np.ndarray,
    t: np.ndarray,
    inert: set[str],
) -> dict[str, dict[str, np.ndarray]]:
    device = next(twin.parameters()).device
    outputs: dict[str, np.ndarray] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: outputs.update({name: output.detach().cpu().numpy()})

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in twin.named_children()]
    optimizer.zero_grad()
    loss = twin.loss(torch.from_numpy(x).to(device), torch.from_numpy(t).to(device))
    loss.backward()
    for hook in hooks:
        hook.remove()
    parameters = twin.parameters_by_name
    for name in inert:
        parameters[name].grad = None
    optimizer.step()
    return {
        "output": outputs,
        "loss": {"": np.asarray(loss.item())},
        "gradient": {name: as_array(parameters[name].grad) for name in parameters.keys() - inert},
        "statistic": {name: buffer.cpu().numpy() for name, buffer in twin.named_buffers()},
        "parameter": {name: as_array(param) for name, param in parameters.items()},
    }
