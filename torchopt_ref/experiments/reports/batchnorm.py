"""What is said of batch normalisation."""

from __future__ import annotations

from ..batchnorm import LEARNT, PLACE_NAMES, PLACES, RATES, SCALES, WELL, Config, measures
from ..lab.agreement import agreement_claims
from ..lab.results import Claim, Decision, Results, Table, decision
from ..lab.words import Words, sentences
from .common import by_name, claim, conditions, measures_by_variant

TITLE = Words("What does batch normalisation buy?", "Batch Normalization 有什么用？")
WHY = Words(
    "Instead of choosing initial weights so that activations keep a healthy spread, batch "
    "normalisation forces it on every layer, mini-batch by mini-batch. That should make learning "
    "faster, and less dependent on where it starts.",
    "与其靠选择初始权重让激活值保持适当的广度，不如让每一层对每个 mini-batch 强制进行正规化，这就"
    "是 Batch Normalization。它应当能让学习更快，并且不那么依赖初始值。",
)
TRAININGS = PLACE_NAMES
CLAIMS = {
    "epochs": (
        Words(
            "With batch normalisation a network learns faster at the same learning rate",
            "学习率相同时，使用 Batch Normalization 学得更快",
        ),
        Words(
            f"epochs to a training accuracy of {WELL:.0%} from He's weights at a learning rate of "
            "0.01 (one more than all if never) are fewer.",
            f"从 He 初始值出发，学习率为 0.01，训练精度达到 {WELL:.0%} 所需的 epoch 数（从未达到则"
            "为总数加一）更少。",
        ),
        Words("epochs", "epoch 数"),
    ),
    "largest lr": (
        Words(
            "With batch normalisation it learns with larger learning rates",
            "使用 Batch Normalization 时，可以使用更大的学习率",
        ),
        Words(
            f"the largest of {len(RATES)} learning rates at which the training accuracy ends above "
            f"{LEARNT:.0%} (0 if none) is larger.",
            f"在 {len(RATES)} 种学习率中，最终训练精度高于 {LEARNT:.0%} 的最大学习率（没有则为 0）"
            "更大。",
        ),
        Words("largest rate", "最大学习率"),
    ),
    "scales learnt": (
        Words(
            "With batch normalisation it learns from more of the initial scales",
            "使用 Batch Normalization 时，能从更多种初始权重标准差开始学习",
        ),
        Words(
            f"of {len(SCALES)} standard deviations of the initial weights, those from which the "
            f"training accuracy ends above {LEARNT:.0%} are more.",
            f"在 {len(SCALES)} 种初始权重标准差中，最终训练精度高于 {LEARNT:.0%} 的种数更多。",
        ),
        Words("scales learnt", "可学习的标准差"),
    ),
    "range over scales": (
        Words(
            "With batch normalisation the result depends less on the initial scale",
            "使用 Batch Normalization 时，结果不那么依赖初始权重的标准差",
        ),
        Words(
            "over the standard deviations of the initial weights, the largest minus the smallest "
            "final training accuracy is smaller.",
            "在各种初始权重标准差下，最终训练精度的最大值与最小值之差更小。",
        ),
        Words("range over scales", "各标准差间的差距"),
    ),
    "gap": (
        Words("Batch normalisation curbs overfitting", "Batch Normalization 能抑制过拟合"),
        Words(
            "the gap between training and test accuracy is smaller, averaged "
            f"over the learning rates at which both networks learn {WELL:.0%}.",
            f"在两种网络的训练精度都达到 {WELL:.0%} 的那些学习率下取平均，训练精度与测试精度之差更"
            "小。",
        ),
        Words("gap", "差距"),
    ),
}
"""For each measure the claim that it decides, the rule, and the name of the measure."""


def tried(config: Config) -> Words:
    return sentences(
        [
            Words(
                "A ReLU network of 5 hidden layers of 100 units, trained by SGD for "
                f"{config.epochs} epochs on {config.samples:,} images in mini-batches of "
                f"{config.batch_size}: without normalisation, with it before each activation, and "
                f"after; from {len(SCALES)} standard deviations of the initial weights at a "
                f"learning rate of 0.01, and from He's weights at {len(RATES)} learning rates.",
                f"有 5 个隐藏层（每层 100 个神经元）的 ReLU 网络，使用 SGD，在 {config.samples:,} "
                f"张图像上训练 {config.epochs} 个 epoch，mini-batch 大小为 {config.batch_size}。比"
                "较三种情况：不使用正规化、在激活函数之前使用、在激活函数之后使用；初始权重的标准"
                f"差取 {len(SCALES)} 种（学习率 0.01），或用 He 初始值配 {len(RATES)} 种学习率。",
            ),
            conditions(config),
        ]
    )


def seen(results: Results, config: Config) -> Words:
    values = measures(results, results.sides[-1])
    epochs, rate, scales = (
        by_name({PLACE_NAMES[place]: values[name][place] for place in PLACES})
        for name in ("epochs", "largest lr", "scales learnt")
    )
    return Words(
        f"Epochs until {WELL:.0%} of the training images are right: {epochs.en}. The largest "
        f"learning rate that still learns: {rate.en}. From so many of {len(SCALES)} initial scales "
        f"it learns: {scales.en}. (None: without normalisation; before and after: the activation.)",
        f"训练精度达到 {WELL:.0%} 所需的 epoch 数：{epochs.zh}。仍能学习的最大学习率：{rate.zh}。"
        f"在 {len(SCALES)} 种初始权重标准差中能够学习的种数：{scales.zh}。",
    )


def claims(results: Results, config: Config) -> list[Claim]:
    found = agreement_claims(results, TRAININGS)
    for name, (words, rule, _) in CLAIMS.items():
        in_every_seed = Words(
            f"In every seed, before the activation against without: {rule.en}",
            f"在每个随机种子下，比较激活前使用与不使用：{rule.zh}",
        )
        found.append(
            claim(
                results,
                words,
                in_every_seed,
                compared,
                name,
            )
        )
    return found


def compared(results: Results, side: str, name: str) -> Decision:
    values = measures(results, side)[name]
    more = name in ("largest lr", "scales learnt")
    without, before = values["none"], values["before"]
    told = by_name({PLACE_NAMES[place]: values[place] for place in PLACES})
    label = CLAIMS[name][2]
    return decision(
        before > without if more else before < without,
        Words(f"{label.en[0].upper()}{label.en[1:]}: {told.en}.", f"{label.zh}：{told.zh}。"),
        numbers=[without, before],
    )


def tables(results: Results, config: Config) -> list[Table]:
    found = {side: measures(results, side) for side in results.sides}
    rows = [
        (label, lambda side, name=name: found[side][name].values())
        for name, (_, _, label) in CLAIMS.items()
    ]
    return [measures_by_variant(results, Words("measure", "指标"), PLACE_NAMES.values(), rows)]
