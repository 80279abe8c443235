"""What is said of dropout."""

from __future__ import annotations

from ..dropout import PASSES, SCALINGS, Config, trainings
from ..lab.agreement import agreement_claims
from ..lab.results import Claim, Decision, Results, Table, decision, over_seeds
from ..lab.words import Words, sentences
from .common import GAP, TEST, TRAIN, claim, conditions, losses, measures_by_variant
from .overfit import DEEP, gaps_and_tests, smaller_gap

TITLE = Words("Does Dropout curb overfitting?", "Dropout 能抑制过拟合吗？")
WHY = Words(
    "Dropout switches random units off in every training step, so that no unit can rely on "
    "another. One network then acts like an ensemble of many that share their weights.",
    "Dropout 在每一步训练中随机关闭一部分神经元，使任何神经元都不能依赖另一个神经元。于是一个网络"
    "就像许多共享权重的网络的集成。",
)
NAMES = {
    "without": Words("without", "不使用"),
    "inverted": Words("inverted", "训练时缩放"),
    "inference": Words("at inference", "推理时缩放"),
}
TRAININGS = NAMES
BETTER = {
    "accuracy": Words("is more accurate", "的精度更高"),
    "nll": Words("has a lower negative log likelihood", "的负对数似然更低"),
    "ece": Words("has a lower calibration error", "的校准误差更低"),
}
"""For each measure of ``quality``, the words between the names of a better and a worse network."""


def tried(config: Config) -> Words:
    return sentences(
        [
            Words(
                f"{DEEP.en}, trained by SGD with a learning rate of 0.01 for {config.epochs} "
                f"epochs on 300 images, a hidden unit being dropped with probability "
                f"{config.dropout:g}. What is kept is scaled by 1/(1 - p) in training (inverted) "
                "or by 1 - p afterwards (at inference, as in the textbook).",
                f"{DEEP.zh}，用 SGD（学习率 0.01）在 300 张图像上训练 {config.epochs} 个 epoch，每"
                f"个隐藏层神经元以 {config.dropout:g} 的概率被删除。保留下来的信号在训练时乘以 "
                "1/(1 - p)（训练时缩放），或在推理时乘以 1 - p（推理时缩放，与教科书相同）。",
            ),
            conditions(config),
        ]
    )


def seen(results: Results, config: Config) -> Words:
    side = results.sides[-1]
    gaps = gaps_and_tests(results, side, NAMES)
    curve = results.curve("inverted", side, "accuracy/mc_dropout")
    one, mean = over_seeds(curve[:, 0]), over_seeds(curve[:, -1])
    off = over_seeds(results.numbers("inverted", side, "accuracy"))
    return Words(
        f"The gap between training and test accuracy ends at: {gaps.en}. Dropout left on while "
        f"testing makes an ensemble: one pass is right on {one} of the test images, the mean of "
        f"{PASSES[-1]} passes on {mean}, the network with dropout off on {off}.",
        f"训练精度与测试精度的最终差距：{gaps.zh}。测试时也不关闭 Dropout，就得到一个集成：单次前"
        f"向传播的精度为 {one}，{PASSES[-1]} 次的平均为 {mean}，关闭 Dropout 时为 {off}。",
    )


def claims(results: Results, config: Config) -> list[Claim]:
    found = agreement_claims(results, TRAININGS)
    for scaling in SCALINGS:
        name = NAMES[scaling]
        found.append(
            claim(
                results,
                Words(
                    f"The gap between training and test accuracy is smaller ({name.en})",
                    f"训练精度与测试精度的差距更小（{name.zh}）",
                ),
                Words(
                    "In every seed training minus test accuracy ends lower than without dropout.",
                    "在每个随机种子下，最终的训练精度减去测试精度比不使用 Dropout 时小。",
                ),
                smaller_gap,
                scaling,
                "without",
                NAMES,
            )
        )
        found += [
            claim(
                results,
                Words(
                    f"The mean of {PASSES[-1]} passes with dropout on {BETTER[measure].en} than "
                    f"one pass ({name.en})",
                    f"不关闭 Dropout 时，{PASSES[-1]} 次前向传播的平均比单次{BETTER[measure].zh}（"
                    f"{name.zh}）",
                ),
                Words(
                    "In every seed the mean of their probabilities is better on the test images.",
                    "在每个随机种子下，平均后的概率在测试图像上更好。",
                ),
                improves,
                scaling,
                measure,
            )
            for measure in BETTER
        ]
    return found


def improves(results: Results, side: str, scaling: str, measure: str) -> Decision:
    """Whether averaging improves one measure: raises the accuracy, or lowers one of the others."""
    curve = results.curve(scaling, side, f"{measure}/mc_dropout")
    one, mean = curve[:, 0], curve[:, -1]
    off = over_seeds(results.numbers(scaling, side, measure))
    return decision(
        mean > one if measure == "accuracy" else mean < one,
        Words(
            f"Mean {over_seeds(mean)}, one pass {over_seeds(one)}, with dropout off {off}.",
            f"平均 {over_seeds(mean)}，单次 {over_seeds(one)}，关闭 Dropout 时 {off}。",
        ),
        numbers=[one, mean, *losses(results, side, [scaling])],
    )


def tables(results: Results, config: Config) -> list[Table]:
    names = {
        "train_accuracy": TRAIN,
        "test_accuracy": TEST,
        "gap": GAP,
        "nll": Words("negative log likelihood", "负对数似然"),
        "ece": Words("calibration error", "校准误差"),
    }
    rows = [
        (
            label,
            lambda side, name=name: [
                results.numbers(variant, side, name) for variant in trainings(config)
            ],
        )
        for name, label in names.items()
    ]
    return [measures_by_variant(results, Words("measure", "指标"), NAMES.values(), rows)]
