"""What several reports say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..lab.results import SIDES, Claim, Decision, Results, Table, over_seeds
from ..lab.settings import Settings
from ..lab.words import Words, listed

DATASETS = {"mnist": "MNIST", "fashion": "Fashion-MNIST"}
NUMBERS = Words("The numbers", "数值")
SIDE = Words("side", "实现")
LOSS = Words("loss", "损失")
TRAIN = Words("training accuracy", "训练精度")
TEST = Words("test accuracy", "测试精度")
GAP = Words("gap", "差距")


def conditions(config: Settings, images: bool = True) -> Words:
    """From how many seeds, on which sides and, with ``images``, on which data an experiment ran."""
    seeds = "1 seed" if config.seeds == 1 else f"{config.seeds} seeds"
    names = [SIDES[name] for name in config.side_names]
    if len(names) == 2:
        by = Words(
            "by the NumPy side and the torch side with the same random numbers",
            "由 NumPy 和 torch 两种实现分别完成，两者使用相同的随机数",
        )
    else:
        by = Words(f"by the {names[0]} side", f"由 {names[0]} 实现完成")
    data = DATASETS[config.dataset]
    on = Words(f" on {data}", f"数据集为 {data}，") if images else Words("", "")
    return Words(
        f"All of it{on.en} in {config.dtype}, from {seeds}, {by.en}.",
        f"{on.zh}数据类型为 {config.dtype}，随机种子 {config.seeds} 个，{by.zh}。",
    )


def claim(
    results: Results,
    words: Words,
    rule: Words,
    decide: Callable[..., Decision],
    *arguments: Any,
) -> Claim:
    """A claim that each side decides by its own numbers: ``decide(results, side, *arguments)``."""
    sides = {side: decide(results, side, *arguments) for side in results.sides}
    return Claim(words, rule, sides)


def by_name(values: Mapping[Any, Any]) -> Words:
    """Each value, followed by its name; an array as mean and deviation over the seeds."""
    found = []
    for name, value in values.items():
        en, zh = name if isinstance(name, Words) else (name, name)
        said = value if isinstance(value, str) else over_seeds(value)
        found.append(Words(f"{said} ({en})", f"{said}（{zh}）"))
    return listed(found)


def table_of_numbers(
    results: Results,
    first: Words,
    variants: dict[str, str | Words],
    columns: Sequence[tuple[Words, Callable[[str, str], str]]],
) -> Table:
    """A row for each variant and side.

    ``variants`` has the label of each variant. A column has its name and a function of variant and
    side that gives the text of a cell.
    """
    return Table(
        NUMBERS,
        [first, SIDE, *(name for name, _ in columns)],
        [
            [label, SIDES[side], *(value(variant, side) for _, value in columns)]
            for variant, label in variants.items()
            for side in results.sides
        ],
    )


def measures_by_variant(
    results: Results,
    measure: Words,
    variants: Iterable[str | Words],
    rows: Sequence[tuple[Words, Callable[[str], Iterable[np.ndarray]]]],
) -> Table:
    """A row for each measure and side.

    ``rows`` has for each measure its name and a function from a side to the values of every
    variant.
    """
    return Table(
        NUMBERS,
        [measure, SIDE, *variants],
        [
            [name, SIDES[side], *map(over_seeds, values(side))]
            for name, values in rows
            for side in results.sides
        ],
    )


def mean_of(results: Results, name: str) -> Callable[[str, str], str]:
    """A column of ``table_of_numbers``: mean and deviation of one of the variant's numbers."""
    return lambda variant, side: over_seeds(results.numbers(variant, side, name))


def losses(results: Results, side: str, variants: Iterable[str]) -> list[np.ndarray]:
    """The final loss of each variant. It is infinite or NaN where the training diverged."""
    return [results.numbers(variant, side, "loss") for variant in variants]
