"""Networks whose initial weights are all equal."""

from __future__ import annotations

from dataclasses import dataclass

from .agreement import agreement_units, agreement_verdicts
from .both import CHANCE, Training, training_units
from .results import Results, Unit, Verdict, spread
from .settings import Settings
from .svg import Figure
from .symmetry import equal_weights, symmetry
from .zero_init_figures import losses, ranks

NAME = "zero-init"
TITLE = "All initial weights equal"
HIDDEN_SIZES = {"2-layer": (100,), "5-layer": (100, 100, 100, 100)}
SCHEMES = ("zeros", "equal", "He")


@dataclass
class Config(Settings):
    """Train ReLU networks of 2 and 5 layers by SGD(0.01) from all-equal weights, and from He's.

    The equal weights are 0, or 1 / fan_in in each layer, with which a unit passes on the mean of
    its inputs, so that the signal neither fades nor grows on its way.

    Claim: with equal weights all units of a layer stay identical, since they get the same
    gradients, so that each weight matrix keeps rank 1 at most; and learning stalls.
    """

    iterations: int = 1000
    """training steps of each network"""
    batch_size: int = 100
    """images in a mini-batch"""


def units(config: Config) -> list[Unit]:
    iterations = config.iterations // (10 if config.quick else 1)
    trainings = {
        f"{depth}-{scheme}": Training(
            hidden,
            params=None if scheme == "He" else equal_weights(hidden, scheme),
            batch_size=config.batch_size,
            iterations=iterations,
            evaluate_every=max(1, iterations // 10),
        )
        for depth, hidden in HIDDEN_SIZES.items()
        for scheme in SCHEMES
    }
    deepest = {name: trainings[name] for name in ("5-layer-equal", "5-layer-He")}
    return training_units(trainings, config, watch=symmetry) + agreement_units(deepest, config)


def verdicts(results: Results, config: Config) -> list[Verdict]:
    found = agreement_verdicts(results)
    for engine in results.engines:
        for scheme, weights in {"zeros": "weights of 0", "equal": "equal weights above 0"}.items():
            names = [f"{depth}-{scheme}" for depth in HIDDEN_SIZES]
            rank, distinct = (
                max(largest(results, name, engine, kind) for name in names)
                for kind in ("rank", "distinct_units")
            )
            ends = {
                f"{depth}-{kind}": results.numbers(f"{depth}-{kind}", engine, "loss")
                for depth in HIDDEN_SIZES
                for kind in (scheme, "He")
            }
            found += [
                Verdict(
                    f"from {weights} all units of a hidden layer stay identical but for rounding, "
                    "and the rank of each weight matrix is at most 1",
                    engine,
                    distinct == 1 and rank <= 1,
                    f"Over all evaluations at most {distinct:.0f} distinct unit(s) in a hidden "
                    f"layer, and rank {rank:.0f}.",
                ),
                Verdict(
                    f"from {weights} learning stalls",
                    engine,
                    all((ends[name] > 0.95 * CHANCE).all() for name in names),
                    f"Chance is a loss of {CHANCE:.4g}; "
                    + ", ".join(
                        f"the {depth} network ends at {spread(ends[f'{depth}-{scheme}'])}, from "
                        f"He's weights at {spread(ends[f'{depth}-He'])}"
                        for depth in HIDDEN_SIZES
                    )
                    + ".",
                ),
            ]
    return found


def largest(results: Results, variant: str, engine: str, kind: str) -> float:
    """The largest ``kind`` over the matrices, the evaluations and the seeds."""
    curves = results.of(variant)[0][engine]["curves"]
    tags = [tag for tag in curves if tag.startswith(f"{kind}/")]
    return float(max(results.curve(variant, engine, tag).max() for tag in tags))


def table(results: Results, config: Config) -> list[dict[str, str]]:
    return [
        {
            "network": depth,
            "initial weights": scheme,
            "engine": engine,
            "largest rank": f"{largest(results, name, engine, 'rank'):.0f}",
            "distinct units": f"{largest(results, name, engine, 'distinct_units'):.0f}",
            "loss": spread(results.numbers(name, engine, "loss")),
            "test accuracy": spread(results.numbers(name, engine, "test_accuracy")),
        }
        for depth in HIDDEN_SIZES
        for scheme in SCHEMES
        for name in [f"{depth}-{scheme}"]
        for engine in results.engines
    ]


def figures(results: Results, config: Config) -> dict[str, Figure]:
    return {"training_loss": losses(results, HIDDEN_SIZES), "rank": ranks(results, HIDDEN_SIZES)}
