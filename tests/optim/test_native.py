"""The rule as C++: as exact as the others, for any number of tensors, and seen by autograd."""

import importlib
import warnings
import weakref

import pytest
import torch
from torch import nn

from torchopt_ref import optim
from torchopt_ref.optim import exact

native = importlib.import_module("torchopt_ref.optim.engines.native")

needs_native = pytest.mark.skipif(
    native.shutil.which("c++") is None, reason="no C++ compiler on this machine"
)
SIZES = (1, 0, 7, 40_000, 64, 100_003, 1)


@pytest.fixture
def no_torch_compile(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("torch.compile was called")

    monkeypatch.setattr(torch, "compile", refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def train(cls, dtype=torch.float32, steps=4, sizes=SIZES, **options):
    generator = torch.Generator().manual_seed(0)
    params = [nn.Parameter(torch.randn(size, generator=generator, dtype=dtype)) for size in sizes]
    optimizer = cls(params, lr=0.05, **options)
    for _ in range(steps):
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator, dtype=dtype)
        optimizer.step()
    slots = [slot for entry in optimizer.state.values() for slot in entry.values()]
    return [*params, *slots]


def assert_equal(some, others):
    for one, other in zip(some, others, strict=True):
        assert torch.equal(one.detach(), other.detach())


@needs_native
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cls", [optim.SGD, optim.AdaGrad, optim.RMSprop, optim.Adam])
def test_it_is_exact_however_the_work_is_divided(cls, dtype, threads, no_torch_compile):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert_equal(train(cls, dtype, fused=True), train(cls, dtype, foreach=False))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("cls", [optim.SGD, optim.AdaGrad, optim.RMSprop, optim.Adam])
def test_what_torch_compiles_instead_is_exact_as_well(cls, no_native):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert_equal(train(cls, fused=True), train(cls, foreach=False))


def test_a_compiler_that_fails_is_one_that_is_not_there(monkeypatch):
    native.native_step.cache_clear()
    monkeypatch.setenv("CXX", "false")
    assert_equal(train(optim.SGD, fused=True), train(optim.SGD, foreach=False))
    native.native_step.cache_clear()


@needs_native
def test_one_compilation_for_all_sizes_and_numbers(no_torch_compile):
    native.native_step.cache_clear()
    for sizes in ((3,), SIZES, (50_000,) * 9):
        for eps in (1e-8, 1e-3):
            train(optim.Adam, sizes=sizes, eps=eps, fused=True)
    assert native.native_step.cache_info().misses == 1


@needs_native
def test_autograd_notices_that_a_saved_tensor_has_changed():
    param = nn.Parameter(torch.ones(3))
    loss = (param * param).sum()
    param.grad = torch.ones(3)
    optim.SGD([param], lr=0.1, fused=True).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@needs_native
def test_a_maximum_keeps_nan_from_either_side(no_torch_compile):
    """``amsgrad`` takes a maximum, as torch does."""
    param = nn.Parameter(torch.zeros(3))
    optimizer = optim.Adam([param], amsgrad=True, fused=True)
    param.grad = torch.ones(3)
    optimizer.step()
    optimizer.state[param]["max_exp_avg_sq"][0] = torch.nan
    param.grad = torch.tensor([1.0, torch.nan, 1.0])
    optimizer.step()
    assert optimizer.state[param]["max_exp_avg_sq"].isnan().tolist() == [True, True, False]


@needs_native
def test_roots_are_exact(no_torch_compile):
    grads = torch.rand(10_000, generator=torch.Generator().manual_seed(0))
    param = nn.Parameter(torch.zeros(10_000))
    param.grad = grads
    optim.AdaGrad([param], lr=1.0, eps=0.0, fused=True).step()
    assert torch.equal(param.detach(), -(grads / exact.sqrt(grads * grads)))


@needs_native
@pytest.mark.parametrize(
    "grad",
    [
        torch.arange(6.0).view(2, 3).t(),
        torch._neg_view(torch.arange(6.0).view(3, 2)),
    ],
    ids=["in another order", "negated"],
)
def test_a_gradient_that_is_a_view_of_something_else(grad):
    results = []
    for options in ({"fused": True}, {"foreach": False}):
        param = nn.Parameter(torch.zeros(3, 2))
        optimizer = optim.SGD([param], lr=1.0, **options)
        for _ in range(4):
            param.grad = grad
            optimizer.step()
        results.append([param])
    assert_equal(*results)


def test_an_engine_that_is_changed_between_two_steps():
    results = []
    for switches in ([True, False, None] * 3, [False] * 9):
        param = nn.Parameter(torch.arange(40_000.0).view(200, 200))
        optimizer = optim.SGD([param], lr=0.1, momentum=0.9)
        for fused in switches:
            optimizer.param_groups[0]["fused"] = fused
            for _ in range(3):
                param.grad = torch.sin(param.detach())
                optimizer.step()
        results.append([param])
    assert_equal(*results)


@pytest.mark.parametrize("options", [{"fused": True}, {}], ids=["fused", "default"])
def test_a_gradient_is_not_kept_after_the_step(options):
    param = nn.Parameter(torch.zeros(5))
    optimizer = optim.SGD([param], lr=0.1, **options)
    for _ in range(4):
        param.grad = torch.ones(5)
        optimizer.step()
    kept = weakref.ref(param.grad)
    param.grad = None
    assert kept() is None


def test_a_parameter_that_shrinks_at_its_address_is_not_written_beyond_its_end():
    whole = torch.zeros(6)
    param = nn.Parameter(whole)
    optimizer = optim.SGD([param], lr=0.1, momentum=0.9, fused=True)
    for _ in range(4):
        param.grad = torch.ones(6)
        optimizer.step()
    before = whole.clone()
    param.data = whole[:3]
    param.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match="size"):
        optimizer.step()
    assert torch.equal(whole, before)
