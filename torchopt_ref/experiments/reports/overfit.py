"""What is said of a network that sees few images."""

from __future__ import annotations

from collections.abc import Mapping

from ..lab.results import SIDES, Claim, Decision, Results, Table, decision, over_seeds
from ..lab.words import Words, listed, sentences
from ..overfit import FITTED, LARGE_GAP, Config
from .common import GAP, NUMBERS, SIDE, TEST, TRAIN, claim, conditions, losses

TITLE = Words("Does a network learn its images by heart?", "网络会把训练图像“背”下来吗？")
WHY = Words(
    "A network with many weights can fit a few images without having understood anything: it is "
    "right on those, and wrong on others. That is overfitting, which the next two experiments "
    "fight.",
    "参数很多的网络可以拟合少量图像而并没有真正学会：在这些图像上全对，在别的图像上却常常出错。这"
    "就是过拟合，后面两个实验将尝试抑制它。",
)
TRAININGS: dict[str, Words] = {}
DEEP = Words(
    "A ReLU network of 6 hidden layers of 100 units from He's initial weights",
    "有 6 个隐藏层（每层 100 个神经元）的 ReLU 网络，使用 He 初始值",
)


def tried(config: Config) -> Words:
    return sentences(
        [
            Words(
                f"{DEEP.en}, trained by SGD with a learning rate of 0.01 for {config.epochs} "
                "epochs on 300 images in mini-batches of 100, and tested on images that it has "
                "not seen.",
                f"{DEEP.zh}，用 SGD（学习率 0.01）在 300 张图像上训练 {config.epochs} 个 epoch，"
                "mini-batch 大小为 100，再用没有见过的图像测试。",
            ),
            conditions(config),
        ]
    )


def seen(results: Results, config: Config) -> Words:
    side = results.sides[-1]
    train, test, gap = (
        over_seeds(results.numbers("overfit", side, name))
        for name in ("train_accuracy", "test_accuracy", "gap")
    )
    return Words(
        f"At the end {train} of the training images are right, but only {test} of the others: a "
        f"gap of {gap}. In the figure the two curves part early, and the gap stays.",
        f"训练结束时，训练精度为 {train}，而测试精度只有 {test}，差距为 {gap}。图中两条曲线很早就"
        "分开，此后差距一直存在。",
    )


def claims(results: Results, config: Config) -> list[Claim]:
    return [
        claim(
            results,
            Words(
                "The network learns its training images almost without error",
                "网络几乎没有错误地学会了训练图像",
            ),
            Words(
                f"In every seed its training accuracy ends at {FITTED:.0%} or above.",
                f"在每个随机种子下，最终训练精度不低于 {FITTED:.0%}。",
            ),
            learns,
        ),
        claim(
            results,
            Words("It does much worse on other images", "在别的图像上差得多"),
            Words(
                f"In every seed its test accuracy is lower by more than {LARGE_GAP}.",
                f"在每个随机种子下，测试精度比训练精度低 {LARGE_GAP} 以上。",
            ),
            overfits,
        ),
    ]


def learns(results: Results, side: str) -> Decision:
    accuracy = results.numbers("overfit", side, "train_accuracy")
    return decision(
        accuracy >= FITTED,
        Words(
            f"Its training accuracy ends at {over_seeds(accuracy)}.",
            f"最终训练精度为 {over_seeds(accuracy)}。",
        ),
        numbers=[accuracy, *losses(results, side, ["overfit"])],
    )


def overfits(results: Results, side: str) -> Decision:
    gap = results.numbers("overfit", side, "gap")
    test = over_seeds(results.numbers("overfit", side, "test_accuracy"))
    return decision(
        gap > LARGE_GAP,
        Words(
            f"Its test accuracy ends at {test}, a gap of {over_seeds(gap)}.",
            f"最终测试精度为 {test}，差距为 {over_seeds(gap)}。",
        ),
        numbers=[gap, *losses(results, side, ["overfit"])],
    )


def tables(results: Results, config: Config) -> list[Table]:
    return [
        Table(
            NUMBERS,
            [SIDE, TRAIN, TEST, GAP],
            [[SIDES[side], *accuracies(results, "overfit", side)] for side in results.sides],
        )
    ]


def accuracies(results: Results, variant: str, side: str) -> list[str]:
    """The cells that tell how far a network overfits: ``TRAIN``, ``TEST`` and ``GAP``."""
    names = ("train_accuracy", "test_accuracy", "gap")
    return [over_seeds(results.numbers(variant, side, name)) for name in names]


def gaps_and_tests(results: Results, side: str, names: Mapping[str, Words]) -> Words:
    """Each variant's gap and test accuracy: a network that learns nothing has no gap either."""
    found = []
    for variant, name in names.items():
        _, test, gap = accuracies(results, variant, side)
        found.append(
            Words(
                f"{gap} ({name.en}, test accuracy {test})",
                f"{gap}（{name.zh}，测试精度 {test}）",
            )
        )
    return listed(found)


def smaller_gap(
    results: Results, side: str, remedy: str, without: str, names: Mapping[str, Words]
) -> Decision:
    """Whether the gap of a remedy is smaller than that of the training without it."""
    gaps = [results.numbers(variant, side, "gap") for variant in (remedy, without)]
    said = gaps_and_tests(results, side, {name: names[name] for name in (remedy, without)})
    return decision(
        gaps[0] < gaps[1],
        Words(f"Gap: {said.en}.", f"差距：{said.zh}。"),
        numbers=[*gaps, *losses(results, side, [remedy, without])],
    )
