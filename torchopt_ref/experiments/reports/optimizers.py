"""What is said of the five optimizers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..lab.agreement import agreement_claims, bound_of, steps_claim
from ..lab.results import Claim, Decision, Results, Table, decision
from ..lab.words import Words, listed, sentences, two_digits
from ..optimizers import (
    DIALECTS,
    NAMES,
    SMOOTHING,
    START,
    STEPS,
    Config,
    f,
    in_dialect,
    iterations_to_reach_sgd,
    said_of,
)
from .common import (
    DATASETS,
    LOSS,
    TEST,
    by_name,
    claim,
    conditions,
    losses,
    mean_of,
    table_of_numbers,
)

TITLE = Words("Which optimizer learns fastest?", "哪种优化器学得最快？")
WHY = Words(
    "SGD follows the steepest slope, which in a narrow valley points across it rather than along: "
    "the path zig-zags. Momentum, AdaGrad, RMSprop and Adam each mend that in a way of their own.",
    "SGD 总是沿着最陡的方向前进。在狭长的山谷里，这个方向几乎横切山谷，所以路径呈“之”字形。"
    "Momentum、AdaGrad、RMSprop 和 Adam 各用自己的办法来改进。",
)
TRAININGS: dict[str, Words] = {}

START_POINT = f"({START[0]:g}, {START[1]:g})"


def hyper_parameters(dialect: str) -> Words:
    if dialect == "book":
        return Words("with the textbook's hyper-parameters", "使用教科书的超参数")
    name = DIALECTS[dialect]
    return Words(
        f"all with the formulas and defaults of {name.en}, but the textbook's learning rates and "
        "momentum (0.9)",
        f"全部使用 {name.zh} 的公式和默认值，但学习率和动量（0.9）取教科书的值",
    )


def tried(config: Config) -> Words:
    hyper = hyper_parameters(config.dialect)
    return sentences(
        [
            Words(
                f"{STEPS} steps of each optimizer down f(x, y) = x²/20 + y² from {START_POINT}; "
                f"then {config.iterations:,} iterations of a ReLU network 784-100-100-100-100-10 "
                f"from He's initial weights, on mini-batches of {config.batch_size} images, "
                f"{hyper.en}.",
                f"先让每种优化器在 f(x, y) = x²/20 + y² 上从 {START_POINT} 出发走 {STEPS} 步；再训"
                "练一个 784-100-100-100-100-10 的 ReLU 网络（He 初始值，"
                f"mini-batch 大小为 {config.batch_size}），共 {config.iterations:,} 次迭代，"
                f"{hyper.zh}。",
            ),
            conditions(config),
        ]
    )


def seen(results: Results, config: Config) -> Words:
    side = results.sides[-1]
    (valley,) = results.of("valley")
    heights = by_name({name: two_digits(valley[side]["numbers"][name]) for name in NAMES})
    final = by_name({name: results.numbers(name, side, "loss") for name in NAMES})
    said = [
        Words(
            f"In the valley f falls from {f(*START):.3g} to: {heights.en}.",
            f"在山谷中，f 从 {f(*START):.3g} 下降到：{heights.zh}。",
        ),
        Words(
            f"In the network the training loss ends at: {final.en}. Who is best there depends on "
            "the problem: on other images or with other learning rates the order changes.",
            f"在网络中，最终的训练损失为：{final.zh}。哪种优化器最好取决于问题本身：换一个数据集或"
            "换一个学习率，名次就会改变。",
        ),
    ]
    if config.dialect == "book":  # the sentence describes the paths of the book's optimizers
        paths = Words(
            "SGD jumps from side to side; the others turn into the valley's direction sooner or "
            "later.",
            "SGD 在山谷两侧来回跳动，其他优化器则或早或晚转向谷底的方向。",
        )
        said.insert(1, paths)
    return sentences(said)


def claims(results: Results, config: Config) -> list[Claim]:
    found = agreement_claims(results)
    if config.lockstep and config.dtype == "float64":
        found += lockstep_claims(results, bounds(config))
    return [
        *found,
        claim(
            results,
            said_of(
                config.dialect,
                Words(
                    "Momentum and the adaptive methods reach SGD's final loss in half its "
                    "iterations",
                    "Momentum 和自适应方法只用一半的迭代次数就能达到 SGD 的最终损失",
                ),
            ),
            Words(
                f"In every seed the mean loss of {SMOOTHING} iterations falls to SGD's final one "
                "before half of the iterations are over, by each of the four.",
                f"在每个随机种子下，这四种方法的损失（{SMOOTHING} 次迭代的平均值）都在迭代过半之前"
                "降到 SGD 的最终损失。",
            ),
            reaches_sgd,
        ),
        claim(
            results,
            said_of(
                config.dialect,
                Words(
                    "One and the same optimizer ends with the lowest training loss in every seed",
                    "在每个随机种子下，最终训练损失最低的都是同一种优化器",
                ),
            ),
            Words(
                "The mean loss of the last 100 iterations is compared.",
                "比较的是最后 100 次迭代的平均损失。",
            ),
            same_best,
            config,
        ),
    ]


def reaches_sgd(results: Results, side: str) -> Decision:
    reached = {name: iterations_to_reach_sgd(results, side, name) for name in NAMES[1:]}
    length = results.curve("SGD", side, "loss/train").shape[1]
    needed = by_name(reached)
    needed = Words(needed.en.replace("inf", "never"), needed.zh.replace("inf", "从未"))
    return decision(
        np.all([steps <= length / 2 for steps in reached.values()], axis=0),
        Words(
            f"Of {length:,} iterations they needed: {needed.en}.",
            f"在 {length:,} 次迭代中，它们所需的次数为：{needed.zh}。",
        ),
        numbers=losses(results, side, NAMES),
    )


def same_best(results: Results, side: str, config: Config) -> Decision:
    final = losses(results, side, NAMES)
    best = np.argmin(final, axis=0)
    names = listed(NAMES[i] for i in best)
    data = DATASETS[config.dataset]
    return decision(
        best == best[0],
        Words(
            f"Best, seed by seed: {names.en} (on {data}).",
            f"各种子下最好的依次为：{names.zh}（{data}）。",
        ),
        numbers=final,
    )


def tables(results: Results, config: Config) -> list[Table]:
    (valley,) = results.of("valley")
    columns = [
        (Words("valley", "山谷"), lambda name, side: two_digits(valley[side]["numbers"][name])),
        (LOSS, mean_of(results, "loss")),
        (TEST, mean_of(results, "test_accuracy")),
    ]
    names: dict[str, str | Words] = {name: name for name in NAMES}
    numbers = table_of_numbers(results, Words("optimizer", "优化器"), names, columns)
    both = len(results.sides) > 1
    return [numbers, apart_table(results, bounds(config))] if both else [numbers]


def lockstep_claims(results: Results, bounds: Mapping[str, float]) -> list[Claim]:
    """The claim on whole float64 trainings in lockstep; ``bounds`` has one for each optimizer."""
    found = {
        name: {
            "bound": bound,
            **{key: worst(results, name, key) for key in ("step ULP", "step")},
        }
        for name, bound in bounds.items()
    }
    every_step = Words(
        "Every step of the trainings, taken from the same weights, agrees in float64",
        "在 float64 下，从相同权重出发，训练中的每一步都一致",
    )
    return [steps_claim(every_step, found)]


def apart_table(results: Results, bounds: Mapping[str, float]) -> Table:
    """A row for each optimizer: how far the sides are apart at most, in any seed.

    The column "within" has the fraction of the steps that keep the bound, which is made for
    float64.
    """
    rows: list[list[str | Words]] = []
    for name, bound in bounds.items():
        found = results.of(name)[0]["apart"]
        row: list[str | Words] = [name]
        row += [f"{worst(results, name, key):.0e}" for key in ("first 100", "ever")]
        if "step ULP" in found:
            ulps = results.curve(name, "numpy", "lockstep/max_ulp")
            row += [
                f"{worst(results, name, 'step'):.0e}",
                f"{worst(results, name, 'step ULP'):.4g}",
                f"{bound:.0f}",
                f"{(ulps <= bound).mean():.2%}",
            ]
        rows.append(row)
    columns: list[str | Words] = [
        Words("optimizer", "优化器"),
        Words("loss, first 100", "损失，前 100 次"),
        Words("loss, ever", "损失，全程"),
        Words("a step", "单步"),
        "ULP",
        Words("bound", "界限"),
        Words("within", "界限内"),
    ]
    return Table(
        Words("How far apart the two sides are", "两种实现相差多少"),
        columns[: len(rows[0])],
        rows,
    )


def worst(results: Results, variant: str, key: str) -> float:
    """An entry of ``apart``: the largest value of all seeds."""
    return float(np.max([outcome["apart"][key] for outcome in results.of(variant)]))


def bounds(config: Config) -> dict[str, float]:
    return {name: bound_of(in_dialect(name, config.dialect)) for name in NAMES}
