"""The hyper-parameter search: what it finds, what it may see, and what it survives."""

import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from torchopt_ref.errors import UserError
from torchopt_ref.experiments import laboratory, search
from torchopt_ref.experiments.results import Results
from torchopt_ref.experiments.search_plan import ATTEMPTS, Plan, importance, narrowed, settled
from torchopt_ref.experiments.search_worker import LOST_AFTER, Worker
from torchopt_ref.experiments.search_workers import run_study
from torchopt_ref.experiments.validation import Objective, Parts, split

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


def results_of(folder):
    results = json.loads((folder / "results.json").read_text())
    results.pop("environment")
    return results


def found(config, storage, workers=1):
    """The search alone, without choice, test and report: each trial's outcome and curves."""
    name = laboratory.run_name(search, config)
    objective = Objective(config.recipe(config.seed), search.training_parts(config))
    outcomes = dict(run_study(config.plan(str(storage), name), objective, workers))
    for outcome in outcomes.values():
        outcome["torch"].pop("seconds")
    return dict(sorted(outcomes.items()))


def without_curves(outcomes):
    return [
        {**outcome, "torch": {"numbers": outcome["torch"]["numbers"]}}
        for outcome in outcomes.values()
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return laboratory.run(search, replace(TINY, out=tmp_path_factory.mktemp("search")))


def trials_of(folder):
    units = results_of(folder)["units"]
    return [unit for name, unit in units.items() if name.startswith("trial")]


# What it finds


def test_the_first_round_spans_the_ranges_and_each_later_one_those_of_the_best_quarter(folder):
    trials = trials_of(folder)
    assert [trial["round"] for trial in trials] == [1] * 12 + [2] * 6 + [3] * 6
    assert [trial["state"] for trial in trials] == ["complete"] * 24
    for number, before in ((2, 12), (3, 18)):
        accuracies = [t["torch"]["numbers"]["validation_accuracy"] for t in trials[:before]]
        best = np.argsort(-np.array(accuracies), kind="stable")[: math.ceil(before / 4)]
        for name in RANGES:
            chosen = [trials[i]["params"][name] for i in best]
            values = [trial["params"][name] for trial in trials if trial["round"] == number]
            assert min(chosen) <= min(values) <= max(values) <= max(chosen)
            assert len(set(values)) == 6


def test_random_points_are_uniform_on_a_logarithmic_scale():
    plan = Plan("", "", 0, (400,), RANGES)
    distribution = optuna.distributions.FloatDistribution(1e-6, 1e-2, log=True)
    draws = sorted(
        math.log10(plan.sampler_at(point).sample_independent(None, None, "lr", distribution))
        for point in range(400)
    )
    # Kolmogorov's 1.63 / sqrt(n) is exceeded by chance in 1 % of cases; these draws are fixed.
    distance = np.abs((np.array(draws) + 6) / 4 - (np.arange(400) + 0.5) / 400).max()
    assert distance < 1.63 / 20


def test_the_chosen_setting_is_the_first_of_the_best_and_reproduces_its_trial(folder):
    units, trials = results_of(folder)["units"], trials_of(folder)
    best = max(trials, key=lambda trial: trial["torch"]["numbers"]["validation_accuracy"])
    chosen = units["chosen-seed0"]
    assert chosen["params"] == best["params"]
    for number in ("validation_accuracy", "train_accuracy"):
        assert chosen["torch"]["numbers"][number] == best["torch"]["numbers"][number]
    assert units["chosen-seed1"]["params"] == best["params"]
    assert units["chosen-seed1"]["torch"]["numbers"] != chosen["torch"]["numbers"]
    assert chosen["torch"]["numbers"]["test_images"] == 2000
    assert chosen["torch"]["numbers"]["validation_images"] == 10


def test_the_same_options_find_the_same_with_one_worker_or_two(folder, tmp_path):
    assert without_curves(found(TINY, tmp_path / "two", workers=2)) == trials_of(folder)


def test_another_seed_finds_something_else(folder, tmp_path):
    other = found(replace(TINY, seed=1, trials=2, rounds=1), tmp_path / "journal").values()
    known = [trial["params"]["lr"] for trial in trials_of(folder)]
    assert not [trial for trial in other if trial["params"]["lr"] in known]


def test_tpe_with_pruning_prunes_and_is_repeatable_with_one_worker(tmp_path):
    config = replace(TINY, sampler="tpe", pruner="median", epochs=10, rounds=1, trials=20)
    one, other = (found(config, tmp_path / name) for name in "ab")
    assert one == other
    lengths = [len(trial["torch"]["curves"]["loss/train"]) for trial in one.values()]
    states = [trial["state"] for trial in one.values()]
    assert {*states} == {"complete", "pruned"}
    assert all((n < 10) == (state == "pruned") for n, state in zip(lengths, states, strict=True))
    assert min(lengths) > config.epochs // 5
    random = found(replace(config, sampler="random", pruner="none"), tmp_path / "c")
    differs = [one[i]["params"] != random[i]["params"] for i in range(20)]
    # The first ten of TPE are random, too.
    assert differs == [False] * 10 + [True] * 10


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


# What it may see


def test_a_fifth_of_the_training_data_validates_and_the_parts_are_copies():
    images = np.arange(50 * 784, dtype=np.float32).reshape(50, 784)
    labels = np.arange(50)
    parts = split(images, labels, seed=3)
    assert len(parts.validation_labels) == 10
    both = np.concatenate([parts.train_labels, parts.validation_labels])
    assert sorted(both) == list(range(50))
    np.testing.assert_array_equal(images[parts.train_labels], parts.train_images)
    np.testing.assert_array_equal(images[parts.validation_labels], parts.validation_images)
    for array in vars(parts).values():
        assert not np.shares_memory(array, images)
        assert array.base is None
    assert sorted(parts.validation_labels) != list(range(10))
    assert list(split(images, labels, 3).train_labels) == list(parts.train_labels)
    assert list(split(images, labels, 4).train_labels) != list(parts.train_labels)


def test_the_objective_holds_a_recipe_and_the_two_parts_of_the_training_data():
    assert [field.name for field in fields(Objective)] == ["recipe", "parts"]
    assert [field.name for field in fields(Parts)] == [
        *("train_images", "train_labels", "validation_images", "validation_labels")
    ]
    config = replace(TINY, samples=50)
    objective = Objective(config.recipe(0), search.training_parts(config))
    data = config.data()
    assert not any(isinstance(v, Path | search.Config) for v in vars(objective.recipe).values())
    for name in ("train", "validation"):
        images = getattr(objective.parts, f"{name}_images")
        seen = (data.train_images[:50, None] == images).all(axis=2)
        assert (seen.sum(axis=0) == 1).all()


def write_data(root, test_seed):
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, count, seed in (("train", 50, 0), ("t10k", 300, test_seed)):
        rng = np.random.default_rng(seed)
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        for kind, array in (("images", images), ("labels", labels)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            file = raw / f"{prefix}-{kind}-idx{array.ndim}-ubyte"
            file.write_bytes(header + array.tobytes())


def test_other_test_images_change_the_test_accuracy_and_nothing_else(tmp_path):
    found = []
    for test_seed in (1, 2):
        root = tmp_path / str(test_seed)
        write_data(root, test_seed)
        config = replace(TINY, dataset="fashion", data_root=root, out=root / "out", trials=2)
        found.append(laboratory.run(search, config))
    one, other = (results_of(path)["units"] for path in found)
    tested = [
        [units[f"chosen-seed{seed}"]["torch"]["numbers"].pop("test_accuracy") for seed in (0, 1)]
        for units in (one, other)
    ]
    assert tested[0] != tested[1]
    assert one == other


# What it survives


def test_a_killed_search_goes_on_and_finds_what_an_undisturbed_one_finds(tmp_path):
    config = replace(TINY, epochs=40, trials=8, rounds=2, workers=2, out=tmp_path / "killed")
    code = "from pathlib import *; from torchopt_ref.experiments import laboratory, search; "
    code += (
        f"from torchopt_ref.experiments.search import Config; laboratory.run(search, {config!r})"
    )
    script = tmp_path / "script.py"
    script.write_text(f"if __name__ == '__main__':\n    {code}\n")
    process = subprocess.Popen([sys.executable, script], stderr=subprocess.DEVNULL)
    plan = journal_plan(config)
    while True:
        assert process.poll() is None
        time.sleep(0.02)
        if Path(plan.storage).exists():
            # Not by ``open``: a reader of its own must not make the study before the search does.
            done = Path(plan.storage).read_text().count('"outcome"')
            if done >= 3:
                break
    process.send_signal(signal.SIGKILL)
    process.wait()
    worker = Worker(plan, None)
    owners = {t.user_attrs["owner"]["pid"] for t in worker.study.trials if "owner" in t.user_attrs}
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in owners):
        assert time.monotonic() < deadline, "the workers outlive their parent"
        time.sleep(0.05)
    before = worker.outcomes()
    assert 3 <= len(before) < 12

    folder = laboratory.run(search, replace(config, workers=1))
    assert trials_of(folder) == without_curves(found(config, tmp_path / "undisturbed"))
    numbers = [trial.number for trial in worker.settled().values()]
    after = worker.outcomes()
    assert {point: after[point] for point in before} == before
    assert len(numbers) == 12
    # A worker may have left one trial behind, which was repeated; no trial is left running.
    states = [trial.state for trial in worker.study.trials]
    assert 12 <= len(states) <= 14
    assert states.count(TrialState.COMPLETE) == 12
    assert states.count(TrialState.FAIL) == len(states) - 12


def journal_plan(config):
    name = laboratory.run_name(search, config)
    return config.plan(str(config.out / "search" / name / "study.journal"), name)


def worth(lr, weight_decay, stop):
    return {"state": "complete", "torch": {"numbers": {"validation_accuracy": lr}}}


def plan_in(tmp_path, **changes):
    return replace(Plan(str(tmp_path / "journal"), "study", 0, (4, 2), RANGES), **changes)


def finish(worker):
    while not worker.finished():
        worker.step()


def gone():
    """The number of a process that does not exist any more."""
    process = multiprocessing.get_context("spawn").Process()
    process.start()
    process.join()
    return process.pid


@pytest.fixture(scope="module")
def dead():
    return gone()


def test_a_trial_whose_process_died_is_repeated_with_the_same_parameters(tmp_path, dead):
    calm = Worker(plan_in(tmp_path / "calm"), worth)
    finish(calm)
    worker = Worker(plan_in(tmp_path), worth)
    worker.step()
    lost = worker.study.ask()
    lost.set_user_attr("owner", {**worker.owner, "pid": dead, "alive": time.time()})
    finish(worker)
    assert worker.outcomes() == calm.outcomes()
    trials = worker.study.trials
    assert [trial.state for trial in trials].count(TrialState.FAIL) == 1
    assert trials[lost.number].state == TrialState.FAIL
    assert len(trials) == 7


def test_a_trial_is_lost_if_its_owner_shows_no_life(tmp_path, dead):
    worker = Worker(plan_in(tmp_path), worth)
    trial = worker.study.ask()
    now = time.time()

    def lost(**owner):
        trial.set_user_attr("owner", {**worker.owner, "alive": now, **owner})
        return worker.lost(worker.study.trials[-1])

    assert not worker.lost(worker.study.trials[-1])  # it was asked for a moment ago
    assert not lost()
    assert lost(pid=dead)
    assert lost(id="an earlier search of this process")
    assert not lost(pid=os.getppid())
    assert not lost(pid=1)
    assert not lost(host="elsewhere", pid=dead, id="")
    assert lost(host="elsewhere", alive=now - LOST_AFTER - 1)
    assert not lost(host="elsewhere", alive=now - LOST_AFTER + 60)


def test_a_point_at_which_every_process_dies_is_given_up(tmp_path, dead):
    worker = Worker(plan_in(tmp_path, rounds=(2,)), worth)
    for _ in range(ATTEMPTS):
        trial = worker.study.ask()
        trial.set_user_attr("owner", {**worker.owner, "pid": dead, "alive": time.time()})
        worker.requeue_lost()
    finish(worker)
    first, second = worker.outcomes().values()
    assert first["state"] == "failed"
    assert first["failure"] == f"its process died {ATTEMPTS} times"
    assert second["state"] == "complete"


def test_a_process_that_dies_between_its_two_steps_of_putting_back_loses_nothing(tmp_path):
    worker = Worker(plan_in(tmp_path), worth)
    worker.study.tell(worker.study.ask(), state=TrialState.FAIL)
    finish(worker)
    assert [outcome["state"] for outcome in worker.outcomes().values()] == ["complete"] * 6


def test_a_trial_that_others_gave_up_and_repeat_does_not_count(tmp_path):
    def objective(lr, weight_decay, stop):
        if worker.study.trials[0].state == TrialState.RUNNING:
            other.study.tell(0, state=TrialState.FAIL)
            other.requeue_lost()
        return worth(lr, weight_decay, stop)

    worker, other = (Worker(plan_in(tmp_path), objective) for _ in range(2))
    finish(worker)
    assert len(worker.study.trials) == 7
    assert settled([worker.study.trials[0]]) is None
    assert worker.outcomes()[0]["state"] == "complete"


def test_a_trial_that_was_killed_before_its_value_was_told_does_not_count(tmp_path, dead):
    worker = Worker(plan_in(tmp_path), worth)
    trial = worker.study.ask()
    trial.set_user_attr("outcome", worth(1.0, 1.0, None))
    assert worker.settled() == {}
    trial.set_user_attr("owner", {**worker.owner, "pid": dead, "alive": time.time()})
    worker.requeue_lost()
    assert [trial.state for trial in worker.study.trials] == [TrialState.FAIL, TrialState.WAITING]
    calm = Worker(plan_in(tmp_path / "calm"), worth)
    finish(worker)
    finish(calm)
    assert worker.outcomes() == calm.outcomes()


def test_failures_are_recorded_and_the_search_goes_on(tmp_path):
    errors = iter([RuntimeError("CUDA out of memory"), MemoryError("no room"), None, None, None])

    def objective(lr, weight_decay, stop):
        error = next(errors)
        if error:
            raise error
        return worth(lr, weight_decay, stop)

    worker = Worker(plan_in(tmp_path, rounds=(3, 2)), objective)
    finish(worker)
    found = list(worker.outcomes().values())
    assert [outcome.get("failure") for outcome in found[:2]] == ["CUDA out of memory", "no room"]
    assert [outcome["state"] for outcome in found] == ["failed"] * 2 + ["complete"] * 3
    assert [trial.state for trial in worker.study.trials[:2]] == [TrialState.FAIL] * 2
    # One complete trial is too few to narrow the ranges.
    assert worker.ranges(1) == RANGES


def test_a_mistake_in_the_objective_is_not_taken_for_a_failed_trial(tmp_path):
    def objective(lr, weight_decay, stop):
        return {}["missing"]

    with pytest.raises(KeyError):
        finish(Worker(plan_in(tmp_path), objective))


def test_trials_that_diverge_fail_and_the_others_count(tmp_path):
    folder = laboratory.run(
        search, replace(TINY, lr_low=1e-3, lr_high=1e30, rounds=1, out=tmp_path)
    )
    trials = trials_of(folder)
    states = [trial["state"] for trial in trials]
    assert {*states} == {"complete", "failed"}
    assert all(
        trial["failure"].startswith("the loss is not finite")
        for trial in trials
        if trial["state"] == "failed"
    )
    names = {path.name for path in (folder / "trials").iterdir()}
    assert names == {f"{number:03d}" for number in range(12)}
    assert "NaN" not in (folder / "results.json").read_text()


def test_a_search_without_any_complete_trial_says_so(tmp_path):
    config = replace(TINY, lr_low=1e25, lr_high=1e30, rounds=1, trials=2, out=tmp_path)
    with pytest.raises(UserError, match=r"no trial was completed \(the loss.*--lr-high"):
        laboratory.run(search, config)


def test_workers_that_take_a_point_too_many_leave_it(tmp_path):
    worker = Worker(plan_in(tmp_path), worth)
    finish(worker)
    worker.perform(worker.study.ask())
    assert worker.study.trials[-1].state == TrialState.FAIL
    assert sorted(worker.outcomes()) == list(range(6))
    worker.requeue_lost()
    assert len(worker.study.trials) == 7


def test_a_worker_that_is_ahead_of_its_round_repeats_lost_trials_meanwhile(tmp_path, dead):
    worker = Worker(plan_in(tmp_path), worth)
    for _ in range(3):
        worker.step()
    lost, ahead = worker.study.ask(), worker.study.ask()
    lost.set_user_attr("owner", {**worker.owner, "pid": dead, "alive": time.time()})
    worker.perform(ahead)
    calm = Worker(plan_in(tmp_path / "calm"), worth)
    finish(worker)
    finish(calm)
    assert worker.outcomes() == calm.outcomes()


def test_two_machines_share_one_study(folder, tmp_path):
    storage = tmp_path / "shared" / "journal"
    first = found(TINY, storage)
    assert without_curves(first) == trials_of(folder)
    second = laboratory.run(search, replace(TINY, storage=str(storage), out=tmp_path))
    assert results_of(second) == results_of(folder)
    assert len(replace(journal_plan(TINY), storage=str(storage)).open().trials) == 24
    assert len(list((second / "trials").iterdir())) == 24
    assert not (second / "study.journal").exists()


def test_a_database_serves_as_well(tmp_path):
    storage = f"sqlite:///{tmp_path}/study.db"
    workers = [Worker(plan_in(tmp_path, storage=storage), worth) for _ in range(2)]
    while not workers[0].finished():
        for worker in workers:
            worker.step()
    in_journal = Worker(plan_in(tmp_path), worth)
    finish(in_journal)
    assert workers[1].outcomes() == in_journal.outcomes()


@pytest.mark.parametrize("storage", ["no://where", "/proc/nothing/journal"])
def test_a_storage_that_does_not_open_is_a_users_error(tmp_path, storage):
    with pytest.raises(UserError, match=r"cannot open the study in .*--storage"):
        laboratory.run(search, replace(TINY, storage=storage, out=tmp_path))


def test_a_line_cut_off_by_a_kill_does_not_spoil_the_journal(tmp_path):
    plan = plan_in(tmp_path)
    worker = Worker(plan, worth)
    worker.step()
    journal = Path(plan.storage)
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":5,"work')
    again = Worker(plan, worth)
    assert journal.read_bytes().startswith(whole + b'{"op_code":0,')
    finish(again)
    assert sorted(again.outcomes()) == list(range(6))


def test_a_finished_search_is_done_again_only_by_force(folder, capsys):
    config = replace(TINY, out=folder.parent.parent)
    before = results_of(folder)
    stamp = (folder / "study.journal").stat().st_mtime_ns
    assert laboratory.run(search, config) == folder
    assert "Finished earlier" in capsys.readouterr().err
    assert (folder / "study.journal").stat().st_mtime_ns == stamp
    laboratory.run(search, replace(config, force=True))
    assert (folder / "study.journal").stat().st_mtime_ns != stamp
    assert results_of(folder) == before


class Killing:
    """An objective that kills its process."""

    def __call__(self, lr, weight_decay, stop):
        os.kill(os.getpid(), signal.SIGKILL)


def test_the_death_of_all_workers_is_reported(tmp_path):
    plan = plan_in(tmp_path, rounds=(3,))
    with pytest.raises(UserError, match=r"exit statuses -9, -9.*--workers"):
        list(run_study(plan, Killing(), 2))


# What a person gets


def test_every_trial_is_one_run_with_its_curves_and_hyper_parameters(folder):
    for name, trial in zip(range(24), trials_of(folder), strict=True):
        path = folder / "trials" / f"{name:03d}"
        assert len(list(path.iterdir())) == 1
        events = EventAccumulator(str(path)).Reload()
        assert {*events.Tags()["scalars"]} == {
            *("loss/train", "accuracy/train", "accuracy/validation")
        }
        curve = events.Scalars("accuracy/validation")
        assert [event.step for event in curve] == [1, 2, 3]
        final = trial["torch"]["numbers"]["validation_accuracy"]
        assert curve[-1].value == np.float32(final)
        content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        start = HParamsPluginData.FromString(content).session_start_info
        assert start.hparams["lr"].number_value == trial["params"]["lr"]
        assert start.hparams["weight_decay"].number_value == trial["params"]["weight_decay"]
        assert start.hparams["round"].number_value == trial["round"]
        assert start.hparams["state"].string_value == "complete"
        content = events.summary_metadata["_hparams_/experiment"].plugin_data.content
        metrics = HParamsPluginData.FromString(content).experiment.metric_infos
        assert [metric.name.tag for metric in metrics] == ["accuracy/validation"]
    assert not (folder / "partial").exists()


def test_the_report_has_the_best_ten_and_the_figures(folder):
    table = results_of(folder)["table"]
    accuracies = [float(row["validation"]) for row in table]
    trials = trials_of(folder)
    best = sorted(trials, key=lambda t: -t["torch"]["numbers"]["validation_accuracy"])[:10]
    assert accuracies == [t["torch"]["numbers"]["validation_accuracy"] for t in best]
    assert [row["learning rate"] for row in table] == [f"{t['params']['lr']:.3g}" for t in best]
    text = (folder / "report.md").read_text()
    for name in ("best_trials", "slices", "importance"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"({name}.png)" in text
    for row in table:
        assert f"| {row['trial']} | {row['round']} |" in text


def made_up(by_round, validation, test, images=(100, 2000)):
    def outcome(number, accuracy):
        numbers = {"validation_accuracy": accuracy, "train_accuracy": 1.0}
        return {
            "state": "complete",
            "round": number,
            "params": {"lr": 1e-3, "weight_decay": 1e-6},
            "torch": {"numbers": numbers, "curves": {}},
        }

    outcomes = {}
    for number, accuracies in by_round.items():
        for accuracy in accuracies:
            outcomes[f"trial-{len(outcomes):03d}", 0] = outcome(number, accuracy)
    for seed, (v, t) in enumerate(zip(validation, test, strict=True)):
        outcomes["chosen", seed] = outcome(1, v)
        outcomes["chosen", seed]["torch"]["numbers"] |= {
            "test_accuracy": t,
            "validation_images": images[0],
            "test_images": images[1],
        }
    return Results(outcomes, ["torch"])


def holds(*arguments, **options):
    verdicts = search.verdicts(made_up(*arguments, **options), search.Config())
    return [verdict.holds for verdict in verdicts]


def test_narrowing_helps_if_a_later_round_beats_the_first():
    agree = [0.8], [0.8]
    assert holds({1: [0.1, 0.7], 2: [0.2], 3: [0.71]}, *agree) == [True, True]
    assert holds({1: [0.1, 0.7], 2: [0.7], 3: [0.6]}, *agree) == [False, True]
    assert holds({1: [0.1, 0.7]}, *agree) == [True]
    assert holds({2: [0.1], 1: [0.9]}, *agree) == [False, True]


def test_test_and_validation_agree_within_two_standard_errors_in_every_seed():
    # sqrt(0.8 * 0.2 * (1/100 + 1/2000)) = 0.04099; p is the mean of both, so it moves a little.
    rounds = {1: [0.8]}
    assert holds(rounds, [0.8], [0.72]) == [True]
    assert holds(rounds, [0.8], [0.71]) == [False]
    assert holds(rounds, [0.72], [0.8]) == [True]
    assert holds(rounds, [0.71], [0.8]) == [False]
    assert holds(rounds, [0.8, 0.8, 0.8], [0.8, 0.7, 0.8]) == [False]
    assert holds(rounds, [0.8], [0.77], images=(10_000, 10_000)) == [False]


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trials": 1}, "--trials must be at least 2"),
        ({"rounds": 0}, "--rounds must be at least 1"),
        ({"workers": -1}, "--workers must be at least 0"),
        ({"batch_size": 0}, "--batch-size must be at least 1"),
        ({"samples": 10_001}, "--samples: the training set has 10000 images"),
        ({"lr_low": 0.0}, "--lr-low must be above 0"),
        ({"weight_decay_low": 1.0}, "--weight-decay-low must be above 0 and at most"),
        ({"sampler": "radnom"}, "did you mean 'random'"),
        ({"pruner": "mean"}, "unknown pruner"),
        ({"engines": "numpy"}, "--engines torch"),
    ],
)
def test_options_that_cannot_be_run_are_users_errors(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        laboratory.run(search, replace(TINY, out=tmp_path, **change))
