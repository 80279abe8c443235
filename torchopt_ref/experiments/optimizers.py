"""SGD, Momentum, AdaGrad, RMSprop and Adam: paths in a valley, and training on MNIST."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import numpy_ref.optimizers as reference
from numpy_ref.network import MultiLayerNet
from torchopt_ref import data, optim
from torchopt_ref.devices import check_device
from torchopt_ref.errors import UserError, unknown
from torchopt_ref.tensorboard import RunFolder
from torchopt_ref.testing import ulp_text
from torchopt_ref.testing.twin import Twin

from .figures import loss_curves
from .networks import Engine, NumpyEngine, TorchEngine, one_thread
from .training import train
from .valley import run_valley

NAMES = ("SGD", "Momentum", "AdaGrad", "RMSprop", "Adam")
HIDDEN_SIZES = (100, 100, 100, 100)

LEGEND = (
    "valley: f after 30 steps; loss: mean of the last 100 iterations; test: accuracy; apart, ever: "
    "largest difference of the engines' losses in the first 100 iterations, and in all. Training "
    "amplifies a rounding error without limit; --lockstep judges each step by itself: largest "
    "difference of any weight after any step, in ULP and absolute."
)


@dataclass
class Config:
    """SGD, Momentum, AdaGrad, RMSprop and Adam with the textbook's hyper-parameters.

    Part 1: 30 steps down f(x, y) = x^2/20 + y^2. Part 2: a network 784-100-100-100-100-10 on
    MNIST, by the NumPy engine and the torch engine from the same weights and mini-batches.
    """

    iterations: int = 2000
    """training steps of each optimizer"""
    batch_size: int = 128
    """images in a mini-batch"""
    seed: int = 0
    """of initial weights and mini-batches"""
    dtype: str = "float32"
    """float32 or float64"""
    device: str = "cpu"
    """of the torch engine: cpu, cuda"""
    engines: str = "numpy,torch"
    """which engines run: numpy, torch or both"""
    lockstep: bool = False
    """give the NumPy engine torch's weights before every step, and measure each step in ULP"""
    dataset: str = "mnist"
    """mnist or fashion"""
    data_root: Path | None = None
    """folder of the full set in torchvision's layout, instead of the embedded subset"""
    download: bool = False
    """fetch the full set into --data-root"""
    out: Path = Path("runs/optimizers")
    """where the run's folder is made"""

    @property
    def engine_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.engines.split(",")))

    def check(self) -> None:
        """Raise ``UserError`` for a value that cannot be run."""
        if self.dtype not in ("float32", "float64"):
            raise unknown("dtype", self.dtype, ("float32", "float64"))
        for engine in self.engine_names:
            if engine not in ("numpy", "torch"):
                raise unknown("engine", engine, ("numpy", "torch"))
        if self.lockstep and set(self.engine_names) != {"numpy", "torch"}:
            raise UserError("--lockstep compares two engines: use --engines numpy,torch")
        for option in ("iterations", "batch_size"):
            if getattr(self, option) < 1:
                raise UserError(f"--{option.replace('_', '-')} must be at least 1")
        if self.seed < 0:
            raise UserError("--seed must be at least 0")
        check_device(self.device)


def run(config: Config) -> Path:
    """Run both parts; the folder with event files, figures and ``results.json``."""
    config.check()
    dataset = data.load(
        config.dataset, config.data_root, download=config.download, dtype=config.dtype
    )
    if config.batch_size > len(dataset.train_images):
        raise UserError(f"--batch-size: the training set has {len(dataset.train_images)} images")
    with RunFolder(config.out) as folder, one_thread():
        print(f"Writing to {folder.path}", file=sys.stderr)
        valley = run_valley(folder, config.engine_names)
        curves, training = {}, {}
        for name in NAMES:
            curves[name], training[name] = train_one(name, config, dataset, folder)
        title = f"{config.dataset}, {config.engine_names[-1]} engine"
        folder.add_figure("training_loss", loss_curves(curves, title))
        settings = {key: str(v) if isinstance(v, Path) else v for key, v in asdict(config).items()}
        folder.write_json(
            "results.json", {"config": settings, "valley": valley, "training": training}
        )
    Console().print(table(training, valley), LEGEND, sep="\n\n", highlight=False)
    return folder.path


def train_one(
    name: str, config: Config, dataset: data.Dataset, folder: RunFolder
) -> tuple[list[float], dict[str, Any]]:
    """Train with one optimizer by the chosen engines; the last engine's losses, a summary."""
    rng = np.random.default_rng(config.seed)
    engines = make_engines(name, config, rng)
    record = train(
        name, engines, dataset, folder, rng, config.iterations, config.batch_size, config.lockstep
    )
    return record.losses[config.engine_names[-1]], record.summary()


def make_engines(name: str, config: Config, rng: np.random.Generator) -> dict[str, Engine]:
    """The chosen engines with one optimizer, all from the same weights drawn from ``rng``."""
    network = MultiLayerNet(784, HIDDEN_SIZES, 10, weight_init="he", rng=rng, dtype=config.dtype)
    engines: dict[str, Engine] = {}
    if "torch" in config.engine_names:
        cls = getattr(optim, name)
        twin = Twin(network, device=config.device)
        engines["torch"] = TorchEngine(twin, lambda twin: cls(twin.parameters(), convention="book"))
    if "numpy" in config.engine_names:
        optimizer = getattr(reference, name)(convention="book")
        engines["numpy"] = NumpyEngine(network, (optimizer, lambda name: True))
    return engines


def table(training: dict[str, Any], valley: dict[str, Any]) -> Table:
    """A row for each optimizer and engine; numbers that compare the engines stand in the first."""
    rows = Table(box=None, padding=(0, 1, 0, 0))
    lockstep = any(result["single_step"] for result in training.values())
    columns = ["optimizer", "valley", "engine", "loss", "test", "seconds", "apart", "ever"]
    for column in columns + ["step ULP", "step"] * lockstep:
        rows.add_column(column, no_wrap=True)
    for name, result in training.items():
        apart, step = result["loss_difference"], result["single_step"]
        shared = [f"{apart[key]:.0e}" for key in ("first_100", "all")] if apart else []
        shared += [ulp_text(step["max_ulp"]), f"{step['max_abs']:.0e}"] if step else []
        first = [name, f"{valley[name]['f']:.2g}"]
        for engine, loss in result["final_loss"].items():
            accuracy, seconds = result["test_accuracy"][engine], result["seconds"][engine]
            rows.add_row(
                *first, engine, f"{loss:.4f}", f"{accuracy:.4f}", f"{seconds:.1f}", *shared
            )
            first, shared = ["", ""], []
    return rows
