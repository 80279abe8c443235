"""What is said of weight decay."""

from __future__ import annotations

import numpy as np

from ..lab.agreement import agreement_claims
from ..lab.results import Claim, Decision, Results, Table, decision
from ..lab.words import Words, over_seeds, sentences, two_digits
from ..weight_decay import DIFFERENT, NAMES, NORM, REMEDIES, Config, trainings
from .common import GAP, TEST, TRAIN, claim, conditions, losses, mean_of, table_of_numbers
from .overfit import DEEP, gaps_and_tests, smaller_gap

TITLE = Words("Does weight decay curb overfitting?", "权值衰减能抑制过拟合吗？")
WHY = Words(
    "Large weights often go with overfitting. Weight decay makes large weights expensive: each "
    "step also shrinks them a little, so that the network fits its images less closely.",
    "过拟合往往伴随着很大的权重。权值衰减对大的权重进行惩罚：每一步都让权重缩小一点，使网络不会把"
    "训练图像拟合得过于紧密。",
)
TRAININGS = NAMES


def tried(config: Config) -> Words:
    return sentences(
        [
            Words(
                f"{DEEP.en}, trained for {config.epochs} epochs on 300 images by SGD (learning "
                f"rate 0.01) and by Adam (0.001), with and without decay of the weights, λ = "
                f"{config.weight_decay:g}: as L2, which adds λ/2 ΣW² to the loss or λW to the "
                "gradient, and decoupled from the gradient (AdamW).",
                f"{DEEP.zh}，在 300 张图像上训练 {config.epochs} 个 epoch，优化器为 SGD（学习率 "
                f"0.01）和 Adam（0.001），使用或不使用权值衰减，λ = {config.weight_decay:g}：L2 形"
                "式，即在损失中加上 λ/2 ΣW²，或在梯度中加上 λW；以及与梯度解耦的形式（AdamW）。",
            ),
            conditions(config),
        ]
    )


def seen(results: Results, config: Config) -> Words:
    side = results.sides[-1]
    told = gaps_and_tests(results, side, NAMES)
    return Words(
        f"The gap between training and test accuracy ends at: {told.en}. A smaller gap is a gain "
        "only where the test accuracy does not fall with it: who learns nothing has no gap.",
        f"训练精度与测试精度的最终差距：{told.zh}。只有测试精度没有随之下降时，差距变小才算是改进"
        "：什么都没学到的网络也没有差距。",
    )


def claims(results: Results, config: Config) -> list[Claim]:
    gaps = [
        claim(
            results,
            Words(
                f"The gap is smaller with “{NAMES[remedy].en}” than with “{NAMES[without].en}”",
                f"“{NAMES[remedy].zh}”的差距小于“{NAMES[without].zh}”",
            ),
            Words(
                "In every seed training minus test accuracy ends lower.",
                "在每个随机种子下，最终的训练精度减去测试精度更小。",
            ),
            smaller_gap,
            remedy,
            without,
            NAMES,
        )
        for remedy, without in REMEDIES.items()
    ]
    return [
        *agreement_claims(results, TRAININGS),
        *gaps,
        claim(
            results,
            Words(
                "L2 in the loss and L2 in the gradient give the same weights, bit for bit",
                "在损失中加 L2 与在梯度中加 L2 得到逐位相同的权重",
            ),
            Words(
                "In float64 no weight differs after any epoch, in any seed.",
                "在 float64 下，任何随机种子、任何 epoch 之后，所有权重都没有差别。",
            ),
            same_weights,
        ),
        claim(
            results,
            Words(
                "For Adam decoupled weight decay is something else than L2",
                "对 Adam 来说，解耦的权值衰减与 L2 不同",
            ),
            Words(
                f"In every seed the norms of all weights differ by more than {DIFFERENT:.0%}.",
                f"在每个随机种子下，全部权重的范数相差超过 {DIFFERENT:.0%}。",
            ),
            decoupled_differs,
        ),
    ]


def same_weights(results: Results, side: str) -> Decision:
    difference = results.numbers("L2-forms", side, "difference")
    return decision(
        difference == 0,
        Words(
            f"Largest difference of any weight: {two_digits(difference.max())}.",
            f"权重的最大差别：{two_digits(difference.max())}。",
        ),
        numbers=[difference],
        least_seeds=1,
    )


def decoupled_differs(results: Results, side: str) -> Decision:
    l2, decoupled = (results.curve(name, side, NORM)[:, -1] for name in ("Adam-L2", "AdamW"))
    return decision(
        np.abs(l2 / decoupled - 1) > DIFFERENT,
        Words(
            f"Norm of all weights: decoupled {over_seeds(decoupled)}, L2 {over_seeds(l2)}.",
            f"全部权重的范数：解耦 {over_seeds(decoupled)}，L2 {over_seeds(l2)}。",
        ),
        numbers=[l2, decoupled, *losses(results, side, ["Adam-L2", "AdamW"])],
    )


def tables(results: Results, config: Config) -> list[Table]:
    columns = [
        (TRAIN, mean_of(results, "train_accuracy")),
        (TEST, mean_of(results, "test_accuracy")),
        (GAP, mean_of(results, "gap")),
        (
            Words("norm of weights", "权重的范数"),
            lambda variant, side: over_seeds(results.curve(variant, side, NORM)[:, -1]),
        ),
    ]
    variants: dict[str, str | Words] = {name: NAMES[name] for name in trainings(config)}
    return [table_of_numbers(results, Words("training", "训练"), variants, columns)]
