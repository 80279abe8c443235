"""What is said of equal initial weights."""

from __future__ import annotations

import numpy as np

from ..lab.agreement import agreement_claims
from ..lab.results import SIDES, Claim, Decision, Results, Table, decision
from ..lab.training import CHANCE
from ..lab.words import Words, listed, over_seeds, sentences
from ..zero_init import HIDDEN_SIZES, SCHEMES, Config, largest
from .common import LOSS, NUMBERS, SIDE, TEST, by_name, claim, conditions, losses

TITLE = Words("Can all initial weights be equal?", "可以把所有初始权重都设成一样吗？")
WHY = Words(
    "Units that start alike get the same gradient, so they stay alike: a layer of a hundred units "
    "then does no more than a single one. That is why initial weights are random.",
    "初始权重相同的神经元会得到相同的梯度，因此永远保持相同：一层一百个神经元，作用只相当于一个。"
    "这就是初始权重必须随机的原因。",
)
DEPTHS = {"2-layer": Words("2 layers", "2 层"), "5-layer": Words("5 layers", "5 层")}
WEIGHTS = {
    "zeros": Words("0", "0"),
    "equal": Words("equal, above 0", "相等且大于 0"),
    "He": Words("He", "He"),
}
TRAININGS = {
    f"{depth}-{scheme}": Words(f"{d.en}, {w.en}", f"{d.zh}，{w.zh}")
    for depth, d in DEPTHS.items()
    for scheme, w in WEIGHTS.items()
}


def tried(config: Config) -> Words:
    return sentences(
        [
            Words(
                "ReLU networks of 2 and of 5 layers, 100 units in each hidden one, trained by SGD "
                f"with a learning rate of 0.01 for {config.iterations:,} iterations on "
                f"mini-batches of {config.batch_size} images: from weights of 0, from equal "
                "weights above 0 (1 / fan_in, which pass on the mean), and from He's random ones.",
                "训练 2 层和 5 层的 ReLU 网络（每个隐藏层 100 个神经元），使用 SGD，学习率 0.01，"
                f"mini-batch 大小为 {config.batch_size}，共 {config.iterations:,} 次迭代。初始权重"
                "有三种：全为 0；相等且大于 0（1 / fan_in，传递输入的平均值）；He 的随机初始值。",
            ),
            conditions(config),
        ]
    )


def seen(results: Results, config: Config) -> Words:
    side = results.sides[-1]

    def ends(scheme: str) -> Words:
        return by_name(
            {DEPTHS[d]: results.numbers(f"{d}-{scheme}", side, "loss") for d in HIDDEN_SIZES}
        )

    zeros, equal, he = (ends(scheme) for scheme in SCHEMES)
    return Words(
        f"A network that guesses has a loss of {CHANCE:.4g}. From weights of 0 the loss ends at "
        f"{zeros.en}, from equal weights above 0 at {equal.en}, from He's at {he.en}. The rank of "
        "a weight matrix says how many different units its layer has: equal weights leave 1 at "
        "most.",
        f"只靠猜测的网络损失为 {CHANCE:.4g}。初始权重为 0 时，最终损失为 {zeros.zh}；相等且大于 0 "
        f"时为 {equal.zh}；He 初始值时为 {he.zh}。权重矩阵的秩说明该层有多少个互不相同的神经元：权"
        "重相等时最多只有 1。",
    )


def claims(results: Results, config: Config) -> list[Claim]:
    found = agreement_claims(results, TRAININGS)
    for scheme, start in {
        "zeros": Words("From weights of 0", "初始权重为 0 时"),
        "equal": Words("From equal weights above 0", "初始权重相等且大于 0 时"),
    }.items():
        found += [
            claim(
                results,
                Words(
                    f"{start.en} all units of a hidden layer stay alike",
                    f"{start.zh}，同一隐藏层的神经元始终相同",
                ),
                Words(
                    "In every seed, at every evaluation and in both networks: one distinct unit "
                    "in a hidden layer, but for rounding, and weight matrices of rank 1 at most.",
                    "在每个随机种子、每次评估和两种网络中：隐藏层里只有一个互不相同的神经元（舍入"
                    "误差除外），且权重矩阵的秩不超过 1。",
                ),
                stay_alike,
                scheme,
            ),
            claim(
                results,
                Words(f"{start.en} learning stalls", f"{start.zh}，学习停滞"),
                Words(
                    "In every seed both networks end with a loss above 95 % of that of guessing.",
                    "在每个随机种子下，两种网络的最终损失都高于随机猜测损失的 95 %。",
                ),
                stalls,
                scheme,
            ),
        ]
    return found


def stay_alike(results: Results, side: str, scheme: str) -> Decision:
    names = [f"{depth}-{scheme}" for depth in HIDDEN_SIZES]
    rank, distinct = (
        np.max([largest(results, name, side, kind) for name in names], axis=0)
        for kind in ("rank", "distinct_units")
    )
    return decision(
        (distinct == 1) & (rank <= 1),
        Words(
            f"Distinct units in a hidden layer: at most {distinct.max():.0f}; rank: at most "
            f"{rank.max():.0f}.",
            f"隐藏层中互不相同的神经元最多 {distinct.max():.0f} 个；秩最大为 {rank.max():.0f}。",
        ),
        numbers=losses(results, side, names),
    )


def stalls(results: Results, side: str, scheme: str) -> Decision:
    ends = {depth: losses(results, side, [f"{depth}-{scheme}"])[0] for depth in HIDDEN_SIZES}
    he = {depth: losses(results, side, [f"{depth}-He"])[0] for depth in HIDDEN_SIZES}
    compared = listed(
        Words(
            f"{over_seeds(ends[depth])} ({DEPTHS[depth].en}; from He's {over_seeds(he[depth])})",
            f"{over_seeds(ends[depth])}（{DEPTHS[depth].zh}；He 初始值为 {over_seeds(he[depth])}）",
        )
        for depth in HIDDEN_SIZES
    )
    return decision(
        np.all([loss > 0.95 * CHANCE for loss in ends.values()], axis=0),
        Words(
            f"Guessing has a loss of {CHANCE:.4g}; the networks end at: {compared.en}.",
            f"随机猜测的损失为 {CHANCE:.4g}；最终损失：{compared.zh}。",
        ),
        numbers=ends.values(),
    )


def tables(results: Results, config: Config) -> list[Table]:
    return [
        Table(
            NUMBERS,
            [
                Words("network", "网络"),
                Words("initial weights", "初始权重"),
                SIDE,
                Words("rank", "秩"),
                Words("distinct units", "不同的神经元"),
                LOSS,
                TEST,
            ],
            [
                [
                    DEPTHS[depth],
                    WEIGHTS[scheme],
                    SIDES[side],
                    f"{largest(results, name, side, 'rank').max():.0f}",
                    f"{largest(results, name, side, 'distinct_units').max():.0f}",
                    over_seeds(results.numbers(name, side, "loss")),
                    over_seeds(results.numbers(name, side, "test_accuracy")),
                ]
                for depth in HIDDEN_SIZES
                for scheme in SCHEMES
                for name in [f"{depth}-{scheme}"]
                for side in results.sides
            ],
        )
    ]
