"""The options that every experiment has."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from torchopt_ref import data
from torchopt_ref.devices import check_device
from torchopt_ref.errors import LARGEST, UserError, check_path, check_whole, unknown

from .processes import cores
from .words import LANGUAGES

AnySettings = TypeVar("AnySettings", bound="Settings")

WITHOUT_EFFECT = ("out", "jobs", "force", "data_root", "download", "monitor", "lang")
"""The options that do not change what an experiment computes."""
MAY_BE_ZERO = ("seed", "jobs", "workers")
MOST = {"seed": 2**62, "jobs": 1024, "workers": 1024}
"""The largest values of options: the seeds after ``seed`` are used, too; processes cost memory."""


@dataclass
class Settings:
    """The options that all experiments have."""

    seeds: int = 3
    """how often everything is repeated, each time with other weights and mini-batches"""
    seed: int = 0
    """the first seed"""
    quick: bool = False
    """one seed and a fraction of the work: a trial, which decides nothing"""
    dtype: str = "float32"
    """float32 or float64"""
    device: str = "cpu"
    """of the torch side: cpu, cuda"""
    sides: str = "numpy,torch"
    """which sides run: numpy, torch or both"""
    dataset: str = "mnist"
    """mnist or fashion"""
    data_root: Path | None = None
    """folder of the full set in torchvision's layout, instead of the embedded subset"""
    download: bool = False
    """fetch the full set into --data-root"""
    jobs: int = 0
    """processes that work at once, each with one thread; 0: one for each core"""
    force: bool = False
    """run again what is finished"""
    monitor: bool = False
    """watch the first seed's trainings by the torch side, and say what is wrong with them"""
    lang: str = "en"
    """the language of what is printed: en (English) or zh (Chinese)"""
    out: Path = Path("runs")
    """where the experiment's folder is made"""

    read_at_start: ClassVar[tuple[str, ...]] = ("train", "test")
    """The splits of the data set that are read before any work, to find a missing file early."""

    @property
    def side_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.sides.split(",")))

    @property
    def all_seeds(self) -> range:
        return range(self.seed, self.seed + self.seeds)

    def as_run(self: AnySettings) -> AnySettings:
        """The options that really run: with ``quick`` one seed, and a tenth of the training."""
        if not self.quick:
            return self
        fewer = {
            name: -(-getattr(self, name) // 10)
            for name in ("iterations", "epochs")
            if hasattr(self, name)
        }
        return replace(self, seeds=1, **fewer)

    @property
    def processes(self) -> int:
        return self.jobs or cores()

    def check(self) -> None:
        """Raise ``UserError`` for a value that cannot be run."""
        if self.dtype not in ("float32", "float64"):
            raise unknown("dtype", self.dtype, ("float32", "float64"))
        if self.lang not in LANGUAGES:
            raise unknown("language", self.lang, LANGUAGES)
        for side in self.side_names:
            if side not in ("numpy", "torch"):
                raise unknown("side", side, ("numpy", "torch"))
        if self.monitor and "torch" not in self.side_names:
            raise UserError("--monitor watches the torch side: use --sides numpy,torch")
        for name, value in vars(self).items():
            if type(value) is int:
                least = 0 if name in MAY_BE_ZERO else 1
                check_whole(f"--{name.replace('_', '-')}", value, least, MOST.get(name, LARGEST))
        for path in (self.out, self.data_root):
            check_path(path)
        check_device(self.device)
        # With --download this also fetches the files, before several processes read them.
        images = {name: len(self.split(name)[1]) for name in self.read_at_start}
        if getattr(self, "batch_size", 1) > images["train"]:
            raise UserError(f"--batch-size: the training set has {images['train']} images")

    def data(self) -> data.Dataset:
        """Both splits, which the trainings of a process share: nothing writes to them."""
        return loaded(self.dataset, self.data_root, self.download, self.dtype)

    def split(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels of the split ``"train"`` or ``"test"``; the other is not opened."""
        return data.load_split(
            name, self.dataset, self.data_root, download=self.download, dtype=self.dtype
        )

    def as_json(self) -> dict[str, Any]:
        """The options that decide what is computed, as plain values for ``results.json``."""
        return {name: value for name, value in asdict(self).items() if name not in WITHOUT_EFFECT}


@functools.lru_cache(maxsize=1)
def loaded(dataset: str, root: Path | None, download: bool, dtype: str) -> data.Dataset:
    return data.load(dataset, root, download=download, dtype=dtype)
