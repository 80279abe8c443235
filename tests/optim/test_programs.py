"""Rules taken apart: every rule of ours has a program, and one that has none still runs."""

import pytest
import torch

from torchopt_ref import optim
from torchopt_ref.optim import Optimizer, Rule, by_convention
from torchopt_ref.optim.engines import Vectors, foreach
from torchopt_ref.optim.engines.foreach import SHARE, SLICE
from torchopt_ref.optim.engines.formula import formula
from torchopt_ref.optim.engines.program import program
from torchopt_ref.optim.exact import sqrt
from torchopt_ref.testing import configurations

CASES = [
    pytest.param(each, id=f"{each.optimizer}-{each.convention}-{each.options}")
    for each in configurations()
]
SIZES = (40_000, 2 * SLICE + 1)


def steps(make, sizes=SIZES, dtype=torch.float32, count=3):
    generator = torch.Generator().manual_seed(0)
    params = [torch.randn(size, generator=generator, dtype=dtype) for size in sizes]
    optimizer = make([param.requires_grad_() for param in params])
    for _ in range(count):
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator, dtype=dtype)
        optimizer.step()
    slots = [slot for param in params for slot in optimizer.state.get(param, {}).values()]
    return [param.detach() for param in params], slots


def assert_same(one, other):
    for tensors, expected in zip(one, other, strict=True):
        for tensor, same in zip(tensors, expected, strict=True):
            assert torch.equal(tensor, same)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("configuration", CASES)
def test_in_place_and_in_slices_is_the_same(configuration, dtype):
    assert_same(
        steps(configuration.ours, dtype=dtype),
        steps(lambda params: configuration.ours(params, foreach=False), dtype=dtype),
    )


@pytest.mark.parametrize("threads", [2, 3])
def test_slices_are_divided_among_threads(threads):
    before = torch.get_num_threads()
    sizes = (40_000, threads * SHARE + 1, 3)
    try:
        torch.set_num_threads(threads)
        found = steps(optim.Adam, sizes)
    finally:
        torch.set_num_threads(before)
    assert_same(found, steps(lambda params: optim.Adam(params, foreach=False), sizes))


class Keeping(Optimizer):
    """It keeps the gradient, times a number that is one."""

    @staticmethod
    def update(param, grad, slots, *, lr, one):
        return param - lr * (grad * one + slots["kept"]), {"kept": grad * one}

    conventions = {
        "torch": Rule(
            update=update,
            slots=lambda group: {"kept": 0.0},
            scalars=lambda group, step, fresh: {"lr": group["lr"], "one": 1.0},
            counts=False,
        )
    }

    @by_convention
    def __init__(
        self, params, lr=1e-3, weight_decay=0.0, *, foreach=None, fused=None, differentiable=False
    ): ...


def test_a_product_with_one_that_is_kept_is_written():
    assert_same(steps(Keeping), steps(lambda params: Keeping(params, foreach=False)))


@pytest.mark.parametrize("configuration", CASES)
def test_every_rule_has_a_program_of_few_buffers(configuration):
    """Without one the default engine is slow, which no other test would notice."""
    params = [torch.ones(2, requires_grad=True)]
    optimizer = configuration.ours(params)
    (group,) = optimizer.param_groups
    rule = optimizer.rule(group["convention"])
    scalars = rule.all_scalars(group, 3, 0)
    form = Vectors([], tuple(rule.slots(group)), scalars).form(rule)
    own = program(form)
    assert own is not None
    assert own.scratch <= 4
    computed = formula(form).evaluate(scalars)
    assert all(isinstance(value, (int, float)) for value in computed.values())


def rule_of(update, slots=None):
    names = slots or {}
    return Rule(update, lambda group: names, lambda *_: {"lr": 0.5}, counts=False)


def late_reader(param, grad, slots, *, lr):
    """Its first result would overwrite what the second one needs."""
    new = param - lr * grad
    return new, {"a": slots["a"] + param}


def swapper(param, grad, slots, *, lr):
    return slots["a"], {"a": param}


def signed(param, grad, slots, *, lr):
    return param - lr * torch.sign(grad), {"a": slots["a"] + 1}


def number_first(param, grad, slots, *, lr):
    return 1 - lr * param, {"a": 2 / (3 + slots["a"] * slots["a"])}


def one_result_twice(param, grad, slots, *, lr):
    new = param - lr * grad
    return new, {"a": new}


def method(param, grad, slots, *, lr):
    return param - lr * grad.sign(), {"a": slots["a"] + 1}


def looks_at_values(param, grad, slots, *, lr):
    return (param - grad if lr > 0 else param + grad), {"a": slots["a"]}


@pytest.mark.parametrize(
    "update",
    [late_reader, swapper, signed, number_first, one_result_twice, method, looks_at_values],
)
@pytest.mark.parametrize("engine", [{}, {"fused": True}])
def test_a_rule_without_a_program_runs_all_the_same(update, engine):
    rule = rule_of(update, {"a": 0.25})
    assert program(Vectors([], ("a",), {"lr": 0.5}).form(rule)) is None

    class Own(Optimizer):
        conventions = {"torch": rule}

        @by_convention
        def __init__(self, params, lr=0.5, *, foreach=None, fused=None, differentiable=False): ...

    assert_same(
        steps(lambda params: Own(params, **engine), sizes=(40_000,)),
        steps(lambda params: Own(params, foreach=False), sizes=(40_000,)),
    )


def test_numbers_may_have_roots():
    rule = rule_of(lambda p, g, s, *, lr: (p - sqrt(lr) * g, {}))
    param = torch.ones(40_000)
    foreach(rule, Vectors([[param, torch.ones(40_000)]], (), {"lr": 0.25}))
    assert (param == 0.5).all()


def test_programs_are_for_vectors_of_one_dtype():
    """A float32 parameter with float64 slots is computed as float64 and rounded."""
    rule = rule_of(lambda p, g, s, *, lr: (p - lr * g * s["a"], {"a": s["a"] + g}))
    pieces = [[torch.rand(40_000), torch.rand(40_000), torch.rand(40_000, dtype=torch.float64)]]
    expected, slots = rule(pieces[0][0].clone(), pieces[0][1], {"a": pieces[0][2].clone()}, lr=0.1)
    foreach(rule, Vectors(pieces, ("a",), {"lr": 0.1}))
    assert torch.equal(pieces[0][0], expected.float())
    assert torch.equal(pieces[0][2], slots["a"])
