"""The optimizer comparison from its command line: event files, figures, results."""

import functools
import json
import shlex

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.experiments.fashion_files import write_fashion
from tests.experiments.made_up_reports import check_both_languages, make_all
from tests.thinned import only
from torchopt_ref.cli import main
from torchopt_ref.experiments import optimizers
from torchopt_ref.experiments.lab.agreement import ADAPTIVE_STEP_ULP, STEP_ULP, bound_of
from torchopt_ref.experiments.lab.results import FAILS, HOLDS, UNDECIDED, Results
from torchopt_ref.experiments.optimizers import DIALECTS, in_dialect
from torchopt_ref.experiments.reports import optimizers as report

OPTIMIZERS = ["SGD", "Momentum", "AdaGrad", "RMSprop", "Adam"]
WRITERS = [f"{name}-{side}" for name in OPTIMIZERS for side in ("numpy", "torch")]
ITERATIONS = 105
SMALL = ["--quick", "--batch-size", "20"]
"""Quick: a tenth of the iterations, one seed, and one optimizer's agreement."""

FIGURES = [
    f"{name}.{lang}{width}.svg"
    for name in ("valley", "training_loss")
    for lang in ("en", "zh")
    for width in ("", ".narrow")
]


@pytest.fixture(scope="module")
def run(tmp_path_factory, agrees_soon):
    """``run(3, "--lockstep")``: three iterations, run once for these options; their folder."""
    folders = {}

    def run_once(iterations, *options, again=False):
        key = (iterations, options, again)
        if key not in folders:
            out = tmp_path_factory.mktemp("out") / "new" / "folder"
            command = ["run", "optimizers", *SMALL, "--iterations", str(10 * iterations)]
            assert main([*command, "--jobs", "1", "--out", str(out), *options]) == 0
            (folders[key],) = (out / "optimizers").iterdir()
        return folders[key]

    return run_once


@pytest.fixture(scope="module")
def folder(run):
    return run(ITERATIONS)


@pytest.fixture(scope="module")
def small(run):
    return run(3, "--lockstep")


@functools.cache
def events(folder):
    accumulator = EventAccumulator(str(folder), {"scalars": 0, "images": 0})
    accumulator.Reload()
    return accumulator


def curve(folder, tag):
    return [(event.step, event.value) for event in events(folder).Scalars(tag)]


def results(folder):
    return json.loads((folder / "results.json").read_text())


def numbers(folder, name, side):
    return results(folder)["units"][f"{name}-seed0"][side]["numbers"]


def apart(folder, name):
    return results(folder)["units"][f"{name}-seed0"].get("apart")


def test_a_folder_holds_a_writer_for_each_optimizer_and_side(folder):
    names = {path.name for path in folder.iterdir()}
    files = {"results.json", "report.md", "lock", *FIGURES}
    valley = {"valley-numpy", "valley-torch"}
    assert names == {*WRITERS, *valley, "report", "units", *files}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_has_the_loss_of_each_iteration_and_the_accuracy_of_every_100th(
    folder, writer
):
    steps, losses = zip(*curve(folder / writer, "loss/train"), strict=True)
    assert steps == tuple(range(1, ITERATIONS + 1))
    assert np.isfinite(losses).all()
    result = numbers(folder, *writer.split("-"))
    # Event files keep float32.
    assert result["loss"] == pytest.approx(np.mean(losses[-100:]), rel=1e-6)

    steps, accuracies = zip(*curve(folder / writer, "accuracy/test"), strict=True)
    assert steps == (100, ITERATIONS)
    assert accuracies[-1] == np.float32(result["test_accuracy"])
    assert 0.3 < accuracies[-1] < 1


@pytest.mark.parametrize("side", ["numpy", "torch"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_way_down_the_valley_is_a_curve(folder, name, side):
    steps, heights = zip(*curve(folder / f"valley-{side}", f"valley/{name}"), strict=True)
    assert steps == tuple(range(31))
    assert heights[0] == np.float32(7**2 / 20 + 2**2)
    result = results(folder)["units"]["valley-seed0"][side]
    assert heights[-1] == pytest.approx(result["numbers"][name], rel=1e-6)
    x, y = result["paths"][name][-1]
    assert result["numbers"][name] == x**2 / 20 + y**2


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_difference_between_the_sides_is_a_curve_and_a_number(folder, name):
    numpy = dict(curve(folder / f"{name}-numpy", "loss/train"))
    torch = dict(curve(folder / f"{name}-torch", "loss/train"))
    difference = dict(curve(folder / f"{name}-numpy", "sides/loss_difference"))
    for step, value in difference.items():
        assert value == pytest.approx(abs(numpy[step] - torch[step]), abs=1e-6 * numpy[step])
    found = apart(folder, name)
    assert found["ever"] == pytest.approx(max(difference.values()), rel=1e-6)
    assert found["first 100"] == pytest.approx(max(list(difference.values())[:100]), rel=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_in_lockstep_every_single_step_is_measured(small, name):
    ulps = dict(curve(small / f"{name}-numpy", "lockstep/max_ulp"))
    distances = dict(curve(small / f"{name}-numpy", "lockstep/max_abs"))
    assert list(ulps) == list(distances) == [1, 2, 3]
    found = apart(small, name)
    assert np.float32(found["step ULP"]) == max(ulps.values())
    assert np.float32(found["step"]) == max(distances.values())


def test_in_lockstep_the_table_says_how_many_steps_keep_the_bound(small, run):
    exact = run(3, "--lockstep", "--dtype", "float64")
    for folder in (small, exact):
        _, table = results(folder)["tables"]
        for name, *_, most, limit, within in table["rows"]:
            ulps = np.array([*dict(curve(folder / f"{name}-numpy", "lockstep/max_ulp")).values()])
            bound = 4 if name in ("SGD", "Momentum") else 2**18
            assert limit == str(bound)
            assert within == f"{(ulps <= bound).mean():.2%}"
            assert most == f"{apart(folder, name)['step ULP']:.4g}"
    (claim,) = (c for c in results(exact)["claims"] if c["claim"][0].startswith("Every step"))
    assert "262,144" in claim["sides"]["both"]["evidence"][0]
    assert not [c for c in results(small)["claims"] if c["claim"][0].startswith("Every step")]


def test_without_lockstep_there_is_nothing_of_it(folder):
    assert "lockstep/max_ulp" not in events(folder / "SGD-numpy").Tags()["scalars"]
    assert apart(folder, "SGD").keys() == {"first 100", "ever"}


def test_figures_are_files_in_both_languages_wide_and_narrow(folder):
    for name in FIGURES:
        assert (folder / name).read_text().startswith("<svg")


def test_the_config_is_in_the_results(small):
    config = results(small)["config"]
    assert config["iterations"] == 3
    assert config["seeds"] == 1
    for lang, words in enumerate(("3 iterations", "3 次迭代")):
        assert words in results(small)["tried"][lang]


def test_a_quick_run_decides_nothing_and_says_why(small, run):
    check_both_languages(small)
    claims = results(small)["claims"]
    assert len(claims) == 4
    for found in (found for claim in claims for found in claim["sides"].values()):
        assert found["outcome"] == "undecided"
        assert "quick" in found["because"][0]


def test_the_config_keeps_the_other_options(small):
    config = results(small)["config"]
    assert config["quick"] is True
    assert config["lockstep"] is True
    assert config["dtype"] == "float32"


def test_the_same_options_give_the_same_bits(small, run):
    again = run(3, "--lockstep", again=True)
    assert again != small
    first, second = results(small), results(again)
    assert first.pop("environment").keys() == second.pop("environment").keys()
    assert first == second
    for writer in WRITERS:
        for tag in events(small / writer).Tags()["scalars"]:
            assert curve(again / writer, tag) == curve(small / writer, tag)


@pytest.mark.parametrize("side", ["numpy", "torch"])
def test_another_seed_gives_another_start_and_other_batches(folder, run, side):
    other = run(3, "--seed", "1", "--sides", side)
    for name in OPTIMIZERS:
        losses = curve(folder / f"{name}-{side}", "loss/train")[:3]
        assert not set(losses) & set(curve(other / f"{name}-{side}", "loss/train"))


@pytest.mark.parametrize("side", ["numpy", "torch"])
def test_one_side_alone_runs_as_beside_the_other(folder, run, side):
    alone = run(3, "--sides", side)
    for name in OPTIMIZERS:
        losses = curve(folder / f"{name}-{side}", "loss/train")[:3]
        assert curve(alone / f"{name}-{side}", "loss/train") == losses
    assert {path.name for path in alone.iterdir() if "-" in path.name} == {
        *(f"{name}-{side}" for name in OPTIMIZERS),
        f"valley-{side}",
    }
    assert apart(alone, "SGD") is None


STARTED = """
import multiprocessing, sys
from torchopt_ref.cli import main
from torchopt_ref.experiments.lab import processes

method = sys.argv.pop(1)
processes.context = lambda: multiprocessing.get_context(method)
sys.exit(main(sys.argv[1:]))
"""


# The server that forks the processes imports torch first, which takes most of the time.
@pytest.mark.parametrize("method", only(["fork"], ["fork", "forkserver"]))
def test_two_processes_give_the_same_results_as_one(method, run, starter, tmp_path):
    one = results(run(3, "--sides", "torch"))
    options = [*SMALL, "--iterations", "30", "--sides", "torch", "--jobs", "2"]
    arguments = [method, "run", "optimizers", *options, "--out", tmp_path / "out"]
    log = tmp_path / "log"
    assert starter.wait(starter.start(arguments, log, STARTED)) == 0, log.read_text()
    (folder,) = (tmp_path / "out" / "optimizers").iterdir()
    two = results(folder)
    assert one.pop("environment").keys() == two.pop("environment").keys()
    assert one == two


def test_the_table_shows_each_number_and_how_to_see_the_curves(tmp_path, capsys, agrees_soon):
    parent = tmp_path / "a folder"
    command = ["run", "optimizers", "--iterations", "1", "--seeds", "1", "--jobs", "1"]
    assert main([*command, "--out", str(parent)]) == 0
    out, err = capsys.readouterr()
    (folder,) = (parent / "optimizers").iterdir()
    rows = [line.split() for line in out.splitlines() if line.startswith(tuple(OPTIMIZERS))][:10]
    assert [row[:2] for row in rows] == [[n, e] for n in OPTIMIZERS for e in ("NumPy", "torch")]
    sgd = numbers(folder, "SGD", "numpy")
    assert rows[0][3:5] == [f"{sgd['loss']:.4g}", f"{sgd['test_accuracy']:.4g}"]
    seconds = results(folder)["environment"]["seconds"].values()
    one, other = (sum(each.get(side, 0) for each in seconds) for side in ("numpy", "torch"))
    assert f"Seconds of training, from each seed: {one:.1f} (NumPy), {other:.1f} (torch)" in out
    assert max(map(len, out.splitlines()[:-1])) <= 80
    last = out.splitlines()[-1]
    hint = shlex.split(last.removeprefix("See the curves: "))
    assert hint == ["torchopt-ref", "tensorboard", str(folder)]
    # The terminal has a bar; a log has a line for each unit.
    writing, *progress = err.splitlines()
    assert writing == f"Writing to {folder}"
    units = [f"{path.stem}" for path in (folder / "units").iterdir()]
    assert len(progress) == len(units) == 11
    for number, line in enumerate(progress, start=1):
        start, name = line.split(", ")
        assert start == f"optimizers: {number} of 11"
        units.remove(name)


def test_a_folder_below_the_current_one_is_named_as_seen_from_there(tmp_path, capsys, monkeypatch):
    make_all(tmp_path / "runs", ["overfit"])
    monkeypatch.chdir(tmp_path)
    for out in ("runs", str(tmp_path / "runs")):
        assert main(["run", "overfit", "--out", out]) == 0
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.startswith("See the curves: torchopt-ref tensorboard runs/overfit/mnist-")


def test_what_is_finished_is_not_done_again_unless_forced(tmp_path, capsys):
    command = ["run", "optimizers", "--iterations", "2", "--seeds", "1", "--jobs", "1"]
    command += ["--sides", "torch", "--out", str(tmp_path)]
    assert main(command) == 0
    (folder,) = (tmp_path / "optimizers").iterdir()
    finished = (folder / "results.json").stat().st_mtime_ns
    first, _ = capsys.readouterr()
    assert main(command) == 0
    again, err = capsys.readouterr()
    assert again == first
    assert "Finished earlier (--force runs it again)" in err
    assert (folder / "results.json").stat().st_mtime_ns == finished
    assert main([*command, "--force"]) == 0
    assert (folder / "results.json").stat().st_mtime_ns > finished


def test_an_interrupted_run_resumes_from_the_last_finished_unit(tmp_path, capsys):
    command = ["run", "optimizers", "--iterations", "2", "--seeds", "2", "--jobs", "1"]
    command += ["--sides", "torch", "--out", str(tmp_path)]
    assert main(command) == 0
    (folder,) = (tmp_path / "optimizers").iterdir()
    whole = results(folder)
    (folder / "results.json").unlink()
    for name in ("SGD-seed1", "Adam-seed0"):
        (folder / "units" / f"{name}.json").unlink()
    kept = folder / "units" / "SGD-seed0.json"
    before = kept.stat().st_mtime_ns
    capsys.readouterr()
    assert main(command) == 0
    assert kept.stat().st_mtime_ns == before
    resumed = results(folder)
    assert whole.pop("environment").keys() == resumed.pop("environment").keys()
    assert whole == resumed


@pytest.mark.parametrize("dialect", only(["keras"], ["torch", "keras"]))
def test_another_dialect_is_run_told_and_kept_apart(run, dialect):
    """Both sides compute it alike, and its learning rates are the book's."""
    folder, book = run(1, "--dialect", dialect), run(1)
    assert folder.name != book.name
    found, of_the_book = results(folder), results(book)
    assert (found["config"]["dialect"], of_the_book["config"]["dialect"]) == (dialect, "book")
    _, _, *claims = (each["claim"] for each in found["claims"])
    for said in (found["tried"], *found["figures"].values(), *claims):
        assert all(DIALECTS[dialect].en in text for text in said), said
    assert "the textbook's learning rates" in found["tried"][0]
    check_both_languages(folder)
    assert "with the textbook's hyper-parameters" in of_the_book["tried"][0]
    valley, books = (each["units"]["valley-seed0"] for each in (found, of_the_book))
    assert valley["numpy"]["numbers"] == pytest.approx(valley["torch"]["numbers"], rel=1e-9)
    for name in ("AdaGrad", "RMSprop", "Adam"):
        assert valley["torch"]["numbers"][name] != books["torch"]["numbers"][name]


def test_the_textbooks_run_is_that_of_before(run):
    """The learning rates that it is given are the defaults of the book's optimizers."""
    for method in [*OPTIMIZERS, "Nesterov"]:
        configuration = in_dialect(method, "book")
        assert configuration.name == f"book.{method}"
        usual = configuration.known.reference().hyper
        assert configuration.reference().hyper == usual


@pytest.mark.parametrize("dialect", DIALECTS)
def test_momentum_is_momentum_where_a_dialect_has_no_class_for_it(dialect):
    """With a gradient of 1, Momentum's first two steps are lr and 1.9 lr; Nesterov's are longer."""
    gone = {}
    for method in ("Momentum", "Nesterov"):
        params = {"x": np.zeros(1)}
        optimizer = in_dialect(method, dialect, 0.1).reference()
        for _ in range(2):
            optimizer.update(params, {"x": np.ones(1)})
        gone[method] = -float(params["x"][0])
    assert gone["Momentum"] == pytest.approx(0.29)
    assert gone["Nesterov"] == pytest.approx(0.461)


def test_the_bound_of_a_step_grows_with_what_a_dialects_eps_magnifies():
    bounds = {
        (method, dialect): bound_of(in_dialect(method, dialect))
        for method in OPTIMIZERS
        for dialect in DIALECTS
    }
    larger = {("AdaGrad", "torch"): 2.0**28, ("RMSprop", "torch"): 2.0**21}
    for key, bound in bounds.items():
        usual = STEP_ULP if key[0] in ("SGD", "Momentum") else ADAPTIVE_STEP_ULP
        assert bound >= usual
        if key[1] != "optax":
            assert bound == larger.get(key, usual), key


def test_the_claim_on_reaching_sgds_loss():
    """Made-up curves: Adam reaches SGD's final loss at once, Momentum never."""

    def outcome(curve):
        numbers = {"loss": float(np.mean(curve[-10:])), "test_accuracy": 0.5}
        return {"torch": {"curves": {"loss/train": curve}, "numbers": numbers}}

    falling = np.linspace(2, 1, 100)
    curves = {name: np.full(100, 0.5) for name in OPTIMIZERS} | {"SGD": falling}
    config = optimizers.Config(sides="torch")

    def reaching(curves, seeds=(0, 1)):
        outcomes = {(n, seed): outcome(list(curves[n])) for n in OPTIMIZERS for seed in seeds}
        claim, _ = report.claims(Results(outcomes, ["torch"]), config)
        return claim.sides["torch"]

    assert reaching(curves).outcome == HOLDS
    never = reaching(curves | {"Momentum": np.full(100, 1.5)})
    assert never.outcome == FAILS
    assert "never/never (Momentum)" in never.evidence.en
    assert "从未/从未（Momentum）" in never.evidence.zh
    late = np.where(np.arange(100) < 60, 2.0, 0.5)
    assert reaching(curves | {"RMSprop": late}).outcome == FAILS
    assert reaching(curves, seeds=[0]).outcome == UNDECIDED
    for name in ("SGD", "Adam"):
        assert reaching(curves | {name: np.full(100, np.nan)}).outcome == UNDECIDED


def test_the_images_come_from_the_data_root(tmp_path):
    rng = np.random.default_rng(0)
    write_fashion(tmp_path, train=(5, rng), t10k=(3, rng))
    options = ["--dataset", "fashion", "--data-root", str(tmp_path), "--iterations", "1"]
    out = ["--out", str(tmp_path / "out"), "--batch-size", "5", "--sides", "torch"]
    assert main(["run", "optimizers", "--seeds", "1", "--jobs", "1", *options, *out]) == 0
    (folder,) = (tmp_path / "out" / "optimizers").iterdir()
    accuracy = numbers(folder, "SGD", "torch")["test_accuracy"]
    assert accuracy in (0, 1 / 3, 2 / 3, 1)
