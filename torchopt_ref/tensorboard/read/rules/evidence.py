"""What the rules compute from a run's history, and the findings that they return."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..history import ENTROPY, History

LATER = 8
"""Most rules that judge whether a run learns need this many records; ``falls`` needs six."""

REWARDS = ("reward", "return", "score")
"""Parts of the names of curves that should rise."""

AGENTS = ("policy", "actor", "critic", "value", "advantage", "episode")
"""Parts of the names of curves that tell that an agent is trained."""

NAMED = 3
"""A finding names at most this many layers."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: its ``kind``, the ``layers`` (none if it is about them all), the
    ``evidence`` with its numbers, what to ``try_this``, the ``curves`` that prove it, by their
    tags, the best first, and the ``step`` of the evidence, 0 if it is about the whole run."""

    kind: str
    layers: tuple[str, ...]
    evidence: str
    try_this: str
    curves: tuple[str, ...] = ()
    step: int = 0

    @property
    def where(self) -> str:
        """The layers as text that follows the kind."""
        return f": {', '.join(self.layers)}" if self.layers else ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Curve:
    """The finite points of a curve."""

    tag: str
    steps: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, history: History, tag: str) -> Curve:
        steps, values = history.steps(tag), history.values(tag)
        finite = np.isfinite(values)
        return cls(tag, steps[finite], values[finite])

    def __len__(self) -> int:
        return len(self.values)

    @property
    def first(self) -> float:
        return float(self.values[0])

    @property
    def late(self) -> float:
        """The median of the last quarter."""
        return float(np.median(self.values[-max(len(self) // 4, 1) :]))

    def after(self, step: float) -> np.ndarray:
        """The values from ``step`` on."""
        return self.values[self.steps >= step]

    @property
    def noise(self) -> float:
        """One and a half times the median distance of a point from the next one."""
        return 1.5 * float(np.median(np.abs(np.diff(self.values)))) if len(self) > 1 else 0.0

    def thirds(self) -> tuple[float, float, float]:
        """The medians of its first, second and last third."""
        first, second, third = (float(np.median(part)) for part in np.array_split(self.values, 3))
        return first, second, third

    @property
    def second_half(self) -> np.ndarray:
        return self.after(self.steps[-1] / 2) if len(self) else self.values


def loss_of(history: History) -> Curve:
    return Curve.of(history, loss_tag(history) or "loss")


def loss_tag(history: History) -> str | None:
    """The curve of the loss, by the names that are usual for it."""
    if "loss" in history.curves:
        return "loss"
    return next((tag for tag in history.logged if {"loss", "train"} <= words(tag)), None)


def words(tag: str) -> set[str]:
    return set(re.split(r"[^a-z]+", tag.lower().replace("training", "train")))


def fallen(history: History) -> float | None:
    """How far the loss has fallen, as a fraction of its first value; negative if it rose, and 1 for
    an agent whose reward has risen. None if that cannot be said: there are fewer than three
    records, or an agent has logged no reward."""
    loss = loss_of(history)
    if len(loss) < 3:
        return None
    rewarded = is_rewarded(history)
    if rewarded is not None:
        return 1.0 if rewarded else None
    return (loss.first - loss.late) / max(abs(loss.first), 1e-12)


def falls(history: History) -> bool:
    """Whether the loss falls from each third of the run to the next, by more than 5 % in all."""
    loss = loss_of(history)
    if len(loss) < 6:
        return False
    first, second, third = loss.thirds()
    return first > second > third and first - third > 0.05 * abs(first)


def is_rewarded(history: History) -> bool | None:
    """Whether the rewards say that an agent learns, as its losses need not fall. True if a logged
    reward has risen, False if an agent logged none. None if the rewards have not risen, or it is no
    agent."""
    rewards = [Curve.of(history, tag) for tag in history.logged if has_word(tag, REWARDS)]
    if any(len(each) >= 3 and each.late > each.first + each.noise for each in rewards):
        return True
    return False if not rewards and any(has_word(tag, AGENTS) for tag in history.logged) else None


def has_word(tag: str, parts: Sequence[str]) -> bool:
    return any(part in tag.lower() for part in parts)


def rose(history: History) -> bool:
    """Whether the loss is above its first value by more than its variation from record to
    record."""
    loss = loss_of(history)
    if len(loss) < 3 or is_rewarded(history) is not None:
        return False
    if len(loss) < LATER and not 0 < 2 * loss.first < loss.late:
        return False
    last = loss.values[-max(len(loss) // 4, 1) :]
    return bool(np.min(last) > loss.first and loss.late > loss.first + 2 * loss.noise)


def is_classifier(history: History) -> bool:
    """Whether outputs and labels were logged."""
    return "classes/number" in history.curves


def is_guessing(history: History) -> bool:
    """Whether a classifier is, after 100 steps, no better than guessing by its cross-entropy, and
    no better than always saying the most frequent class by its accuracy."""
    entropy, right = Curve.of(history, f"{ENTROPY}/mean"), Curve.of(history, "accuracy")
    classes = history.values("classes/number")
    if len(entropy) < LATER or not len(classes) or history.last_step() < 100:
        return False
    most = Curve.of(history, "classes/largest share of labels").late
    knows = len(right) > 0 and right.late > most + 0.05
    return not knows and entropy.late > 0.97 * float(np.log(max(classes[-1], 2)))


def trained_from_the_start(history: History) -> list[tuple[str, str]]:
    """The layers whose weights were not 0 in the first record, with the tags of their
    ``update to weight``."""
    tags = history.layers("update to weight")
    first = min(
        (history.steps(tag)[0] for tag in history.layers("weight norm").values()), default=0
    )
    return [(name, tag) for name, tag in tags.items() if history.steps(tag)[0] == first]


def aligned(history: History, layers: Sequence[tuple[str, str]]) -> np.ndarray:
    """The layers' values, a row for each record; NaN where a layer has no finite point."""
    steps = history.steps(layers[0][1])
    table = np.full((len(steps), len(layers)), np.nan)
    for column, (_, tag) in enumerate(layers):
        place, values = np.searchsorted(steps, history.steps(tag)), history.values(tag)
        inside = (place < len(steps)) & np.isfinite(values)
        table[place[inside], column] = values[inside]
    # A row without any finite value would have no median: it becomes 0.
    return np.where(np.isnan(table).all(1, keepdims=True), 0.0, table)


def listed(names: Sequence[str]) -> str:
    """The first of them, and how many more."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
