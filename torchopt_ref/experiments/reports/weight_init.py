"""What is said of three kinds of initial weights."""

from __future__ import annotations

from ..lab.agreement import agreement_claims
from ..lab.panels import initial_weights
from ..lab.results import Claim, Decision, Results, Table, decision
from ..lab.training import CHANCE
from ..lab.words import Words, over_seeds, sentences
from ..weight_init import SCHEMES, Config
from .common import LOSS, TEST, by_name, claim, conditions, losses, mean_of, table_of_numbers

TITLE = Words(
    "From which initial weights does a deep network learn?", "深层网络该用什么样的权重初始值？"
)
WHY = Words(
    "Each layer multiplies what it gets by its weights. If they are too small the signal fades on "
    "its way through the layers, and the gradient on its way back; then nothing is learnt.",
    "每一层都把收到的信号乘上自己的权重。权重太小，信号在逐层传播时会越来越弱，梯度在反向传播时也"
    "会消失，网络就什么也学不到。",
)
NAMES: dict[str, str | Words] = {scheme: initial_weights(scheme) for scheme in SCHEMES}
TRAININGS = NAMES


def tried(config: Config) -> Words:
    return sentences(
        [
            Words(
                "A ReLU network 784-100-100-100-100-10, trained by SGD with a learning rate of "
                f"0.01 for {config.iterations:,} iterations on mini-batches of "
                f"{config.batch_size} images, from weights with a standard deviation of 0.01, "
                "with Xavier's sqrt(1/n), and with He's sqrt(2/n), n being the number of inputs.",
                "784-100-100-100-100-10 的 ReLU 网络，使用 SGD，学习率 0.01，mini-batch 大小为 "
                f"{config.batch_size}，共 {config.iterations:,} 次迭代。初始权重的标准差有三种："
                "0.01；Xavier 的 sqrt(1/n)；He 的 sqrt(2/n)，其中 n 为前一层的节点数。",
            ),
            conditions(config),
        ]
    )


def seen(results: Results, config: Config) -> Words:
    side = results.sides[-1]
    final, accuracy = (
        by_name({NAMES[each]: results.numbers(each, side, name) for each in SCHEMES})
        for name in ("loss", "test_accuracy")
    )
    return Words(
        f"A network that guesses has a loss of {CHANCE:.4g}; these end at: {final.en}. Their "
        f"accuracy on the test images: {accuracy.en}. Look at how soon each curve leaves the "
        "height of guessing, if it does.",
        f"只靠猜测的网络损失为 {CHANCE:.4g}；这三种的最终损失为：{final.zh}。测试精度为："
        f"{accuracy.zh}。请看每条曲线多久之后才离开随机猜测的水平，或者根本没有离开。",
    )


def claims(results: Results, config: Config) -> list[Claim]:
    return [
        *agreement_claims(results, TRAININGS),
        claim(
            results,
            Words(
                "With a standard deviation of 0.01 the network does not learn",
                "标准差为 0.01 时，网络学不到东西",
            ),
            Words(
                "In every seed its final loss is above 95 % of that of guessing.",
                "在每个随机种子下，最终损失都高于随机猜测损失的 95 %。",
            ),
            does_not_learn,
        ),
        claim(
            results,
            Words("From He's initial weights it learns fastest", "使用 He 初始值时学得最快"),
            Words(
                "In every seed the mean loss over the whole training is lower than from Xavier's, "
                "and the final loss lower than with a standard deviation of 0.01.",
                "在每个随机种子下，整个训练的平均损失低于 Xavier 初始值，且最终损失低于标准差 "
                "0.01。",
            ),
            he_is_fastest,
        ),
    ]


def does_not_learn(results: Results, side: str) -> Decision:
    (loss,) = losses(results, side, ["std=0.01"])
    return decision(
        loss > 0.95 * CHANCE,
        Words(
            f"Its loss ends at {over_seeds(loss)}; guessing has {CHANCE:.4g}.",
            f"最终损失为 {over_seeds(loss)}；随机猜测为 {CHANCE:.4g}。",
        ),
        numbers=[loss],
    )


def he_is_fastest(results: Results, side: str) -> Decision:
    small, xavier, he = losses(results, side, SCHEMES)
    area = {name: results.curve(name, side, "loss/train").mean(axis=1) for name in ("He", "Xavier")}
    means = by_name(area)
    return decision(
        (area["He"] < area["Xavier"]) & (he < small),
        Words(f"Mean loss over the training: {means.en}.", f"整个训练的平均损失：{means.zh}。"),
        numbers=[small, xavier, he, *area.values()],
    )


def tables(results: Results, config: Config) -> list[Table]:
    columns = [(LOSS, mean_of(results, "loss")), (TEST, mean_of(results, "test_accuracy"))]
    first = Words("initial weights", "初始权重")
    return [table_of_numbers(results, first, NAMES, columns)]
