"""Whether the two sides agree: the units that measure it, and what a report says of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from torchopt_ref.sides import BY_NAME, Configuration

from .results import Claim, Outcome, Results, Unit, decision
from .settings import Settings
from .training import Recipe, batches, make_trainers, train_on_each_side
from .words import Words, listed, number

FREE, LOCKED = 100, 30
"""The iterations in which each side trains by itself, and those in lockstep."""
LOSS_BOUND = 1e-9
"""The bound for the relative difference of the sides' losses while each trains by itself."""
STEP_ULP = 4.0
"""The bound for SGD, Momentum and Nesterov: how many ULP (see ``weight_difference``) the sides may
be apart after one float64 step from the same weights.

The sides' gradients differ, because each side sums the products over a mini-batch in its own order.
The difference times the learning rate is less than the ULP of the weights. What remains is a weight
that one side rounds up and the other down. Measured over 30 seeds: 1.25.
"""
ADAPTIVE_STEP_ULP = 2.0**18
"""The same bound for optimizers that divide a gradient by its own size.

Where a gradient g is near 0, ``lr g / (sqrt(h) + eps)``, h being the sum or average of squared
gradients, magnifies a difference of g by lr / eps: by 1e5, about 2^17, with the textbook's
hyper-parameters. The bound allows the gradients to differ by 2 ULP of the weights. Measured over 30
seeds: 22,988 (RMSprop). A dialect with a smaller eps has a larger bound: see :func:`step_bound`.
"""
Names = Mapping[str, str | Words]
"""What a report calls the trainings; a training that is not listed is called by its own name."""
PREFIX = "agreement-"
"""The prefix of the names of the units that compare the two sides."""


def agreement_units(trainings: dict[str, Recipe], settings: Settings) -> list[Unit]:
    """A unit for each training (if quick, the first) that compares the sides in float64; none if
    only one side runs."""
    if len(settings.side_names) < 2:
        return []
    if settings.quick:
        trainings = dict(list(trainings.items())[:1])
    exact = replace(settings, dtype="float64", device="cpu")
    seed = settings.seed
    return [
        Unit(
            f"{PREFIX}{variant}",
            seed,
            agreement,
            {"training": training, "settings": exact, "seed": seed},
        )
        for variant, training in trainings.items()
    ]


def agreement(training: Recipe, settings: Settings, seed: int) -> Outcome:
    """Measure how far the sides are apart, under the key ``agreement``.

    ``loss`` is the largest relative difference of their losses in the ``FREE`` iterations in which
    each side trains by itself. The other entries are those of ``apart`` (see
    :func:`train_on_each_side`) over ``LOCKED`` iterations in lockstep, and the ``bound`` that
    ``step ULP`` must keep.
    """
    free = replace(training, iterations=FREE, lockstep=False)
    trainers = make_trainers(free, settings, seed)
    errors = []
    for x, t in batches(free, settings, seed):
        by_torch, by_numpy = trainers["torch"].step(x, t), trainers["numpy"].step(x, t)
        errors.append(abs(by_torch - by_numpy) / abs(by_torch))
    # Accuracies are not asked for, and take longer than the steps.
    together = replace(training, iterations=LOCKED, lockstep=True, evaluate_every=LOCKED)
    _, locked = train_on_each_side(together, settings, seed)
    bound = bound_of(Configuration(BY_NAME[training.optimizer], training.options))
    return {"agreement": {"loss": float(np.max(errors)), **locked["apart"], "bound": bound}}


def bound_of(configuration: Configuration) -> float:
    """The bound for a step of an optimizer with these options, in ULP."""
    hyper = configuration.reference().hyper
    return step_bound(configuration.name, hyper["lr"] / hyper["eps"] if "eps" in hyper else 1.0)


def step_bound(optimizer: str, magnified: float = 1e5) -> float:
    """The bound for a step: ``STEP_ULP``, or more for an optimizer that magnifies differences of
    gradients near 0.

    ``magnified`` is the factor lr / eps. The bound is the least power of two that is not below
    ``2 lr / eps``, but at least ``ADAPTIVE_STEP_ULP``. An optimizer with eps inside the root
    magnifies less, by lr / sqrt(eps), and so keeps the bound, too.
    """
    if optimizer.rpartition(".")[2] in ("SGD", "Momentum", "Nesterov"):
        return STEP_ULP
    return max(ADAPTIVE_STEP_ULP, 2.0 ** math.ceil(math.log2(2 * magnified)))


def agreement_claims(results: Results, names: Names = MappingProxyType({})) -> list[Claim]:
    """The claims that both sides compute the same; none if one side ran alone."""
    found = agreements(results)
    if not found:
        return []
    losses = np.array([part["loss"] for part in found.values()])
    farthest = called(list(found)[int(losses.argmax())], names)  # argmax counts NaN as the largest
    return [
        Claim(
            Words(
                f"The losses of both sides agree for {FREE} iterations in float64",
                f"在 float64 下，两种实现的损失在前 {FREE} 次迭代中一致",
            ),
            Words(
                f"The relative difference is at most {LOSS_BOUND:.0e} in every training compared.",
                f"在每个被比较的训练中，相对差不超过 {LOSS_BOUND:.0e}。",
            ),
            {
                "both": decision(
                    losses.max() <= LOSS_BOUND,
                    Words(
                        f"Largest relative difference: {losses.max():.1e} ({farthest.en}).",
                        f"最大相对差：{losses.max():.1e}（{farthest.zh}）。",
                    ),
                    numbers=losses,
                    least_seeds=1,
                )
            },
        ),
        steps_claim(
            Words(
                f"Each of the first {LOCKED} steps, taken from the same weights, agrees in float64",
                f"在 float64 下，从相同权重出发，前 {LOCKED} 步中的每一步都一致",
            ),
            found,
            names,
        ),
    ]


def agreements(results: Results) -> dict[str, dict[str, float]]:
    """What was measured by the units of ``agreement_units``, by the name of the training."""
    return {
        name.removeprefix(PREFIX): results.of(name)[0]["agreement"]
        for name in results.variants
        if name.startswith(PREFIX)
    }


def called(name: str, names: Names) -> Words:
    """What a report calls a training."""
    words = names.get(name, name)
    return words if isinstance(words, Words) else Words(words, words)


def steps_claim(
    claim: Words, found: Mapping[str, Mapping[str, float]], names: Names = MappingProxyType({})
) -> Claim:
    """The claim that each training's ``step ULP`` is within its ``bound``.

    ``step`` is the same difference, absolute. For each bound the evidence names the training whose
    sides are farthest apart.
    """
    farthest = farthest_steps(found)
    absolute = [f"{found[name]['step']:.1e}" for name in farthest.values()]
    return Claim(
        claim,
        Words(
            "A weight differs by no more than its optimizer's bound, counted in units in the last "
            "place (ULP) of the largest weight of its layer.",
            "权重之差不超过该优化器的界限，以所在层最大权重的末位单位（ULP）计。",
        ),
        {
            "both": decision(
                all(part["step ULP"] <= part["bound"] for part in found.values()),
                Words(
                    "Largest difference in ULP: "
                    + ", ".join(
                        f"{number(found[name]['step ULP'])} of at most {bound:,.0f} "
                        f"({called(name, names).en})"
                        for bound, name in farthest.items()
                    )
                    + f"; absolute: {', '.join(absolute)}.",
                    "最大差（ULP）："
                    + "，".join(
                        f"{number(found[name]['step ULP'])}，界限 {bound:,.0f}"
                        f"（{called(name, names).zh}）"
                        for bound, name in farthest.items()
                    )
                    + f"；绝对值：{'，'.join(absolute)}。",
                ),
                numbers=[part["step ULP"] for part in found.values()],
                least_seeds=1,
            )
        },
    )


def farthest_steps(found: Mapping[str, Mapping[str, float]]) -> dict[float, str]:
    """For each bound, smallest first, the training whose sides are farthest apart after a step."""
    farthest: dict[float, str] = {}
    for name in sorted(found, key=lambda name: found[name]["step ULP"]):
        farthest[found[name]["bound"]] = name
    return dict(sorted(farthest.items()))


def why_curves_part(results: Results, names: Names) -> Words:
    """The paragraph that explains why the sides' curves may differ; empty if one side ran alone."""
    found = agreements(results)
    if not found:
        return Words("", "")
    steps = []
    for name in farthest_steps(found).values():
        ulp = found[name]["step ULP"]
        said = f"{ulp:.3g}" if ulp < 100 else f"{ulp:,.0f}"
        words = called(name, names)
        steps.append(Words(f"{said} ULP ({words.en})", f"{said} ULP（{words.zh}）"))
    told = listed(steps)
    return Words(
        "The two sides' optimizer steps have the same bits, but matrix products are summed in "
        "another order on each side, and training amplifies that rounding: so the curves may "
        f"part. As a proof, put back to the same weights before each of {LOCKED} steps in float64, "
        "and each with its own gradients, the sides end a step at most this far apart: "
        f"{told.en}.",
        "两种实现的优化器更新逐位相同，但矩阵乘积的求和顺序不同，训练会放大这种舍入误差，因此曲线"
        "可能逐渐分开。证据：在 float64 下，每一步之前都让两者回到相同的权重，再各自计算梯度，连续 "
        f"{LOCKED} 步中单步之后的最大差别为：{told.zh}。",
    )
