"""What is said of signals through untrained layers."""

from __future__ import annotations

import numpy as np

from ..activations import FUNCTIONS, SCHEMES, Config
from ..activations_figures import function_name
from ..lab.digits import two_digits
from ..lab.results import SIDES, Claim, Results, Table, finding, spread
from ..lab.words import Words, sentences
from .activations_claims import NAMES, curves, of_functions
from .common import SIDE, by_name, conditions

TITLE = Words("Do gradients vanish?", "梯度会消失吗？")
WHY = Words(
    "A layer learns from what reaches it: activations on the way forward, gradients on the way "
    "back. The initial weights decide whether either fades before anything is learnt.",
    "每一层靠传到它那里的信号来学习：正向传播的激活值，反向传播的梯度。初始权重决定了这些信号会不"
    "会在学习开始之前就消失。",
)
TRAININGS: dict[str, Words] = {}
AGREEMENT = 1e-12
"""The largest difference of the sides' activations in float64, relative to a layer's largest."""


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
    engine = results.engines[-1]
    back = by_name(
        {
            s: c[:, 0] / c[:, -1]
            for s, c in curves(results, engine, "sigmoid", "gradient/norm").items()
        }
    )
    relu = by_name(
        {
            s: c[:, -1] / c[:, 0]
            for s, c in curves(results, engine, "relu", "activation/std").items()
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
                "both": finding(
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


def tables(results: Results, config: Config) -> list[Table]:
    start: list[str | Words] = [Words("activation", "激活函数"), Words("weights", "初始权重"), SIDE]
    rows: list[tuple[list[str | Words], str, str]] = [
        ([function_name(function), NAMES[scheme], SIDES[engine]], f"{function}-{scheme}", engine)
        for function in FUNCTIONS
        for scheme in SCHEMES
        for engine in results.engines
    ]

    def mean(variant: str, engine: str, what: str) -> float:
        return float(results.numbers(variant, engine, f"activation/{what}").mean())

    return [
        Table(
            Words("Standard deviation of the activations, by layer", "激活值的标准差（按层）"),
            [*start, *map(str, range(1, 6))],
            [
                [*first, *map(two_digits, curve.mean(axis=0))]
                for first, variant, engine in rows
                for curve in [results.curve(variant, engine, "activation/std")]
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
                    two_digits(mean(variant, engine, "mean")),
                    f"{mean(variant, engine, 'saturated'):.0%}",
                    f"{mean(variant, engine, 'dead_units'):.0%}",
                    spread(results.numbers(variant, engine, "gradient/norm")),
                ]
                for first, variant, engine in rows
            ],
        ),
    ]
