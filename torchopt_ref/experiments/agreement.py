"""Whether the two sides agree: units of work that measure it, and what a report says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from torchopt_ref.sides import BY_NAME, Configuration

from .both import Training, batches, engines, fit
from .digits import number
from .lockstep import apart, bound_of
from .results import Claim, Outcome, Results, Table, Unit, finding
from .settings import Settings
from .words import Words, listed

LOSS_BOUND = 1e-9
"""The largest relative difference of the sides' losses in the first 100 float64 iterations."""
Names = Mapping[str, str | Words]
"""What the report calls the trainings; one that is not in it is called by its own name."""
PREFIX = "agreement-"
"""What the name of a unit starts with that compares the two sides."""


def agreement_units(trainings: dict[str, Training], settings: Settings) -> list[Unit]:
    """A unit for each training that measures how far the two engines are apart in float64."""
    if len(settings.engine_names) < 2:
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


def agreement(training: Training, settings: Settings, seed: int) -> Outcome:
    """How far the engines are apart: in ``loss`` (relative) over 100 free iterations, and as
    ``apart`` of :func:`fit` over 30 in lockstep, with the ``bound`` of ``step ULP``."""
    free = replace(training, iterations=100, lockstep=False)
    made = engines(free, settings, seed)
    errors = []
    for x, t in batches(free, settings, seed):
        by_torch, by_numpy = made["torch"].step(x, t), made["numpy"].step(x, t)
        errors.append(abs(by_torch - by_numpy) / abs(by_torch))
    _, locked = fit(replace(training, iterations=30, lockstep=True), settings, seed)
    bound = bound_of(Configuration(BY_NAME[training.optimizer], training.options))
    return {"agreement": {"loss": float(np.max(errors)), **locked["apart"], "bound": bound}}


def agreement_claims(results: Results, names: Names = MappingProxyType({})) -> list[Claim]:
    """That both sides compute the same; nothing if one side ran alone."""
    found = agreements(results)
    if not found:
        return []
    losses = np.array([part["loss"] for part in found.values()])
    farthest = called(list(found)[int(losses.argmax())], names)  # a NaN, if there is one
    return [
        Claim(
            Words(
                "The losses of both sides agree for 100 iterations in float64",
                "在 float64 下，两种实现的损失在前 100 次迭代中一致",
            ),
            Words(
                f"The relative difference is at most {LOSS_BOUND:.0e} in every training compared.",
                f"在每个被比较的训练中，相对差不超过 {LOSS_BOUND:.0e}。",
            ),
            {
                "both": finding(
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
                "Each of the first 30 steps, taken from the same weights, agrees in float64",
                "在 float64 下，从相同权重出发，前 30 步中的每一步都一致",
            ),
            found,
            names,
        ),
    ]


def agreements(results: Results) -> dict[str, dict[str, float]]:
    """What each unit of agreement measured, by the training that it compared."""
    return {
        name.removeprefix(PREFIX): results.of(name)[0]["agreement"]
        for name in results.variants
        if name.startswith(PREFIX)
    }


def lockstep_claims(results: Results, bounds: Mapping[str, float]) -> list[Claim]:
    """The claim on whole float64 trainings in lockstep; ``bounds`` has that of each variant."""
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


def called(name: str, names: Names) -> Words:
    """What a report calls a training."""
    words = names.get(name, name)
    return words if isinstance(words, Words) else Words(words, words)


def steps_claim(
    claim: Words, found: Mapping[str, Mapping[str, float]], names: Names = MappingProxyType({})
) -> Claim:
    """Whether each training's ``step ULP`` is within its ``bound``; ``step`` is the same absolute.

    The evidence names, of the trainings with the same bound, the one that is farthest apart.
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
            "both": finding(
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
    """For each bound, smallest first, the training whose steps are farthest apart."""
    farthest: dict[float, str] = {}
    for name in sorted(found, key=lambda name: found[name]["step ULP"]):
        farthest[found[name]["bound"]] = name
    return dict(sorted(farthest.items()))


def why_curves_part(results: Results, names: Names) -> Words:
    """What both sides show beside each other; empty if one side ran alone."""
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
        "part. As a proof, put back to the same weights before each of 30 steps in float64, and "
        "each with its own gradients, the sides end a step at most this far apart: "
        f"{told.en}.",
        "两种实现的优化器更新逐位相同，但矩阵乘积的求和顺序不同，训练会放大这种舍入误差，因此曲线"
        "可能逐渐分开。证据：在 float64 下，每一步之前都让两者回到相同的权重，再各自计算梯度，连续 "
        f"30 步中单步之后的最大差别为：{told.zh}。",
    )


def apart_table(results: Results, bounds: Mapping[str, float]) -> Table:
    """How far apart the sides are, a row for each optimizer, the largest over the seeds.

    ``within`` is the part of the steps within the bound, which is one of float64.
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
    """The largest value over the seeds of an entry of ``apart``."""
    return float(np.max([outcome["apart"][key] for outcome in results.of(variant)]))


def compare(forms: tuple[Training, Training], settings: Settings, seed: int, every: int) -> Outcome:
    """Train in two forms on the same mini-batches: how far their weights are apart.

    For each engine the curve ``weights/difference``, with a point for ``every`` so many
    iterations, and the number ``difference``, the largest of it. The losses are not compared: two
    forms of one update may count different penalties in them.
    """
    first, second = (engines(training, settings, seed) for training in forms)
    curves: dict[str, list] = {key: [] for key in first}
    for iteration, (x, t) in enumerate(batches(forms[0], settings, seed), start=1):
        for key in first:
            first[key].step(x, t)
            second[key].step(x, t)
            if iteration % every == 0:
                _, distance = apart(first[key].weights(), second[key].weights())
                curves[key].append([iteration, distance])
    return {
        key: {
            "curves": {"weights/difference": curve},
            "numbers": {"difference": float(np.max([distance for _, distance in curve]))},
            "seconds": first[key].seconds + second[key].seconds,
        }
        for key, curve in curves.items()
    }
