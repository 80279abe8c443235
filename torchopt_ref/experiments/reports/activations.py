"""What is said of signals through untrained layers."""

from __future__ import annotations

import numpy as np

from ..activations import FUNCTIONS, SCHEMES, Config, function_name
from ..lab.panels import initial_weights
from ..lab.results import SIDES, Claim, Decision, Results, Table, decision, over_seeds
from ..lab.words import Words, sentences, two_digits
from .common import SIDE, by_name, claim, conditions

TITLE = Words("Do gradients vanish?", "梯度会消失吗？")
WHY = Words(
    "A layer learns from what reaches it: activations on the way forward, gradients on the way "
    "back. The initial weights decide whether either fades before anything is learnt.",
    "每一层靠传到它那里的信号来学习：正向传播的激活值，反向传播的梯度。初始权重决定了这些信号会不"
    "会在学习开始之前就消失。",
)
TRAININGS: dict[str, Words] = {}
AGREEMENT = 1e-12
"""The bound for the difference of the sides' activations in float64, relative to a layer's
largest."""
NAMES = {scheme: initial_weights(scheme) for scheme in SCHEMES}


def tried(config: Config) -> Words:
    return sentences(
        [
            Words(
                f"{config.samples:,} standard normal inputs of 100 values pass through 5 layers of "
                "100 units without any training, with sigmoid, tanh or ReLU, from four kinds of "
                "initial weights: standard deviation 1, 0.01, Xavier's sqrt(1/n), He's sqrt(2/n). "
                "Back comes the gradient of the sum of layer 5's activations.",
                f"{config.samples:,} 个服从标准正态分布的 100 维输入，不经训练直接通过 5 层网络（"
                "每层 100 个神经元），激活函数为 sigmoid、tanh 或 ReLU，初始权重的标准差有四种：1"
                "；0.01；Xavier 的 sqrt(1/n)；He 的 sqrt(2/n)。再把第 5 层激活值之和的梯度反向传"
                "播回来。",
            ),
            conditions(config, images=False),
        ]
    )


def seen(results: Results, config: Config) -> Words:
    side = results.sides[-1]
    back = by_name(
        {
            s: c[:, 0] / c[:, -1]
            for s, c in by_scheme(results, side, "sigmoid", "gradient/norm").items()
        }
    )
    relu = by_name(
        {
            s: c[:, -1] / c[:, 0]
            for s, c in by_scheme(results, side, "relu", "activation/std").items()
        }
    )
    return Words(
        "From layer 5 back to layer 1 the gradient's norm changes, with sigmoid, by a factor of: "
        f"{back.en}. From layer 1 to layer 5 the spread of ReLU's activations changes by a factor "
        f"of: {relu.en}. In the histograms look at whether a layer's activations differ at all: "
        "gathered in one place, a hundred units express no more than one.",
        f"使用 sigmoid 时，从第 5 层回到第 1 层，梯度的范数变为原来的：{back.zh}（倍）。使用 ReLU "
        f"时，从第 1 层到第 5 层，激活值的标准差变为原来的：{relu.zh}（倍）。看直方图时，请注意同"
        "一层的激活值是否有差异：如果都集中在一处，一百个神经元的表现力就和一个差不多。",
    )


def claims(results: Results, config: Config) -> list[Claim]:
    """Whether the sides agree; then what is claimed of sigmoid, tanh and ReLU."""
    return sides_agree(results) + of_functions(results)


def sides_agree(results: Results) -> list[Claim]:
    found = [outcome["apart"] for outcome in results.outcomes.values() if "apart" in outcome]
    if not found:
        return []
    activations, gradients = (
        np.max([part[what] for part in found]) for what in ("activations", "gradients")
    )
    return [
        Claim(
            Words(
                "The activations of both sides agree in float64",
                "在 float64 下，两种实现的激活值一致",
            ),
            Words(
                f"No difference is above {AGREEMENT:.0e} of the largest activation of its layer.",
                f"所有差别都不超过所在层最大激活值的 {AGREEMENT:.0e}。",
            ),
            {
                "both": decision(
                    activations <= AGREEMENT,
                    Words(
                        f"Largest relative difference {activations:.1e} ({gradients:.1e} of the "
                        "gradients).",
                        f"最大相对差为 {activations:.1e}（梯度为 {gradients:.1e}）。",
                    ),
                    numbers=[activations],
                    least_seeds=1,
                )
            },
        )
    ]


def of_functions(results: Results) -> list[Claim]:
    every_layer = Words("In every seed and every layer: ", "在每个随机种子和每一层：")

    def rule(en: str, zh: str) -> Words:
        return Words(every_layer.en + en, every_layer.zh + zh)

    found = [
        (
            Words(
                "With std 1 sigmoid's activations gather at 0 and 1",
                "标准差为 1 时，sigmoid 的激活值集中在 0 和 1 附近",
            ),
            rule("more than half are within 0.1 of 0 or 1.", "超过一半与 0 或 1 相差不到 0.1。"),
            gathers_at_the_ends,
        ),
        (
            Words(
                "With std 1 sigmoid's gradients vanish on the way back",
                "标准差为 1 时，sigmoid 的梯度在反向传播中消失",
            ),
            Words(
                "In every seed the norm of the gradient falls below a tenth from layer 5 to 1.",
                "在每个随机种子下，从第 5 层到第 1 层，梯度的范数降到十分之一以下。",
            ),
            gradient_vanishes,
        ),
        (
            Words(
                "With std 0.01 sigmoid's activations gather at 0.5, which expresses little",
                "标准差为 0.01 时，sigmoid 的激活值集中在 0.5 附近，表现力受限",
            ),
            rule("more than 90 % are within 0.1 of 0.5.", "超过 90 % 与 0.5 相差不到 0.1。"),
            gathers_at_the_centre,
        ),
        (
            Words(
                "With Xavier's weights sigmoid's activations are spread in every layer",
                "使用 Xavier 初始值时，sigmoid 的激活值在每一层都有足够的广度",
            ),
            rule(
                "fewer than half are within 0.1 of 0 or 1, fewer than 90 % within 0.1 of 0.5.",
                "与 0 或 1 相差不到 0.1 的少于一半，与 0.5 相差不到 0.1 的少于 90 %。",
            ),
            keeps_from_ends_and_centre,
        ),
        (
            Words(
                "With Xavier's weights tanh's activations are symmetric about 0, sigmoid's are not",
                "使用 Xavier 初始值时，tanh 的激活值关于 0 对称，sigmoid 则不然",
            ),
            rule(
                "the mean is off 0 by less than 0.1 standard deviations with tanh, by more than 1 "
                "with sigmoid.",
                "tanh 的平均值偏离 0 不到 0.1 个标准差，sigmoid 则超过 1 个。",
            ),
            is_symmetric,
        ),
        (
            Words(
                "With He's weights the spread of ReLU's activations stays level",
                "使用 He 初始值时，ReLU 激活值的广度在各层保持不变",
            ),
            Words(
                "In every seed the standard deviation changes by a factor between 0.5 and 2 from "
                "layer 1 to 5.",
                "在每个随机种子下，从第 1 层到第 5 层，标准差变为原来的 0.5 到 2 倍之间。",
            ),
            stays_level,
        ),
        (
            Words(
                "With std 0.01 and with Xavier's weights the spread of ReLU's activations fades",
                "标准差为 0.01 以及使用 Xavier 初始值时，ReLU 激活值的广度逐层减小",
            ),
            Words(
                "In every seed the standard deviation falls below half from layer 1 to 5.",
                "在每个随机种子下，从第 1 层到第 5 层，标准差降到一半以下。",
            ),
            fades,
        ),
    ]
    return [claim(results, words, rule, decide) for words, rule, decide in found]


def gathers_at_the_ends(results: Results, side: str) -> Decision:
    ends = results.curve("sigmoid-std=1", side, "activation/saturated")
    return decision(
        (ends > 0.5).all(axis=1),
        Words(
            f"Within 0.1 of 0 or 1 are, layer by layer, {each(ends)} of them (if evenly spread: "
            "0.2).",
            f"与 0 或 1 相差不到 0.1 的比例，各层依次为 {each(ends)}（均匀分布时为 0.2）。",
        ),
        numbers=[ends],
    )


def gradient_vanishes(results: Results, side: str) -> Decision:
    back = by_scheme(results, side, "sigmoid", "gradient/norm")
    factor = {s: curve[:, 0] / curve[:, -1] for s, curve in back.items()}
    mine = factor.pop(NAMES["std=1"])
    one, others = over_seeds(mine), by_name(factor)
    return decision(
        mine < 0.1,
        Words(
            f"The norm of the gradient changes by a factor of {one} (others: {others.en}).",
            f"梯度的范数变为原来的 {one} 倍（其他初始值：{others.zh}）。",
        ),
        numbers=[mine],
    )


def gathers_at_the_centre(results: Results, side: str) -> Decision:
    center = results.curve("sigmoid-std=0.01", side, "activation/center")
    differ = over_seeds(
        results.curve("sigmoid-std=0.01", side, "activation/std_over_inputs")[:, -1]
    )
    return decision(
        (center > 0.9).all(axis=1),
        Words(
            f"Within 0.1 of 0.5 are, layer by layer, {each(center)} of them; over the inputs a "
            f"unit of layer 5 has a standard deviation of {differ}.",
            f"与 0.5 相差不到 0.1 的比例，各层依次为 {each(center)}；第 5 层的一个神经元对不同输入"
            f"的标准差只有 {differ}。",
        ),
        numbers=[center],
    )


def keeps_from_ends_and_centre(results: Results, side: str) -> Decision:
    ends, center, over_inputs = (
        results.curve("sigmoid-Xavier", side, f"activation/{what}")
        for what in ("saturated", "center", "std_over_inputs")
    )
    differ = over_seeds(over_inputs[:, -1])
    return decision(
        (ends < 0.5).all(axis=1) & (center < 0.9).all(axis=1),
        Words(
            f"Within 0.1 of 0 or 1 are {each(ends)}, within 0.1 of 0.5 {each(center)} of them, "
            f"layer by layer. That counts how units differ; over the inputs a unit of layer 5 has "
            f"a standard deviation of {differ}.",
            f"各层中与 0 或 1 相差不到 0.1 的比例依次为 {each(ends)}，与 0.5 相差不到 0.1 的为 "
            f"{each(center)}。这里统计的是神经元之间的差异；第 5 层的一个神经元对不同输入的标准差"
            f"为 {differ}。",
        ),
        numbers=[ends, center],
    )


def is_symmetric(results: Results, side: str) -> Decision:
    mean, std = (
        {f: results.curve(f"{f}-Xavier", side, f"activation/{what}") for f in ("tanh", "sigmoid")}
        for what in ("mean", "std")
    )
    tanh, sigmoid = (np.abs(mean[function]) / std[function] for function in mean)
    return decision(
        (tanh < 0.1).all(axis=1) & (sigmoid > 1).all(axis=1),
        Words(
            f"The mean is off 0 by {each(tanh)} standard deviations with tanh, by {each(sigmoid)} "
            "with sigmoid, layer by layer.",
            f"平均值偏离 0 的程度（以标准差计），各层依次为：tanh {each(tanh)}；sigmoid "
            f"{each(sigmoid)}。",
        ),
        numbers=[tanh, sigmoid],
    )


def stays_level(results: Results, side: str) -> Decision:
    curve = results.curve("relu-He", side, "activation/std")
    factor = curve[:, -1] / curve[:, 0]
    return decision(
        (factor > 0.5) & (factor < 2),
        Words(
            f"The standard deviation changes by a factor of {over_seeds(factor)}.",
            f"标准差变为原来的 {over_seeds(factor)} 倍。",
        ),
        numbers=[factor],
    )


def fades(results: Results, side: str) -> Decision:
    factors = {
        s: curve[:, -1] / curve[:, 0]
        for s, curve in by_scheme(results, side, "relu", "activation/std").items()
        if s in (NAMES["std=0.01"], NAMES["Xavier"])
    }
    told = by_name(factors)
    return decision(
        np.all([factor < 0.5 for factor in factors.values()], axis=0),
        Words(
            f"The standard deviation changes by a factor of: {told.en}.",
            f"标准差变为原来的：{told.zh}（倍）。",
        ),
        numbers=factors.values(),
    )


def by_scheme(results: Results, side: str, function: str, tag: str) -> dict[Words, np.ndarray]:
    """Values (seeds, layers) for each kind of initial weights."""
    return {NAMES[s]: results.curve(f"{function}-{s}", side, tag) for s in SCHEMES}


def each(curve: np.ndarray) -> str:
    """The value of each layer, the mean over the seeds."""
    return ", ".join(map(two_digits, curve.mean(axis=0)))


def tables(results: Results, config: Config) -> list[Table]:
    start: list[str | Words] = [Words("activation", "激活函数"), Words("weights", "初始权重"), SIDE]
    rows: list[tuple[list[str | Words], str, str]] = [
        ([function_name(function), NAMES[scheme], SIDES[side]], f"{function}-{scheme}", side)
        for function in FUNCTIONS
        for scheme in SCHEMES
        for side in results.sides
    ]

    def mean(variant: str, side: str, what: str) -> float:
        return float(results.numbers(variant, side, f"activation/{what}").mean())

    return [
        Table(
            Words("Standard deviation of the activations, by layer", "激活值的标准差（按层）"),
            [*start, *map(str, range(1, 6))],
            [
                [*first, *map(two_digits, curve.mean(axis=0))]
                for first, variant, side in rows
                for curve in [results.curve(variant, side, "activation/std")]
            ],
        ),
        Table(
            Words(
                "Activations of layer 5, and the gradient that reaches layer 1",
                "第 5 层的激活值，以及传到第 1 层的梯度",
            ),
            [
                *start,
                Words("mean", "平均值"),
                Words("saturated", "饱和"),
                Words("dead units", "失活的神经元"),
                Words("gradient's norm", "梯度的范数"),
            ],
            [
                [
                    *first,
                    two_digits(mean(variant, side, "mean")),
                    f"{mean(variant, side, 'saturated'):.0%}",
                    f"{mean(variant, side, 'dead_units'):.0%}",
                    over_seeds(results.numbers(variant, side, "gradient/norm")),
                ]
                for first, variant, side in rows
            ],
        ),
    ]
