"""``torchopt-ref playground``."""

import os
import re

import pytest
import torch

from torchopt_ref import optim
from torchopt_ref.cli import main
from torchopt_ref.optim import Rule
from torchopt_ref.playground import page
from torchopt_ref.playground.javascript import optimizer


def test_it_writes_the_page_and_says_where(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["playground"]) == 0
    assert (tmp_path / "playground.html").read_text(encoding="utf-8") == page()
    assert str(tmp_path / "playground.html") in capsys.readouterr().out
    assert main(["playground", "--lang", "zh", "--out", "sub.html"]) == 0
    assert (tmp_path / "sub.html").read_text(encoding="utf-8") == page("zh")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["playground.html", "sub.html"]


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--lang", "fr"], ["--lang"], ["--out", "."], ["--out", ".."], ["--out", ""]),
        *(["--out", "missing/page.html"], ["--port", "1"], ["more"]),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["playground", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_device_keeps_its_place(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    assert main(["playground", "--out", str(tmp_path / "pipe")]) == 2
    assert "pipe: it is there, and no file" in capsys.readouterr().err
    assert [path.is_fifo() for path in tmp_path.iterdir()] == [True]


def own(update, scalars):
    class Own(optim.Optimizer):
        rule = Rule(update, lambda group: {}, scalars, counts=False)
        dialect = "own"

        def __init__(self, params, lr=0.5, late=10, sign=False, foreach=None, differentiable=False):
            flags = {"foreach": foreach, "differentiable": differentiable}
            super().__init__(params, {"lr": lr, "late": late, "sign": sign} | flags)

    return Own


def test_what_a_rule_asks_of_step_and_numbers_is_asked_in_javascript_too():
    """One that is warmed up: the learning rate grows until a step, and then stays."""

    def scalars(group, step, fresh):
        warm = group["lr"] if step >= group["late"] else group["lr"] * step / group["late"]
        return {"lr": warm, "sign": group["sign"]}

    def update(param, grad, slots, *, lr, sign):
        return (param + lr * grad if sign else param - lr * grad), {}

    text = optimizer(own(update, scalars))
    assert "(h.sign ? (t >= h.late ? 0 : 1) : (t >= h.late ? 2 : 3))" in text
    first, second, third, fourth = re.findall(r"const (lr = .*);\n.*\n.*= (.*);", text)
    assert first == ("lr = h.lr", "param[i] + lr * grad[i]")
    assert second == ("lr = h.lr * t / h.late", "param[i] + lr * grad[i]")
    assert third == ("lr = h.lr", "param[i] - lr * grad[i]")
    assert fourth == ("lr = h.lr * t / h.late", "param[i] - lr * grad[i]")


def test_signs_orders_of_rounding_and_reserved_words_stay_apart():
    def update(param, grad, slots, *, var):
        minus = -grad
        return param - (-minus * -0.5 / (var * (grad * 2)) - -param), {}

    text = optimizer(own(update, lambda group, step, fresh: {"var": group["lr"]}))
    expected = "param[i] - (-(-grad[i]) * -0.5 / (var1 * (grad[i] * 2)) - -param[i]);"
    assert f"const new_param = {expected}" in text


def test_what_makes_no_difference_is_not_asked_and_has_no_control():
    def scalars(group, step, fresh):
        return {"lr": group["lr"], "sign": bool(step > group["late"] or group["sign"])}

    def update(param, grad, slots, *, lr, sign):
        return param - lr * grad, {}

    text = optimizer(own(update, scalars))
    assert "form: (h, t, fresh) => 0," in text
    assert 'hyper: {"lr": ' in text
    assert "late" not in text
    assert "sign" not in text


def test_a_rule_without_a_formula_is_refused_by_name():
    def sign(param, grad, slots, *, lr):
        return param - lr * torch.sign(grad), {}

    with pytest.raises(NotImplementedError, match=r"own\.Own has no formula to translate"):
        optimizer(own(sign, lambda group, step, fresh: {"lr": group["lr"]}))
