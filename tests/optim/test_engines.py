"""Every engine computes the same, to the bit, whatever the parameters look like."""

import itertools
import os
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import numpy_ref.optax
from tests.thinned import in_turn
from torchopt_ref import optim
from torchopt_ref.optim import Optimizer, Rule, batch
from torchopt_ref.optim.engines import cpu, eager, memory
from torchopt_ref.optim.engines.formula import Form, formula
from torchopt_ref.optim.exact import sqrt
from torchopt_ref.sides import ENGINES as PROVEN
from torchopt_ref.sides import configurations
from torchopt_ref.testing import check_parity

CLASSES = [optim.SGD, optim.Momentum, optim.AdaGrad, optim.RMSprop, optim.Adam, optim.AdamW]
ENGINES = {
    "eager": {"foreach": False},
    "default": {},
    "fused": {"fused": True},
    "differentiable": {"differentiable": True},
}
by_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
by_engine = pytest.mark.parametrize("engine", ENGINES)
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def laid_out(kind, dtype=torch.float32, seed=0):
    """A tensor of each kind, with the values of a normal distribution."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        wide = torch.complex128 if dtype.is_complex else torch.float64
        return torch.randn(shape, generator=generator, dtype=wide).to(dtype)

    makers = {
        "vector": lambda: randn(7),
        "scalar": lambda: randn(),
        "one": lambda: randn(1),
        "empty": lambda: randn(0, 3),
        "transposed": lambda: randn(5, 4).t(),
        "every second": lambda: randn(10, 6)[::2],
        "slice": lambda: randn(6, 8)[1:5, 2:7],
        "channels last": lambda: randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "with an offset": lambda: randn(50)[3:],
        "large": lambda: randn(300, 150),
    }
    return makers[kind]()


KINDS = (
    "vector", "scalar", "one", "empty", "transposed", "every second", "slice", "channels last",
    "with an offset", "large",
)  # fmt: skip


def steps(cls, make_params, make_grads, count=3, **options):
    """Parameters and states after some steps."""
    tracked = options.get("differentiable")
    params = [param.requires_grad_(not tracked) for param in make_params()]
    optimizer = cls(params, lr=0.1, **options)
    for step in range(count):
        for param, grad in zip(params, make_grads(step), strict=True):
            param.grad = grad
        optimizer.step()
    states = [optimizer.state.get(param, {}) for param in params]
    return [param.detach() for param in params], states


def assert_same(one, other):
    for (param, state), (expected, expected_state) in zip(
        zip(*one, strict=True), zip(*other, strict=True), strict=True
    ):
        assert torch.equal(param, expected)
        assert param.stride() == expected.stride() or param.shape != expected.shape
        assert state.keys() == expected_state.keys()
        for name, slot in state.items():
            assert torch.equal(slot, expected_state[name]), name
            assert slot.dtype == expected_state[name].dtype


@pytest.fixture
def only_kernels(monkeypatch):
    """No other engine may take a step of the default one."""

    def refuse(*args):
        raise AssertionError("this was for the kernel")

    monkeypatch.setattr(eager, "update", refuse)


@pytest.mark.parametrize(
    ("cls", "engine"), in_turn(CLASSES, ["default", "fused", "differentiable"])
)
def test_every_layout_and_dtype_in_one_group(cls, engine):
    dtypes = FLOATS if engine == "fused" else (*FLOATS, torch.complex64, torch.complex128)
    cases = list(itertools.product(KINDS, dtypes))
    results = [
        steps(
            cls,
            lambda: [laid_out(*case) for case in cases],
            lambda step: [laid_out(*case, seed=step + 1) for case in cases],
            weight_decay=0.1,
            **ENGINES[name],
        )
        for name in (engine, "eager")
    ]
    assert_same(*results)


@by_engine
@by_class
def test_a_layout_changes_nothing(cls, engine):
    def contiguous(tensors):
        return [tensor.detach().contiguous().clone() for tensor in tensors]

    def make(seed):
        return [laid_out(kind, seed=seed) for kind in KINDS]

    params, states = steps(cls, lambda: make(0), lambda step: make(step + 1), **ENGINES[engine])
    expected, others = steps(
        cls,
        lambda: contiguous(make(0)),
        lambda step: contiguous(make(step + 1)),
        foreach=False,
    )
    for param, other in zip(params, expected, strict=True):
        assert torch.equal(param, other)
    for state, other in zip(states, others, strict=True):
        assert all(torch.equal(state[name], other[name]) for name in state)


@by_engine
@by_class
def test_gradients_of_another_layout(cls, engine):
    """As autograd leaves them, against the same gradients as the parameter lies."""
    shapes = ((4, 5), (2, 3, 4, 5), (30, 10), (6,), (6,), (2, 1, 3), (3, 3))

    def make_params():
        generator = torch.Generator().manual_seed(0)
        return [torch.randn(shape, generator=generator) for shape in shapes]

    def odd(step):
        generator = torch.Generator().manual_seed(step + 1)

        def randn(*shape, **options):
            return torch.randn(shape, generator=generator, **options)

        return [
            randn(1, 1).expand(4, 5),
            randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
            randn(10, 30).t(),
            torch._neg_view(randn(6)),
            randn(12)[::2],
            randn(2, 2, 3)[:, :1],
            randn(3, 3, dtype=torch.complex64).conj().imag,
        ]

    def even(step):
        return [grad.resolve_neg().contiguous().clone() for grad in odd(step)]

    assert_same(
        steps(cls, make_params, odd, **ENGINES[engine]),
        steps(cls, make_params, even, foreach=False),
    )


@pytest.mark.parametrize("engine", ["default", "eager", "differentiable"])
@by_class
def test_gradients_that_are_conjugate_views(cls, engine):
    def make(seed):
        return [laid_out(kind, torch.complex64, seed=seed) for kind in ("vector", "transposed")]

    def odd(step):
        one, other = make(step + 1)
        return [one.conj(), torch._neg_view(other)]

    def even(step):
        return [grad.resolve_conj().resolve_neg().clone() for grad in odd(step)]

    assert_same(
        steps(cls, lambda: make(0), odd, **ENGINES[engine]),
        steps(cls, lambda: make(0), even, foreach=False),
    )


@by_engine
@by_class
def test_parameters_without_gradient_stand_still_and_count_nothing(cls, engine):
    """Each parameter misses other steps: as if each had an optimizer of its own."""

    def gradient(step, index):
        if (step + index) % 3 == 0:
            return None
        return torch.randn(50, generator=torch.Generator().manual_seed(10 * step + index))

    def make_params():
        generator = torch.Generator().manual_seed(0)
        return [torch.randn(50, generator=generator) for _ in range(4)]

    together = steps(
        cls,
        make_params,
        lambda step: [gradient(step, index) for index in range(4)],
        count=7,
        **ENGINES[engine],
    )
    for index in range(4):
        (param,), (state,) = steps(
            cls,
            lambda index=index: [make_params()[index]],
            lambda step, index=index: [gradient(step, index)],
            count=7,
            foreach=False,
        )
        assert torch.equal(together[0][index], param)
        for name, slot in state.items():
            assert torch.equal(together[1][index][name], slot)


@by_engine
@by_class
def test_ten_groups_are_ten_optimizers(cls, engine):
    tracked = engine != "differentiable"
    options = [{"lr": 0.1 / (1 + n), "weight_decay": 0.01 * n} for n in range(10)]

    def make():
        return [laid_out("vector", seed=n).requires_grad_(tracked) for n in range(10)]

    together, alone = make(), make()
    groups = [{"params": [param], **own} for param, own in zip(together, options, strict=True)]
    one = cls(groups, **ENGINES[engine])
    ten = [cls([param], foreach=False, **own) for param, own in zip(alone, options, strict=True)]
    for step in range(3):
        for index, (param, other) in enumerate(zip(together, alone, strict=True)):
            param.grad = laid_out("vector", seed=100 * step + index)
            other.grad = param.grad.clone()
        one.step()
        for optimizer in ten:
            optimizer.step()
    for param, other in zip(together, alone, strict=True):
        assert torch.equal(param, other)


@by_engine
@by_class
def test_parameters_that_need_no_gradient_are_kept_and_left_alone(cls, engine):
    frozen = nn.Parameter(torch.ones(3), requires_grad=False)
    moving = torch.ones(3, requires_grad=engine != "differentiable")
    optimizer = cls([frozen, moving], lr=0.1, **ENGINES[engine])
    moving.grad = torch.ones(3)
    optimizer.step()
    assert torch.equal(frozen, torch.ones(3))
    assert not torch.equal(moving, torch.ones(3))
    assert len(optimizer.state_dict()["param_groups"][0]["params"]) == 2


@by_engine
@by_class
def test_gradients_are_not_written(cls, engine):
    param = torch.ones(400, requires_grad=engine != "differentiable")
    param.grad = torch.linspace(-1, 1, 400)
    optimizer = cls([param], lr=0.1, weight_decay=0.1, maximize=True, **ENGINES[engine])
    optimizer.step()
    assert torch.equal(param.grad, torch.linspace(-1, 1, 400))


@pytest.mark.parametrize(("cls", "engine"), in_turn(CLASSES, ENGINES))
def test_slots_of_another_dtype_than_the_parameter(cls, engine):
    """Wider: the step is that of the widest. Narrower: rounded to be stored. Either stays."""
    for param_dtype, slot_dtype in (
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.bfloat16),
        (torch.float32, torch.bfloat16),
        (torch.float32, torch.float64),
        (torch.bfloat16, torch.float64),
    ):
        outcomes = []
        for options in (ENGINES[engine], {"foreach": False}):
            torch.manual_seed(0)
            param = torch.randn(50).to(param_dtype)
            optimizer = cls([param.requires_grad_(not options.get("differentiable"))], **options)
            param.grad = torch.randn(50).to(param_dtype)
            optimizer.step()
            for state in optimizer.state.values():
                for name in state.keys() - {"step"}:
                    state[name] = state[name].to(slot_dtype)
            optimizer.step()
            outcomes.append(([param.detach()], [dict(optimizer.state[param])]))
            assert param.dtype == param_dtype
            for name in optimizer.state[param].keys() - {"step"}:
                assert optimizer.state[param][name].dtype == slot_dtype
        assert_same(*outcomes)


# Which engine it is.


def test_the_kernel_takes_what_is_plain_memory(only_kernels):
    """Also complex numbers, gradients of another layout, and missing ones: else it would be slow,
    which no comparison notices."""
    kinds = ("vector", "scalar", "one", "empty", "transposed", "channels last", "with an offset")
    cases = list(itertools.product(kinds, (*FLOATS, torch.complex64, torch.complex128)))
    params = [laid_out(*case).requires_grad_() for case in cases]
    optimizer = optim.Adam(params)
    for step in range(4):
        for index, (param, case) in enumerate(zip(params, cases, strict=True)):
            grad = laid_out(*case, seed=step)
            if step == 2:
                grad = torch._neg_view(grad) if index % 2 else grad.contiguous()
            param.grad = grad if (index + step) % 5 else None
        optimizer.step()


def test_the_kernel_takes_every_rule_of_ours(only_kernels):
    for configuration in configurations():
        param = torch.ones(3, requires_grad=True)
        optimizer = configuration.ours([param])
        for _ in range(2):
            param.grad = torch.ones(3)
            optimizer.step()


def test_the_flags_choose():
    """As in torch, ``foreach=True`` wins over ``fused=False``."""

    def is_kernel(foreach, fused):
        return batch.is_for_kernel({"foreach": foreach, "fused": fused, "differentiable": False})

    assert is_kernel(None, None)
    assert is_kernel(True, None)
    assert is_kernel(True, False)
    assert is_kernel(None, True)
    assert is_kernel(False, True)
    assert not is_kernel(False, None)
    assert not is_kernel(None, False)
    assert not is_kernel(False, False)
    assert not batch.is_for_kernel({"foreach": True, "fused": None, "differentiable": True})


def test_a_step_that_torch_watches_is_not_for_the_kernel():
    """Under a transform of torch.func there is no memory to look into."""

    def stepped(start, grad):
        param = start.clone()
        param.grad = grad
        optim.SGD([param], lr=0.5).step()
        return param

    starts, grads = torch.ones(2, 3), torch.arange(6.0).view(2, 3)
    assert torch.equal(torch.vmap(stepped)(starts, grads), starts - 0.5 * grads)


@pytest.fixture
def no_kernels(monkeypatch):
    """As on a machine for which there is no machine code."""

    def broken():
        raise RuntimeError("no machine code here")

    monkeypatch.setattr(memory, "reader", broken)
    batch.kernels.cache_clear()
    yield
    batch.kernels.cache_clear()


@pytest.mark.parametrize("options", [{}, {"fused": True}, {"foreach": True}], ids=str)
def test_where_there_is_no_kernel_one_warning_says_why(no_kernels, options):
    cases = [("vector", torch.float32), ("transposed", torch.bfloat16), ("large", torch.float64)]

    def run(**options):
        return steps(
            optim.Adam,
            lambda: [laid_out(*case) for case in cases],
            lambda step: [laid_out(*case, seed=step + 1) for case in cases],
            **options,
        )

    with pytest.warns(UserWarning, match="no kernels.*slow: no machine code here") as seen:
        found = [run(**options), run(**options)]
    assert len(seen) == 1
    expected = run(foreach=False)
    for each in found:
        assert_same(each, expected)


def test_the_eager_engine_needs_no_kernel(no_kernels):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps(optim.Adam, lambda: [torch.ones(3)], lambda step: [torch.ones(3)], foreach=False)


def test_no_compiler_is_asked(monkeypatch, tmp_path):
    """An empty PATH, no C++ compiler, no torch.compile: the default step needs none of them."""

    def refuse(*args, **kwargs):
        raise AssertionError("torch.compile was called")

    monkeypatch.setattr(torch, "compile", refuse)
    monkeypatch.setitem(os.environ, "PATH", str(tmp_path))
    monkeypatch.setitem(os.environ, "CXX", "false")
    cpu.compiled.cache_clear()
    param = torch.zeros(3, requires_grad=True)
    param.grad = torch.ones(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optim.SGD([param], lr=1.0, fused=True).step()
        optim.SGD([param], lr=1.0).step()
    assert (param == -2).all()


def test_one_kernel_for_all_sizes_and_numbers():
    """New sizes, lr, steps and group values: no new machine code."""
    before = cpu.compiled.cache_info().misses
    for sizes in ((3, 40_000), (7_000, 5, 5), (1,), (2, 0, 33), (50,) * 9):
        params = [torch.ones(size, requires_grad=True) for size in sizes]
        optimizer = optim.Adam(params, lr=0.1 / len(sizes), weight_decay=0.1, eps=0.5)
        for step in range(3):
            optimizer.param_groups[0]["lr"] /= 2
            optimizer.param_groups[0]["betas"] = (0.5 + step / 10, 0.9)
            for param in params:
                param.grad = torch.ones_like(param)
            optimizer.step()
    assert cpu.compiled.cache_info().misses <= before + 1


@pytest.mark.parametrize("engine", ["default", "eager"])
@pytest.mark.parametrize("mode", ["autocast", "inference", "no_grad", "default dtype"])
def test_the_global_state_does_not_matter(mode, engine):
    param = torch.ones(50, requires_grad=True)
    param.grad = torch.full_like(param, 0.5)
    optimizer = optim.Adam([param], lr=0.1, **ENGINES[engine])
    optimizer.step()
    if mode == "autocast":
        with torch.autocast("cpu", dtype=torch.bfloat16):
            optimizer.step()
    elif mode == "inference":
        with torch.inference_mode():
            optimizer.step()
    elif mode == "no_grad":
        with torch.no_grad():
            optimizer.step()
    else:
        torch.set_default_dtype(torch.float64)
        try:
            optimizer.step()
        finally:
            torch.set_default_dtype(torch.float32)
    optimizer.step()
    torch.testing.assert_close(param.detach(), torch.full((50,), 0.7))


def test_a_maximum_keeps_nan_from_either_side():
    """``amsgrad`` takes a maximum, as torch does."""
    for options in ({}, {"foreach": False}):
        param = nn.Parameter(torch.zeros(3))
        optimizer = optim.Adam([param], amsgrad=True, **options)
        param.grad = torch.ones(3)
        optimizer.step()
        optimizer.state[param]["max_exp_avg_sq"][0] = torch.nan
        param.grad = torch.tensor([1.0, torch.nan, 1.0])
        optimizer.step()
        assert optimizer.state[param]["max_exp_avg_sq"].isnan().tolist() == [True, True, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_an_accumulator_that_is_zero_keeps_its_parameter(dtype):
    """The choice of Optax' Adagrad, by every engine, for all that is hard to compare with 0."""
    tiny = torch.finfo(dtype).tiny
    values = [0.0, -0.0, tiny, -tiny, tiny**0.5, 1.0, torch.inf, -torch.inf, torch.nan]
    expected = np.ones(len(values), torch.empty(0, dtype=dtype).numpy().dtype)
    grad = torch.tensor(values, dtype=dtype)
    options = {"lr": 1.0, "eps": 0.0, "initial_accumulator_value": 0.0}
    with np.errstate(all="ignore"):
        numpy_ref.optax.Adagrad(**options).update({0: expected}, {0: grad.numpy()})
    assert (expected == 1).tolist() == [True] * 4 + [False] * 5
    for engine in ENGINES.values():
        param = torch.ones(len(values), dtype=dtype)
        param.grad = grad.clone()
        optim.optax.Adagrad([param], **options, **engine).step()
        np.testing.assert_array_equal(param, expected)


def test_an_engine_that_is_changed_between_two_steps():
    results = []
    for switches in ([True, False, None] * 3, [False] * 9):
        param = nn.Parameter(torch.arange(400.0).view(20, 20))
        optimizer = optim.SGD([param], lr=0.1, momentum=0.9)
        for fused in switches:
            optimizer.param_groups[0]["fused"] = fused
            for _ in range(3):
                param.grad = torch.sin(param.detach())
                optimizer.step()
        results.append(param.detach())
    assert torch.equal(*results)


# Rules of the user's own.


def late_reader(param, grad, slots, *, lr):
    """Its first result would overwrite what the second one needs."""
    new = param - lr * grad
    return new, {"a": slots["a"] + param}


def swapper(param, grad, slots, *, lr):
    return slots["a"], {"a": param}


def one_result_twice(param, grad, slots, *, lr):
    new = param - lr * grad
    return new, {"a": new}


def number_first(param, grad, slots, *, lr):
    return 1 - lr * param, {"a": 2 / (3 + slots["a"] * slots["a"])}


def root_of_a_number(param, grad, slots, *, lr):
    return param - sqrt(lr) * grad, {"a": slots["a"] * (lr / 3)}


def unused(param, grad, slots, *, lr):
    grad / param
    return param + grad, {"a": slots["a"]}


def keeps_all(param, grad, slots, *, lr):
    return param, {"a": slots["a"]}


def signed(param, grad, slots, *, lr):
    return param - lr * torch.sign(grad), {"a": slots["a"] + 1}


def method(param, grad, slots, *, lr):
    return param - lr * grad.sign(), {"a": slots["a"] + 1}


def looks_at_values(param, grad, slots, *, lr):
    return (param - grad if lr > 0 else param + grad), {"a": slots["a"]}


def chooses(param, grad, slots, *, lr):
    """By numbers that decimal fractions are not, and of which float16 and bfloat16 have more."""
    near = torch.where(grad > 0.3, param - lr, param)
    return torch.where(near > slots["a"] / 3, 0.1, near), {"a": torch.where(grad > lr, grad, lr)}


def compares_with_less(param, grad, slots, *, lr):
    return torch.where(grad < 0, param - lr, param), {"a": slots["a"]}


def counts_truths(param, grad, slots, *, lr):
    return param - lr * (grad > 0), {"a": slots["a"] + (param > grad)}


def truth_as_result(param, grad, slots, *, lr):
    return param - lr * grad, {"a": grad > 0}


def chooses_between_numbers(param, grad, slots, *, lr):
    return param - torch.where(grad > 0, lr, 0.1), {"a": slots["a"]}


def constant(param, grad, slots, *, lr):
    return param - lr * grad, {"a": torch.ones_like(param)}


def asks_for_tensors(param, grad, slots, *, lr):
    if not torch.is_tensor(param):
        raise ValueError("a tensor is needed")
    return param - lr * grad, {"a": slots["a"]}


def asks_for_a_length(param, grad, slots, *, lr):
    return param - lr * grad / (1 + len(param.shape)), {"a": slots["a"]}


def tensor_constant(param, grad, slots, *, lr):
    return param - grad * torch.tensor(0.3), {"a": slots["a"]}


def numpy_constant(param, grad, slots, *, lr):
    return param - grad * np.float32(0.3), {"a": slots["a"] * np.float64(0.3)}


def fused_multiply_add(param, grad, slots, *, lr):
    return torch.addcmul(param, grad, slots["a"], value=-1), {"a": slots["a"]}


KNOWN = [late_reader, swapper, one_result_twice, number_first, root_of_a_number, unused, keeps_all]
KNOWN += [chooses]
UNKNOWN = [signed, method, looks_at_values, constant, fused_multiply_add]
UNKNOWN += [compares_with_less, counts_truths, truth_as_result, chooses_between_numbers]
UNKNOWN += [asks_for_tensors, asks_for_a_length, tensor_constant, numpy_constant]


@pytest.mark.parametrize(("update", "options"), in_turn([*KNOWN, *UNKNOWN], [{}, {"fused": True}]))
def test_a_rule_of_the_users_own(update, options):
    """A kernel where it is made of a formula's operations; by torch's where it is not."""
    rule = Rule(update, lambda group: {"a": 0.25}, lambda *_: {"lr": 0.5}, counts=False)
    assert (formula(Form.of(rule, ("a",), {"lr": 0.5})) is None) == (update in UNKNOWN)

    class Own(Optimizer):
        def __init__(self, params, lr=0.5, *, foreach=None, fused=None, differentiable=False):
            flags = {"foreach": foreach, "fused": fused, "differentiable": differentiable}
            super().__init__(params, {"lr": lr, **flags})

    Own.rule = rule
    cases = list(itertools.product(KINDS[:-1], FLOATS))

    def expected():
        params = [laid_out(*case) for case in cases]
        slots = [torch.full_like(param, 0.25) for param in params]
        for step in range(3):
            for index, case in enumerate(cases):
                wide = torch.float64 if case[1] == torch.float64 else torch.float32
                columns = params[index], laid_out(*case, seed=step + 1), slots[index]
                param, grad, slot = (each.to(wide) for each in columns)
                new, new_slots = update(param, grad, {"a": slot}, lr=0.5)
                params[index], slots[index] = new.to(case[1]), new_slots["a"].to(case[1])
        return params, slots

    params, states = steps(
        Own,
        lambda: [laid_out(*case) for case in cases],
        lambda step: [laid_out(*case, seed=step + 1) for case in cases],
        **options,
    )
    for got, other in zip(
        [*params, *(state["a"] for state in states)], itertools.chain(*expected()), strict=True
    ):
        assert torch.equal(got, other)


def test_a_choice_by_a_comparison_of_numbers_is_no_formula():
    """torch has a word for it; a kernel would not compile."""

    def update(param, grad, slots, *, lr):
        return torch.where(lr > 0, param, grad), {}

    rule = Rule(update, lambda _: {}, lambda *_: {"lr": 0.5}, counts=False)
    assert formula(Form.of(rule, (), {"lr": 0.5})) is None


def test_a_lack_of_room_says_nothing_of_the_rule():
    """What is found out about a rule is kept."""
    errors = [RecursionError(), MemoryError()]

    def update(param, grad, slots):
        if errors:
            raise errors.pop()
        return param - grad, {}

    form = Form.of(Rule(update, lambda _: {}, lambda *_: {}, counts=False), (), {})
    for error in (MemoryError, RecursionError):
        with pytest.raises(error):
            formula(form)
    assert formula(form) is not None


@pytest.mark.parametrize("foreach", [None, False])
@pytest.mark.parametrize("kind", [np.float64, np.float32, np.asarray], ids=str)
def test_scalars_that_numpy_has_computed(kind, foreach):
    rule = Rule(root_of_a_number, lambda _: {"a": 0.25}, lambda *_: {"lr": kind(0.3)}, counts=False)

    class Own(Optimizer):
        def __init__(self, params, *, foreach=None, fused=None, differentiable=False):
            flags = {"foreach": foreach, "fused": fused, "differentiable": differentiable}
            super().__init__(params, flags)

    Own.rule = rule
    param = nn.Parameter(laid_out("vector", torch.float32))
    param.grad = laid_out("vector", torch.float32, seed=1)
    expected, _ = root_of_a_number(
        param.detach(), param.grad, {"a": torch.full_like(param, 0.25)}, lr=float(kind(0.3))
    )
    optimizer = Own([param], foreach=foreach)
    optimizer.step()
    assert torch.equal(param, expected)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float32], ids=str)
def test_a_rule_that_exchanges_complex_tensors_one_by_one(dtype):
    """By torch's operations, which would write the one before they have read the other."""
    rule = Rule(swapper, lambda group: {"a": 0.25}, lambda *_: {"lr": 0.5}, counts=False)
    param, grad, slot = (torch.full((3,), value, dtype=dtype) for value in (1, 2, 3))
    with torch.no_grad():
        eager.by_torch(rule, ("a",), {"lr": 0.5}, [param, grad, slot])
    assert (param == 3).all()
    assert (slot == 1).all()


# The reference.

DTYPES = ("float16", "bfloat16", "float32", "float64")


@pytest.mark.parametrize(("configuration", "dtype"), in_turn(configurations(), DTYPES))
def test_parity_of_the_eager_engine(configuration, dtype):
    """Of the default, which is the kernel: tests/testing/parity/test_lockstep.py."""
    report = check_parity(
        lambda params: configuration.ours(params, **PROVEN["eager"]),
        configuration.reference(dtype),
        steps=20,
        dtype=dtype,
    )
    assert (report.max_ulp_param, report.max_ulp_state) == (0, 0)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_new_slots_beside_old_ones(device):
    """Counts that are on the device do not make them alike."""

    class Own(Optimizer):
        rule = Rule(
            update=lambda param, grad, slots, *, lr: (
                param - lr * grad,
                {"sum": slots["sum"] + grad},
            ),
            slots=lambda group: {"sum": 0.0},
            scalars=lambda group, step, fresh: {"lr": group["lr"] * (1 + fresh)},
        )

        def __init__(
            self, params, *, capturable=True, foreach=None, fused=None, differentiable=False
        ):
            flags = {"foreach": foreach, "fused": fused, "differentiable": differentiable}
            super().__init__(params, {"lr": 0.5, "capturable": capturable, **flags})

    old, new = (nn.Parameter(torch.zeros(3, device=device)) for _ in range(2))
    optimizer = Own([old, new], capturable=device == "cuda")
    old.grad = torch.ones(3, device=device)
    optimizer.step()
    new.grad = torch.ones(3, device=device)
    optimizer.step()
    assert (old.tolist(), new.tolist()) == ([-1.5] * 3, [-1.0] * 3)


def test_counts_that_must_not_be_read_are_each_parameters_own(monkeypatch):
    """As on a device, where they are tensors, which live no longer than their parameter's step."""

    def trained():
        params = [nn.Parameter(torch.ones(3)) for _ in range(60)]
        optimizer = optim.Adam(params, lr=0.1, foreach=False)
        for step in range(6):
            for index, param in enumerate(params):
                param.grad = torch.full((3,), 1.0 + step) if step % (index % 7 + 1) == 0 else None
            optimizer.step()
        return params

    expected = trained()
    monkeypatch.setattr(batch, "captured", lambda group: True)
    for param, other in zip(trained(), expected, strict=True):
        torch.testing.assert_close(param, other, rtol=1e-6, atol=0)
