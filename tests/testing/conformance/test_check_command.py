"""``torchopt-ref check``: the table, the JSON file, the exit statuses, one line per mistake."""

import json
import re

import pytest

from torchopt_ref.cli import main

SGD = ["check", "torch.optim:SGD"]
ASGD = ["check", "torch.optim:ASGD"]


def test_a_passing_optimizer_is_a_table_and_status_0(capsys):
    assert main(SGD) == 0
    out = capsys.readouterr().out
    assert re.search(r"^descends_on_a_quadratic +passed ", out, re.MULTILINE)
    assert re.search(r"^SGD: \d+ passed, 0 failed, \d+ skipped$", out, re.MULTILINE)


def test_a_failing_optimizer_is_status_1_and_the_report_is_written(tmp_path, capsys):
    assert main([*ASGD, "--json", str(tmp_path / "report.json")]) == 1
    report = json.loads((tmp_path / "report.json").read_text())
    failed = {each["check"] for each in report["results"] if each["outcome"] == "failed"}
    assert "scheduled_lr_is_obeyed_at_the_next_step" in failed
    assert report["passed"] is False


def test_arguments_and_traits_are_passed_on(capsys):
    options = ["--kwargs", '{"lr": 0.02, "betas": [0.8, 0.9]}', "--state-bytes", "2"]
    assert main(["check", "torch.optim:Adam", *options, "--traits", "lr_free,stochastic"]) == 0
    out = capsys.readouterr().out
    assert "Adam(lr=0.02, betas=[0.8, 0.9]): " in out
    assert re.search(r"^lr_zero_moves_nothing +skipped .*lr_free", out, re.MULTILINE)
    assert re.search(r"^order_of_parameters_changes_nothing +skipped .*stoch", out, re.MULTILINE)


def test_a_function_and_a_module_of_the_working_directory_will_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine_to_check.py").write_text(
        "import torch\ndef make(params):\n    return torch.optim.SGD(params, lr=0.01)\n"
    )
    assert main(["check", "mine_to_check:make"]) == 0
    assert "make: " in capsys.readouterr().out


def test_help(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["check", "--help"])
    assert not exit.value.code
    out = capsys.readouterr().out
    assert all(word in out for word in ("MODULE:CLASS", "--kwargs", "needs_closure", "--json"))


def test_expected_failures_keep_status_0(tmp_path, capsys):
    known = [
        "scheduled_lr_is_obeyed_at_the_next_step",
        "bfloat16_state_keeps_its_dtype_through_load",
    ]
    expect = [word for name in known for word in ("--expect", f"{name}=torch's = own")]
    assert main([*ASGD, *expect, "--json", str(tmp_path / "report.json")]) == 0
    assert "2 failed as expected" in capsys.readouterr().out
    results = json.loads((tmp_path / "report.json").read_text())["results"]
    expected = {each["check"]: each["detail"] for each in results if each["outcome"] == "expected"}
    assert expected.keys() == set(known)
    assert all(detail.startswith("torch's = own (") for detail in expected.values())


def test_references_of_each_kind(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "plain_sgd.py").write_text(
        "class Plain:\n"
        "    def __init__(self, rate=0.1):\n"
        "        self.rate, self.state = rate, {}\n"
        "    def update(self, params, grads):\n"
        "        for name, param in params.items():\n"
        "            param -= self.rate * grads[name]\n"
    )
    shown = r"^has_the_formula_of_its_reference +passed "
    assert main(["check", "torchopt_ref.optim:SGD", "--reference", "sgd", "--max-ulp", "0"]) == 0
    out = capsys.readouterr().out
    assert re.search(shown, out, re.MULTILINE)
    assert re.search(r"^equals_its_reference +passed +up to 0 ULP", out, re.MULTILINE)
    assert main([*SGD, "--reference", "torch.optim:SGD"]) == 0
    assert re.search(shown, capsys.readouterr().out, re.MULTILINE)
    mine = [*SGD, "--reference", "plain_sgd:Plain"]
    assert main([*mine, "--reference-kwargs", '{"rate": 0.001}']) == 0
    assert main(mine) == 1
    assert "not rounding: the formulas differ with the defaults" in capsys.readouterr().out


MISTAKES = {
    "nothing": (["check"], "the following arguments are required: MODULE:CLASS"),
    "no class": (["check", "torch.optim"], "'torch.optim' names no optimizer: write package"),
    "no module": (["check", "nowhere:SGD"], "cannot import nowhere: ModuleNotFoundError"),
    "class": (["check", "torch.optim:Adma"], "unknown name in torch.optim 'Adma': did you mean"),
    "no optimizer": (["check", "torch.nn:Linear"], "torch.nn:Linear is not a torch.optim.Optim"),
    "no callable": (["check", "math:pi"], "math:pi is not a torch.optim.Optimizer, nor a"),
    "makes no optimizer": (["check", "builtins:sum"], "cannot make an optimizer of builtins:sum"),
    "abstract": (["check", "torch.optim:Optimizer"], "cannot make an optimizer of torch.optim"),
    "bad JSON": ([*SGD, "--kwargs", "{lr: 1}"], "--kwargs is not JSON: Expecting property name"),
    "no object": ([*SGD, "--kwargs", "[1]"], "--kwargs must be a JSON object such as"),
    "no such argument": ([*SGD, "--kwargs", '{"lrr": 1}'], "unexpected keyword argument 'lrr'"),
    "bad argument": ([*SGD, "--kwargs", '{"lr": -1}'], "Invalid learning rate: -1: see --kwargs"),
    "trait": ([*SGD, "--traits", "lrfree"], "unknown trait 'lrfree': did you mean 'lr_free'?"),
    "reference": ([*SGD, "--reference", "SDG"], "unknown reference 'SDG': did you mean 'SGD'?"),
    "no reference": ([*SGD, "--reference", "builtins:dict"], "dict makes no reference: that is a"),
    "no function": ([*SGD, "--reference", "math:pi"], "math:pi is neither a class nor a function"),
    "its arguments": (
        [*SGD, "--reference", "SGD", "--reference-kwargs", '{"x": 1}'],
        "cannot make the reference SGD(x=1): ",
    ),
    "no need of": ([*SGD, "--max-ulp", "0"], "need a --reference"),
    "negative": ([*SGD, "--reference", "SGD", "--max-ulp", "-1"], "--max-ulp must be at least 0"),
    "expect what": ([*SGD, "--expect", "repr=x"], "unknown check 'repr': "),
    "expect why": ([*SGD, "--expect", "repr_names_the_class"], "gives no reason: write CHECK="),
    "expect twice": ([*SGD, "--expect", "a=b", "--expect", "a=c"], "names a twice"),
    "closure": (["check", "torch.optim:Muon"], "--traits two_dimensional_only"),
    "json": ([*SGD, "--json", "/nowhere/x"], "cannot write /nowhere/x: No such file"),
}


@pytest.mark.parametrize(("arguments", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_status_2(arguments, said, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("torchopt-ref: ")
    assert said in err
