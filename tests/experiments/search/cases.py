"""What the tests of the search share: a tiny search, and studies without training."""

import json
from dataclasses import replace

from torchopt_ref.experiments import search
from torchopt_ref.experiments.lab.run import run_experiment, run_name
from torchopt_ref.experiments.reports import search as report
from torchopt_ref.experiments.search.objective import Objective
from torchopt_ref.experiments.search.plan import SearchPlan
from torchopt_ref.experiments.search.stages import search_data
from torchopt_ref.experiments.search.study import run_study

RANGES = {"lr": (1e-6, 1e-2), "weight_decay": (1e-8, 1e-4)}
TINY = search.Config(
    trials=12,
    rounds=3,
    samples=50,
    batch_size=10,
    epochs=3,
    lr_low=1e-3,
    lr_high=0.5,
    workers=1,
    seeds=2,
)


def run_search(config):
    return run_experiment(search, report, config)


def results_of(folder):
    results = json.loads((folder / "results.json").read_text())
    results.pop("environment")
    return results


def found(config, storage, workers=1):
    """The search alone, without choice, test and report: each trial's outcome and curves."""
    name = run_name(search, config)
    objective = Objective(config.recipe(config.seed), search_data(config))
    outcomes = dict(run_study(config.plan(str(storage), name), objective, workers))
    for outcome in outcomes.values():
        outcome["torch"].pop("seconds")
    return dict(sorted(outcomes.items()))


def without_curves(outcomes):
    return [
        {**outcome, "torch": {"numbers": outcome["torch"]["numbers"]}}
        for outcome in outcomes.values()
    ]


def trials_of(folder):
    units = results_of(folder)["units"]
    return [unit for name, unit in units.items() if name.startswith("trial")]


def journal_plan(config):
    name = run_name(search, config)
    return config.plan(str(config.out / "search" / name / "study.journal"), name)


def worth(lr, weight_decay, stop):
    return {"state": "complete", "torch": {"numbers": {"validation_accuracy": lr}}}


def plan_in(tmp_path, **changes):
    return replace(SearchPlan(str(tmp_path / "journal"), "study", 0, (4, 2), RANGES), **changes)


def finish(worker):
    while not worker.finished():
        worker.step()
