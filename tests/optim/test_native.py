"""The rule as C++: as exact as the others, for any number of tensors, and seen by autograd."""

import importlib
import warnings

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
def test_a_maximum_keeps_nan_and_roots_are_exact(no_torch_compile):
    """``amsgrad`` takes a maximum: as in torch, NaN wins from either side."""
    nan = float("nan")
    param = nn.Parameter(torch.zeros(4))
    optimizer = optim.Adam([param], amsgrad=True, fused=True)
    for grad in ([nan, 1.0, 2.0, 3.0], [1.0, nan, 1.0, 5.0]):
        param.grad = torch.tensor(grad)
        optimizer.step()
    largest = optimizer.state[param]["max_exp_avg_sq"]
    assert largest.isnan().tolist() == [True, True, False, False]

    grads = torch.rand(10_000, generator=torch.Generator().manual_seed(0))
    param = nn.Parameter(torch.zeros(10_000))
    param.grad = grads
    optim.AdaGrad([param], lr=1.0, eps=0.0, fused=True).step()
    expected = -(grads / exact.sqrt(grads * grads))
    assert torch.equal(param.detach(), expected)


@needs_native
def test_a_gradient_in_another_order_and_one_that_is_negated():
    results = []
    for options in ({"fused": True}, {"foreach": False}):
        params = [nn.Parameter(torch.zeros(3, 2)), nn.Parameter(torch.zeros(3))]
        optimizer = optim.SGD(params, lr=1.0, **options)
        for _ in range(4):
            params[0].grad = torch.arange(6.0).view(2, 3).t()
            params[1].grad = torch.complex(torch.ones(3), torch.arange(3.0)).conj().imag
            optimizer.step()
        results.append(params)
    assert_equal(*results)
