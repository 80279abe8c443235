"""What is said of a search for hyper-parameters."""

from __future__ import annotations

import numpy as np

from ..lab.results import Claim, Decision, Results, Table, decision, over_seeds
from ..lab.words import Words, listed, number, sentences
from ..search.config import Config
from ..search.plan import PARAMS
from ..search.trials import accuracy, best_trials
from .common import conditions

TITLE = Words("How are good hyper-parameters found?", "怎样找到好的超参数？")
WHY = Words(
    "Nobody knows the right learning rate and weight decay before. They are searched on a part of "
    "the training images set aside for validation, never on the test images: those must stay "
    "unseen, or the accuracy on them says nothing about other images.",
    "合适的学习率和权值衰减系数无法事先知道，只能搜索。评估时使用从训练图像中留出的验证数据，绝不"
    "能使用测试图像：如果用了，测试精度就不再能说明网络在未知图像上的表现。",
)
TRAININGS: dict[str, Words] = {}
ERRORS = 2
"""Test and validation accuracy agree if they differ by at most this many standard errors."""


def tried(config: Config) -> Words:
    later = config.trials // 2
    lr, decay = (
        Words(f"{number(low)} to {number(high)}", f"{number(low)} 到 {number(high)}")
        for low, high in config.ranges.values()
    )
    narrower = Words("", "")
    if config.rounds > 1:
        further = f"{config.rounds - 1} further round{'s' if config.rounds > 2 else ''}"
        narrower = Words(
            f"; then, in {further}, {later} each in the narrower ranges of the best quarter so far",
            f"；然后再进行 {config.rounds - 1} 轮，每轮 {later} 组，在目前最好的四分之一所覆盖的较"
            "窄范围内抽样",
        )
    return sentences(
        [
            Words(
                f"{config.trials} random settings, drawn evenly over the powers of ten: learning "
                f"rate {lr.en}, weight decay {decay.en}{narrower.en}. Each trains a ReLU network "
                f"of 6 hidden layers by SGD for {config.epochs} epochs on {config.samples:,} "
                "images, a fifth of which validates. The best setting is trained again "
                "from each seed, and only then tested.",
                f"先随机抽取 {config.trials} 组超参数（对数均匀分布，学习率 {lr.zh}，权值衰减系数 "
                f"{decay.zh}）{narrower.zh}。每组都用 SGD 在 {config.samples:,} 张图像上训练一个有"
                f" 6 个隐藏层的 ReLU 网络，共 {config.epochs} 个 epoch，其中五分之一的图像用于验证"
                "。最好的一组再用每个随机种子重新训练，之后才进行测试。",
            ),
            conditions(config),
        ]
    )


def chosen(results: Results) -> Words:
    params = results.of("chosen")[0]["params"]
    return listed(
        Words(f"{label.en} {number(params[name])}", f"{label.zh} {number(params[name])}")
        for name, label in PARAMS.items()
    )


def seen(results: Results, config: Config) -> Words:
    setting, rounds = chosen(results), told_rounds(by_round(results))
    validation, test = (
        over_seeds(results.numbers("chosen", "torch", f"{part}_accuracy"))
        for part in ("validation", "test")
    )
    return Words(
        f"The best setting is: {setting.en}. Its validation accuracy is {validation}, its test "
        f"accuracy {test}. Validation accuracy by round: {rounds.en}. The mean tells whether "
        "narrowing looks in better places, the best whether it finds a better one.",
        f"最好的一组是：{setting.zh}。它的验证精度为 {validation}，测试精度为 {test}。各轮的验证精"
        f"度：{rounds.zh}。平均值说明缩小范围后是否在更好的区域搜索，最好值说明是否找到了更好的结"
        "果。",
    )


def by_round(results: Results) -> dict[int, list[float]]:
    """The validation accuracies of each round's complete trials."""
    found: dict[int, list[float]] = {}
    for _, outcome in sorted(best_trials(results), key=lambda trial: trial[1]["round"]):
        found.setdefault(outcome["round"], []).append(accuracy(outcome))
    return found


def told_rounds(rounds: dict[int, list[float]]) -> Words:
    return listed(
        Words(
            f"round {number}: best {max(values):.4g}, mean {np.mean(values):.4g} of "
            f"{len(values)} trials",
            f"第 {number} 轮最好 {max(values):.4g}、平均 {np.mean(values):.4g}（{len(values)} 次）",
        )
        for number, values in rounds.items()
    )


def claims(results: Results, config: Config) -> list[Claim]:
    found = []
    rounds = by_round(results)
    if 1 in rounds and len(rounds) > 1:
        later = max(max(values) for number, values in rounds.items() if number > 1)
        told = told_rounds(rounds)
        found.append(
            Claim(
                Words(
                    "In this search, narrowing finds a better setting than the first round",
                    "在这次搜索中，缩小范围后找到了比第一轮更好的超参数",
                ),
                Words(
                    "The best validation accuracy of the later rounds is above that of the first.",
                    "后几轮的最高验证精度高于第一轮。",
                ),
                {
                    "torch": decision(
                        later > max(rounds[1]),
                        Words(f"{told.en[0].upper()}{told.en[1:]}.", f"{told.zh}。"),
                        least_seeds=1,
                    )
                },
            )
        )
    found.append(
        Claim(
            Words(
                "The test accuracy of the chosen setting is that of its validation",
                "所选超参数的测试精度与验证精度相符",
            ),
            Words(
                f"In every seed they differ by {ERRORS} standard errors at most.",
                f"在每个随机种子下，两者之差不超过 {ERRORS} 个标准误差。",
            ),
            {"torch": agrees_with_the_test(results)},
        )
    )
    return found


def agrees_with_the_test(results: Results) -> Decision:
    validation, test = (
        results.numbers("chosen", "torch", f"{part}_accuracy") for part in ("validation", "test")
    )
    errors = ERRORS * standard_errors(results)
    tested, validated = over_seeds(test), over_seeds(validation)
    return decision(
        np.abs(test - validation) <= errors,
        Words(
            f"Test {tested}, validation {validated}; {ERRORS} standard errors are "
            f"{errors.max():.2g}.",
            f"测试精度 {tested}，验证精度 {validated}；{ERRORS} 个标准误差为 {errors.max():.2g}。",
        ),
        numbers=[validation, test],
    )


def standard_errors(results: Results) -> np.ndarray:
    """For each seed the standard error of test accuracy minus validation accuracy.

    It supposes that the setting's true accuracy is the same on both sets of images.
    """
    validation, tested, validation_images, test_images = (
        results.numbers("chosen", "torch", name)
        for name in ("validation_accuracy", "test_accuracy", "validation_images", "test_images")
    )
    p = (validation + tested) / 2
    return np.sqrt(p * (1 - p) * (1 / validation_images + 1 / test_images))


def tables(results: Results, config: Config) -> list[Table]:
    return [
        Table(
            Words("The best ten trials", "最好的十次试验"),
            [
                Words("trial", "编号"),
                Words("round", "轮次"),
                *PARAMS.values(),
                Words("validation", "验证精度"),
                Words("training", "训练精度"),
            ],
            [
                [
                    name,
                    str(outcome["round"]),
                    *(number(outcome["params"][param]) for param in PARAMS),
                    f"{accuracy(outcome):.4f}",
                    f"{outcome['torch']['numbers']['train_accuracy']:.4f}",
                ]
                for name, outcome in best_trials(results)[:10]
            ],
        )
    ]
