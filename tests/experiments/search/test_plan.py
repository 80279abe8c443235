"""Which points a search tries, and what the best of them have in common."""

import math

import numpy as np
import optuna
import pytest

from tests.experiments.search.cases import RANGES
from torchopt_ref.experiments.search.plan import SearchPlan, narrowed
from torchopt_ref.experiments.search.trials import importance


def test_random_points_are_uniform_on_a_logarithmic_scale():
    plan = SearchPlan("", "", 0, (400,), RANGES)
    distribution = optuna.distributions.FloatDistribution(1e-6, 1e-2, log=True)
    draws = sorted(
        math.log10(plan.sampler_at(point).sample_independent(None, None, "lr", distribution))
        for point in range(400)
    )
    # Kolmogorov's 1.63 / sqrt(n) is exceeded by chance in 1 % of cases; these draws are fixed.
    distance = np.abs((np.array(draws) + 6) / 4 - (np.arange(400) + 0.5) / 400).max()
    assert distance < 1.63 / 20


def test_importance_is_that_of_the_parameter_that_decides():
    rng = np.random.default_rng(0)
    params = [
        {name: 10 ** rng.uniform(*np.log10(bounds)) for name, bounds in RANGES.items()}
        for _ in range(50)
    ]
    shares = importance(params, [math.log(p["lr"]) for p in params], RANGES)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["lr"] > 0.9
    shares = importance(params, [-math.log(p["weight_decay"]) for p in params], RANGES)
    assert shares["weight_decay"] > 0.9


def test_ranges_narrow_to_the_best_quarter():
    def trial(value, lr, weight_decay):
        return optuna.trial.create_trial(
            value=value,
            params={"lr": lr, "weight_decay": weight_decay},
            distributions={
                name: optuna.distributions.FloatDistribution(*bounds, log=True)
                for name, bounds in RANGES.items()
            },
        )

    worst = [trial(0.1, 1e-6, 1e-8)] * 6
    best = [trial(0.9, 1e-3, 1e-5), trial(0.8, 5e-3, 1e-6), trial(0.7, 1e-4, 1e-7)]
    assert narrowed(RANGES, [*worst[:3], *best, *worst[3:]]) == {
        "lr": (1e-4, 5e-3),
        "weight_decay": (1e-7, 1e-5),
    }
    assert narrowed(RANGES, [*worst[:3], best[0]])["lr"] == (1e-6, 1e-3)
    assert narrowed(RANGES, best[:1]) == RANGES
