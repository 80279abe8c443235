"""What is claimed of sigmoid, tanh and ReLU in untrained layers."""

from __future__ import annotations

import numpy as np

from ..activations import SCHEMES
from ..lab.digits import two_digits
from ..lab.panels import initial_weights
from ..lab.results import Claim, Finding, Results, finding, spread
from ..lab.words import Words
from .common import by_name, claim

NAMES = {scheme: initial_weights(scheme) for scheme in SCHEMES}


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
            is_spread,
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


def gathers_at_the_ends(results: Results, engine: str) -> Finding:
    ends = results.curve("sigmoid-std=1", engine, "activation/saturated")
    return finding(
        (ends > 0.5).all(axis=1),
        Words(
            f"Within 0.1 of 0 or 1 are, layer by layer, {each(ends)} of them (if evenly spread: "
            "0.2).",
            f"与 0 或 1 相差不到 0.1 的比例，各层依次为 {each(ends)}（均匀分布时为 0.2）。",
        ),
        numbers=[ends],
    )


def gradient_vanishes(results: Results, engine: str) -> Finding:
    back = curves(results, engine, "sigmoid", "gradient/norm")
    factor = {s: curve[:, 0] / curve[:, -1] for s, curve in back.items()}
    mine = factor.pop(NAMES["std=1"])
    one, others = spread(mine), by_name(factor)
    return finding(
        mine < 0.1,
        Words(
            f"The norm of the gradient changes by a factor of {one} (others: {others.en}).",
            f"梯度的范数变为原来的 {one} 倍（其他初始值：{others.zh}）。",
        ),
        numbers=[mine],
    )


def gathers_at_the_centre(results: Results, engine: str) -> Finding:
    center = results.curve("sigmoid-std=0.01", engine, "activation/center")
    differ = spread(results.curve("sigmoid-std=0.01", engine, "activation/std_over_inputs")[:, -1])
    return finding(
        (center > 0.9).all(axis=1),
        Words(
            f"Within 0.1 of 0.5 are, layer by layer, {each(center)} of them; over the inputs a "
            f"unit of layer 5 has a standard deviation of {differ}.",
            f"与 0.5 相差不到 0.1 的比例，各层依次为 {each(center)}；第 5 层的一个神经元对不同输入"
            f"的标准差只有 {differ}。",
        ),
        numbers=[center],
    )


def is_spread(results: Results, engine: str) -> Finding:
    ends, center, over_inputs = (
        results.curve("sigmoid-Xavier", engine, f"activation/{what}")
        for what in ("saturated", "center", "std_over_inputs")
    )
    differ = spread(over_inputs[:, -1])
    return finding(
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


def is_symmetric(results: Results, engine: str) -> Finding:
    mean, std = (
        {f: results.curve(f"{f}-Xavier", engine, f"activation/{what}") for f in ("tanh", "sigmoid")}
        for what in ("mean", "std")
    )
    tanh, sigmoid = (np.abs(mean[function]) / std[function] for function in mean)
    return finding(
        (tanh < 0.1).all(axis=1) & (sigmoid > 1).all(axis=1),
        Words(
            f"The mean is off 0 by {each(tanh)} standard deviations with tanh, by {each(sigmoid)} "
            "with sigmoid, layer by layer.",
            f"平均值偏离 0 的程度（以标准差计），各层依次为：tanh {each(tanh)}；sigmoid "
            f"{each(sigmoid)}。",
        ),
        numbers=[tanh, sigmoid],
    )


def stays_level(results: Results, engine: str) -> Finding:
    curve = results.curve("relu-He", engine, "activation/std")
    factor = curve[:, -1] / curve[:, 0]
    return finding(
        (factor > 0.5) & (factor < 2),
        Words(
            f"The standard deviation changes by a factor of {spread(factor)}.",
            f"标准差变为原来的 {spread(factor)} 倍。",
        ),
        numbers=[factor],
    )


def fades(results: Results, engine: str) -> Finding:
    factors = {
        s: curve[:, -1] / curve[:, 0]
        for s, curve in curves(results, engine, "relu", "activation/std").items()
        if s in (NAMES["std=0.01"], NAMES["Xavier"])
    }
    told = by_name(factors)
    return finding(
        np.all([factor < 0.5 for factor in factors.values()], axis=0),
        Words(
            f"The standard deviation changes by a factor of: {told.en}.",
            f"标准差变为原来的：{told.zh}（倍）。",
        ),
        numbers=factors.values(),
    )


def curves(results: Results, engine: str, function: str, tag: str) -> dict[Words, np.ndarray]:
    """Values (seeds, layers) for each kind of initial weights."""
    return {NAMES[s]: results.curve(f"{function}-{s}", engine, tag) for s in SCHEMES}


def each(curve: np.ndarray) -> str:
    """The value of each layer, the mean over the seeds."""
    return ", ".join(map(two_digits, curve.mean(axis=0)))
