"""Every suite: who takes part, that they compute the same, and that another would be refused."""

import runpy
import shutil
import sys
from functools import partial
from subprocess import CompletedProcess

import pytest
import torch

from torchopt_ref.benchmarks import (
    contestants,
    first_step,
    layers,
    load,
    optim,
    script,
    shapes,
    training,
)
from torchopt_ref.benchmarks.__main__ import main
from torchopt_ref.benchmarks.timing import NotTheSame, compare, prepared
from torchopt_ref.errors import UserError

CPU = torch.device("cpu")
WHO = ["torch default", "torch fused", "ours"]
SMALL_CASES = {
    "optim": "Adam, small CNN",
    "load": "small CNN",
    "training": "MLP",
    "sweep-size": "1,000 elements",
    "sweep-count": "3 x 64",
}


@pytest.mark.parametrize("suite", SMALL_CASES)
def test_ours_with_default_flags_takes_part(bench, suite):
    written = bench(suite, "--only", SMALL_CASES[suite])["results"]
    assert [result["contestant"] for result in written] == [
        *WHO,
        *["in-place add"] * suite.startswith("sweep"),
    ]
    assert contestants.WHO["ours"] == {}


@pytest.mark.parametrize("suite", SMALL_CASES)
def test_a_contestant_that_is_wrong_is_refused(suite, monkeypatch, capsys):
    # A whole training is checked by its first step, which is the same for all betas.
    wrong = {"lr": 1.01e-3} if suite == "training" else {"betas": (0.9, 0.99)}
    monkeypatch.setitem(contestants.WHO, "ours", wrong)
    assert main([suite, "--only", SMALL_CASES[suite], "--rounds", "2"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "'ours' does not compute the same as 'torch default'" in error


def test_the_bars_of_a_step():
    pytest.importorskip("torchvision")
    measured = {
        case.name.partition(": ")[0]: (
            list(case.against),
            [c.bar for c in case.contestants if c.bar],
        )
        for case in optim.cases(CPU)
    }
    fused, loops, both = ["torch fused"], ["torch default", "torch foreach"], WHO[:2]
    models = "ResNet-18", "ResNet-50", "MobileNetV3", "ViT-B/16"
    other = "a gradient missing, another each step", "after a checkpoint", "10 groups"
    assert measured == {
        **{f"Adam, {model}": (fused, [1.03]) for model in models},
        "AdaGrad, ResNet-18": (fused, [1.0]),
        "SGD, ResNet-18": (fused, [1.0]),
        "RMSprop, ResNet-18": (loops, [0.37]),
        "RMSprop, ResNet-50, bfloat16": (loops, [0.6]),
        "Adam, ResNet-50, bfloat16": ([*loops, "torch fused"], [0.6]),
        **{
            f"{name}, {model}": (both, [1.05])
            for name in ("Adam", "SGD")
            for model in ("MLP", "small CNN")
        },
        "Adam, 1,000 x 64": (fused, [0.55]),
        **{f"Adam, 1,000 x 64, {what}": (fused, [0.65]) for what in other},
        "Adam, 1,000 x 64, foreach=False": (["torch eager"], [1.0]),
        **{
            f"{dialect}.{what}": bar
            for dialect in ("keras", "optax")
            for what, bar in {
                **{f"{name}, ResNet-18": (fused, [1.03]) for name in ("Adam", "Adagrad", "SGD")},
                "RMSprop, ResNet-18": (loops, [0.37]),
                "Adam, MLP": (both, [1.05]),
            }.items()
        },
        "first step of a process, no compiler on PATH": (["100 ms"], [1.0]),
    }


def test_on_cuda_ours_meets_foreach_and_fused():
    pytest.importorskip("torchvision")
    names = {}
    for case in optim.cases(torch.device("cuda")):
        names[case.name] = [c.name for c in case.contestants if not c.yardstick][:3]
    best = ["torch foreach", "torch fused", "ours"]
    sizes = "ResNet-50: 161", "ViT-B/16: 152", "transformer of a billion: 220", "1,000 x 64: 1,000"
    assert [names[f"Adam, {size} tensors"] for size in sizes] == [best] * 4
    assert shapes.elements(shapes.transformer()) == pytest.approx(1e9, rel=0.03)


def test_a_step_of_adam_moves_28_bytes_for_an_element(bench):
    written = bench("sweep-size", "--only", "1,000 elements")["results"]
    moved = {result["contestant"]: result["bytes_moved"] for result in written}
    assert moved == dict.fromkeys(WHO, 28_000) | {"in-place add": 12_000}
    assert {result["at"] for result in written} == {1000}


@pytest.mark.parametrize(
    ("name", "options"), [("RMSprop", {}), ("AdaGrad", {}), ("SGD", {"momentum": 0.9})]
)
def test_the_other_optimizers_compute_the_same(name, options, monkeypatch):
    monkeypatch.setattr(optim, "LARGE", 22)
    against = ["torch foreach" if name == "RMSprop" else "torch fused"]
    case = optim.case(name, "two tensors", [(3, 5), (7,)], CPU, against, bar=0.5, **options)
    prepared(case)
    ours = case.contestants[2]
    assert (ours.name, ours.bar, case.against) == ("ours", 0.5, against)
    # Parameter, gradient and one slot are read, parameter and slot are written.
    assert ours.bytes_moved == 22 * 5 * 4


@pytest.mark.parametrize("name", ["keras.Adam", "optax.Adagrad"])
def test_what_torch_does_not_have_is_held_against_our_eager_engine(name, monkeypatch):
    """torch's optimizer of the same name is the yardstick of the time."""
    shapes = [(3, 5), (7,)]
    case = optim.case(name, "two tensors", shapes, CPU, bar=0.5)
    prepared(case)
    entered = {c.name: (c.yardstick, c.bar) for c in case.contestants}
    assert entered == {
        "ours eager": (False, None),
        "torch default": (True, None),
        "torch fused": (True, None),
        "ours": (False, 0.5),
    }
    assert case.against == ("torch fused",)
    monkeypatch.setitem(contestants.WHO, "ours", {"lr": 2e-3})
    with pytest.raises(NotTheSame, match="'ours' does not compute the same as 'ours eager'"):
        prepared(optim.case(name, "two tensors", shapes, CPU))


MISSING = partial(contestants.steps, one_missing=True)
WORKS = {
    "one missing": {"make": MISSING},
    "after a checkpoint": {"make": partial(contestants.steps, state_read=True)},
    "two groups": {"make": partial(contestants.steps, groups=2)},
    "bfloat16": {"dtype": torch.bfloat16},
    "eager": {"ours": "ours eager", "against": ["torch eager"]},
}


@pytest.mark.parametrize("options", WORKS.values(), ids=WORKS)
def test_every_work_is_done_by_all_and_refused_where_it_is_done_wrong(options, monkeypatch):
    case = optim.case("Adam", "tensors", [(64,)] * 6, CPU, **options)
    prepared(case)
    label = options.get("ours", "ours")
    monkeypatch.setitem(contestants.WHO, label, {"weight_decay": 0.1, "lr": 2e-3})
    with pytest.raises(NotTheSame):
        prepared(optim.case("Adam", "tensors", [(64,)] * 6, CPU, **options))


def test_a_step_goes_without_one_gradient_and_without_another_the_next_time():
    missing = []

    class Noted(torch.optim.SGD):
        def step(self):
            params = self.param_groups[0]["params"]
            missing.append([i for i, param in enumerate(params) if param.grad is None])

    run = MISSING([(2,)] * 3, CPU, Noted)
    params = run()
    assert missing == [[0], [1], [2], [0]]
    assert all(param.grad is not None for param in params)


def test_groups_differ_in_the_rate_and_share_the_parameters():
    groups = contestants.in_groups(range(7), 3)
    assert [group["params"] for group in groups] == [range(0, 7, 3), range(1, 7, 3), range(2, 7, 3)]
    assert len({group["lr"] for group in groups}) == 3


def test_other_processes_work_while_a_step_under_load_is_timed(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert {case.during for case in load.cases(CPU)} == {load.busy}
    with load.busy() as processes:
        (process,) = processes
        assert process.poll() is None
    assert process.returncode == 0


def test_adam_of_another_package_takes_part_where_it_is_installed(tmp_path, monkeypatch):
    padam = "def PAdam(params, lr, eps, partial):\n    return Adam(params, lr, eps=eps)\n"
    for module in ("optimi", "pytorch_optimizer"):
        (tmp_path / f"{module}.py").write_text(f"from torch.optim import Adam\n{padam}")
    for module in ("optimi", "pytorch_optimizer"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    case = optim.case("Adam", "one tensor", [(5,)], CPU, packages=True)
    assert [c.name for c in case.contestants] == [*WHO, *optim.THIRD_PARTY]
    prepared(case)
    for module in ("optimi", "pytorch_optimizer"):
        monkeypatch.delitem(sys.modules, module)


def test_a_large_step_is_compared_with_the_bandwidth_of_a_sum(monkeypatch):
    monkeypatch.setattr(optim, "LARGE", 310)
    case = optim.case("Adam", "two tensors", [(30, 10), (10,)], CPU, dtype=torch.bfloat16)
    *_, ours, add = case.contestants
    assert (ours.bytes_moved, add.bytes_moved, add.yardstick) == (14 * 310, 6 * 310, True)
    (total,) = add.make()()
    assert torch.equal(total, torch.ones(310, dtype=torch.bfloat16))


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


@pytest.mark.slow
def test_all_take_the_same_first_step():
    case = first_step.case()
    _, ours, limit = prepared(case)
    assert case.sample(ours) > 0
    assert case.sample(limit) == 0.1


def test_the_first_step_is_taken_by_a_command_that_finds_no_compiler(monkeypatch, capfd):
    """The command is carried out here: a process of its own would import torch first."""
    case = first_step.case()
    assert [c.name for c in case.contestants] == ["torch fused", "ours", "100 ms"]
    environments = []

    def run_here(command, env, **options):
        environments.append(env)
        python, flag, module, *arguments = map(str, command)
        assert (python, flag) == (sys.executable, "-m")
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        monkeypatch.delitem(sys.modules, module)
        capfd.readouterr()
        runpy.run_module(module, run_name="__main__")
        return CompletedProcess(command, 0, *capfd.readouterr())

    monkeypatch.setenv("CXX", "c++")
    monkeypatch.setattr(first_step.subprocess, "run", run_here)
    _, ours, limit = (contestant.make() for contestant in case.contestants)
    params, seconds = ours.process()
    assert seconds > 0
    assert case.sample(limit) == 0.1
    expected = first_step.parameters(first_step.shapes_of(first_step.mlp), CPU)
    first_step.factory("torch fused", "Adam")(expected).step()
    case.check(params, expected)
    (environment,) = environments
    assert "CXX" not in environment
    assert first_step.Path(environment["PATH"]).name.startswith("tmp")


def test_a_first_step_that_fails_is_one_line(monkeypatch):
    monkeypatch.setattr(first_step.sys, "executable", shutil.which("false"))
    with pytest.raises(UserError, match="no first step by 'ours': no reason given"):
        first_step.FirstStep("ours")()


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("suite", "only"),
    [
        ("optim", "1,000 x 64"),
        *(list(SMALL_CASES.items())[1:]),
        ("layers", "Dropout"),
        ("layers", "BatchNorm1d"),
    ],
)
def test_on_cuda(bench, suite, only):
    written = bench(suite, "--only", only, "--device", "cuda")
    assert written["machine"]["gpu"]
    assert all(result["seconds"]["median"] > 0 for result in written["results"])
    assert all(result["bar"] is None for result in written["results"])
    names = {result["contestant"] for result in written["results"]}
    assert ("ours, graph" in names) == (suite == "optim")


@pytest.mark.slow
def test_the_training_script_learns_what_a_plain_loop_does(monkeypatch):
    (case,) = (case for case in training.cases(CPU) if "train.py" in case.name)
    assert [each.bar for each in case.contestants] == [None, 1.02, 1.02]
    for timing in compare(case, rounds=2):
        assert 0.1 < timing.seconds.median < 600
    monkeypatch.setattr(script, "LR", 0.0)
    with pytest.raises(AssertionError):
        prepared(case)
