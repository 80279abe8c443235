"""Histories made of curves, without a training."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from torchopt_ref.tensorboard import History

FACTS = "what is trained"
CLASSIFIER = {"classes/number": 10, "classes/largest share of labels": 0.1}
ENTROPY = "cross-entropy of the output/mean"


class Line(NamedTuple):
    """What is varied; the history that it makes; a value with which it is healthy, one with which
    it is not; and of the finding a part of its evidence, its layers and its step."""

    varied: str
    made: Callable[[Any], History]
    healthy: Any
    broken: Any
    says: str = ""
    layers: tuple[str, ...] = ()
    step: int = 0


def run(curves, records=12, every=10, start=1, logged=(), **facts):
    """A History of the curves by tag: a number is the value of each record; a list may end early,
    and None is a record without a point. The records are at step ``start`` and ``every`` later."""
    history = History()
    for i in range(records):
        at = {
            tag: curve[i] if isinstance(curve, list) else curve
            for tag, curve in curves.items()
            if not isinstance(curve, list) or i < len(curve)
        }
        history.add(
            start + every * i, {tag: value for tag, value in at.items() if value is not None}
        )
    history.logged = dict.fromkeys(logged)
    if facts:
        history.texts[FACTS] = json.dumps(
            {name.replace("_", " "): it for name, it in facts.items()}
        )
    return history


def late(value, before=1.0, records=12):
    """A curve that is ``before``, and in its last quarter ``value``."""
    return [before] * (3 * records // 4) + [value] * (records - 3 * records // 4)


def line(first, last, records=12):
    return [first + (last - first) * i / (records - 1) for i in range(records)]


def growth(times, records=12):
    """From 1 to so many times that, by the same factor from record to record."""
    return [times ** (i / (records - 1)) for i in range(records)]


def at(place, value, usual, records=12):
    """A curve that is ``usual`` but in one record."""
    return [value if i == place else usual for i in range(records)]
