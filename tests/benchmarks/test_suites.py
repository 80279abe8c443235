"""Every suite: who takes part, that they compute the same, and that another would be refused."""

import sys

import pytest
import torch

from torchopt_ref.benchmarks import (
    bandwidth,
    contestants,
    first_step,
    layers,
    optim,
    script,
    training,
)
from torchopt_ref.benchmarks.__main__ import main
from torchopt_ref.benchmarks.timing import compare, prepared
from torchopt_ref.errors import UserError

CPU = torch.device("cpu")
ENGINES = ["torch default", "torch fused", "ours", "ours fused", "ours flat"]
SMALL_CASES = {
    "optim": "MLP",
    "training": "MLP",
    "sweep-size": "1,000 elements",
    "sweep-count": "3 x 64",
}


@pytest.mark.parametrize("suite", SMALL_CASES)
def test_each_engine_takes_part(bench, suite):
    written = bench(suite, "--only", SMALL_CASES[suite])
    names = [result["contestant"] for result in written["results"]]
    others = {"optim": [name for name, _ in optim.third_party()]}
    assert names == [*ENGINES, *others.get(suite, ["in-place add"] * suite.startswith("sweep"))]
    against = {result["contestant"]: result["against"] for result in written["results"]}
    assert (against["ours"], against["ours fused"]) == ("torch default", "torch fused")


@pytest.mark.parametrize("suite", SMALL_CASES)
def test_an_engine_is_added_in_one_place_and_refused_where_it_is_wrong(suite, monkeypatch, capsys):
    # A whole training is checked by its first step, which is the same for all betas.
    wrong = {"lr": 1.01e-3} if suite == "training" else {"betas": (0.9, 0.99)}
    monkeypatch.setitem(contestants.OURS, "wrong", (wrong, "torch fused"))
    assert main([suite, "--only", SMALL_CASES[suite], "--rounds", "2"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "'wrong' does not compute the same as 'torch default'" in error


def test_a_step_of_adam_moves_28_bytes_for_an_element(bench):
    written = bench("sweep-size", "--only", "1,000 elements")
    moved = {result["contestant"]: result["bytes_moved"] for result in written["results"]}
    assert moved == dict.fromkeys(ENGINES, 28_000) | {"in-place add": 12_000}
    assert {result["at"] for result in written["results"]} == {1000}


@pytest.mark.parametrize(
    ("name", "options"), [("RMSprop", {}), ("Adagrad", {}), ("SGD", {"momentum": 0.9})]
)
def test_the_other_optimizers_compute_the_same(name, options):
    case = optim.case(name, "two tensors", [(3, 5), (7,)], CPU, {"ours fused": 0.5}, **options)
    prepared(case)
    ours = case.contestants[-2]
    best = "torch default" if name == "RMSprop" else "torch fused"
    assert (ours.name, ours.against, ours.bar) == ("ours fused", best, 0.5)
    # Parameter, gradient and one slot are read, parameter and slot are written.
    assert ours.bytes_moved == 22 * 5 * 4


def test_adam_of_another_package_takes_part_where_it_is_installed(tmp_path, monkeypatch):
    padam = "def PAdam(params, lr, eps, partial):\n    return Adam(params, lr, eps=eps)\n"
    for module in ("optimi", "pytorch_optimizer"):
        (tmp_path / f"{module}.py").write_text(f"from torch.optim import Adam\n{padam}")
    for module in ("optimi", "pytorch_optimizer"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    case = optim.case("Adam", "one tensor", [(5,)], CPU, {})
    assert [c.name for c in case.contestants] == [*ENGINES, *optim.THIRD_PARTY]
    prepared(case)
    for module in ("optimi", "pytorch_optimizer"):
        monkeypatch.delitem(sys.modules, module)


def test_the_bandwidth_of_a_step_is_compared_with_that_of_a_sum():
    case = bandwidth.case("two tensors", [(30, 10), (10,)], CPU)
    timings = compare(case, rounds=2)
    *adam, add = case.contestants
    assert [c.against for c in adam] == ["in-place add"] * 5
    assert [c.bar for c in adam] == [None, None, None, pytest.approx(1 / 0.9), None]
    assert (adam[0].bytes_moved, add.bytes_moved) == (28 * 310, 12 * 310)
    assert timings[-1].ratio.median == 1
    (total,) = add.make()()
    assert torch.equal(total, torch.ones(310))


def test_every_case_of_the_layers_suite_has_equal_contestants():
    names = set()
    for case in layers.cases(CPU):
        names.add(case.name)
        prepared(case)
    assert len(names) == 10


def test_the_dropout_check_refuses_another_scale():
    case = next(c for c in layers.cases(CPU) if "Dropout (128, 100), forward" in c.name)
    (y,) = case.contestants[0].make()()
    case.check((y,), (y,))
    for wrong in (y * 1.01, torch.zeros_like(y), torch.full_like(y, 2)):
        with pytest.raises(AssertionError):
            case.check((y,), (wrong,))


def test_the_first_step_is_taken_in_a_process_of_its_own():
    case = next(iter(first_step.cases(CPU)))
    assert [c.name for c in case.contestants] == ["torch fused", "ours, C++"]
    theirs, _ = prepared(case)
    assert case.sample(theirs) > 0


@pytest.mark.slow
def test_the_first_step_by_torch_compile_with_and_without_its_cache():
    _, case = first_step.cases(CPU)
    _, fresh, cached = prepared(case)
    assert fresh.kept is None
    assert any(entry.is_dir() for entry in first_step.Path(cached.kept.name).iterdir())


@pytest.mark.slow
def test_a_first_step_by_another_engine_than_the_one_asked_for_is_refused(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match="no first step by the engine 'native'"):
        first_step.FirstStep("native")()


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("suite", "only"), [*SMALL_CASES.items(), ("layers", "Dropout"), ("layers", "BatchNorm1d")]
)
def test_on_cuda(bench, suite, only):
    written = bench(suite, "--only", only, "--device", "cuda")
    assert written["machine"]["gpu"]
    assert all(result["seconds"]["median"] > 0 for result in written["results"])
    assert all(result["bar"] is None for result in written["results"])
    names = {result["contestant"] for result in written["results"]}
    assert ("ours graph" in names) == (suite == "optim")


@pytest.mark.slow
def test_the_training_script_learns_what_a_plain_loop_does(monkeypatch):
    (case,) = (case for case in training.cases(CPU) if "train.py" in case.name)
    assert [each.bar for each in case.contestants] == [None, 1.02, 1.02]
    for timing in compare(case, rounds=2):
        assert 0.1 < timing.seconds.median < 600
    monkeypatch.setattr(script, "LR", 0.0)
    with pytest.raises(AssertionError):
        prepared(case)
