"""The options of a search, and the plan and the training that follow from them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torchopt_ref.errors import UserError, unknown

from ..lab.settings import Settings
from .objective import TrialRecipe
from .plan import PARAMS, SearchPlan


@dataclass
class Config(Settings):
    """Search lr and weight decay of 784-100x6-10 with ReLU under SGD, on few training images.

    A fifth of the images validates. The first round samples the given ranges, log-uniformly at
    random or by TPE; each later one samples in the ranges of the best quarter so far. The best
    setting is trained from the initial weights of each seed and tested; before that no test file is
    opened. A search that was killed goes on where it stopped. With random sampling and no pruning,
    a seed gives the same result with any number of workers; otherwise only with one worker.
    """

    sides: str = "torch"
    """the search is run by torch alone"""
    read_at_start: ClassVar[tuple[str, ...]] = ("train",)
    trials: int = 50
    """trials in the first round; each later round has half as many"""
    rounds: int = 3
    """rounds: a random one, then those that narrow the ranges"""
    sampler: str = "random"
    """random or tpe"""
    pruner: str = "none"
    """none, or median: stop a trial that is worse than the median of those before it"""
    workers: int = 0
    """processes that share the study, each with one thread; 0: as --jobs says"""
    storage: str = ""
    """the study's journal file or database URL, for several machines; empty: in the folder"""
    samples: int = 500
    """images of the training set that are used, validation included"""
    epochs: int = 50
    """passes over the images in each trial"""
    batch_size: int = 100
    """images in a mini-batch"""
    lr_low: float = 1e-6
    """smallest learning rate of the first round"""
    lr_high: float = 1e-2
    """largest learning rate of the first round"""
    weight_decay_low: float = 1e-8
    """smallest weight decay of the first round"""
    weight_decay_high: float = 1e-4
    """largest weight decay of the first round"""

    def check(self) -> None:
        super().check()
        if "torch" not in self.side_names:
            raise UserError("the search is run by torch alone: use --sides torch")
        if self.sampler not in ("random", "tpe"):
            raise unknown("sampler", self.sampler, ("random", "tpe"))
        if self.pruner not in ("none", "median"):
            raise unknown("pruner", self.pruner, ("none", "median"))
        least = {"trials": 2, "rounds": 1, "workers": 0, "samples": 5, "epochs": 1, "batch_size": 1}
        for option, bound in least.items():
            if getattr(self, option) < bound:
                raise UserError(f"--{option.replace('_', '-')} must be at least {bound}")
        for name, (low, high) in self.ranges.items():
            if not 0 < low <= high < math.inf:
                option = name.replace("_", "-")
                raise UserError(f"--{option}-low must be above 0 and at most --{option}-high")

    def as_json(self) -> dict[str, Any]:
        options = super().as_json()
        return {key: options[key] for key in options if key not in ("workers", "storage")}

    def as_run(self) -> Config:
        """With ``quick`` one seed, a fifth of the trials, and two rounds at most."""
        if not self.quick:
            return self
        return replace(self, seeds=1, trials=max(2, self.trials // 5), rounds=min(2, self.rounds))

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        return {
            name: (getattr(self, f"{name}_low"), getattr(self, f"{name}_high")) for name in PARAMS
        }

    def plan(self, storage: str, name: str) -> SearchPlan:
        return SearchPlan(
            storage=storage,
            name=name,
            seed=self.seed,
            rounds=(self.trials, *[self.trials // 2] * (self.rounds - 1)),
            ranges=self.ranges,
            sampler=self.sampler,
            pruner=self.pruner,
            warmup=self.epochs // 5,
        )

    def recipe(self, seed: int) -> TrialRecipe:
        return TrialRecipe((100,) * 6, self.epochs, self.batch_size, seed, self.dtype, self.device)
