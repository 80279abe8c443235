import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra import numpy as hnp

from torchopt_ref.optim.exact import sqrt


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, min_side=0)))
def test_rounded_correctly(x):
    with np.errstate(invalid="ignore"):
        exact = np.sqrt(x.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(sqrt(torch.from_numpy(x)).numpy(), exact)


@pytest.mark.parametrize("number", [0, 2, 2.0, 10**20])
def test_the_root_of_a_number(number):
    assert sqrt(number) == np.sqrt(float(number))


def test_many_values_layouts_and_no_warning_for_negative_ones():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 40, generator=generator) * torch.randn(40, generator=generator).exp() ** 9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        root = sqrt(x.t())
    assert root.stride() == x.t().stride()
    exact = x.t().double().sqrt().float()
    assert torch.equal(root.nan_to_num(-1), exact.nan_to_num(-1))
    assert root.isnan().any()


@pytest.mark.parametrize("follow", ["autograd", "forward", "vmap", "vmap of grad"])
def test_exact_wherever_it_is_followed(follow):
    x = torch.rand(8, 500)
    exact = x.double().sqrt().float()
    assert not torch.equal(torch.sqrt(x), exact)
    if follow == "autograd":
        got = sqrt(x.requires_grad_())
    elif follow == "forward":
        got, tangent = torch.func.jvp(sqrt, (x,), (torch.ones_like(x),))
        assert torch.equal(tangent, 1 / (2 * exact))
    elif follow == "vmap":
        got = torch.func.vmap(sqrt, in_dims=1, out_dims=1)(x)
    else:
        got = torch.func.vmap(
            lambda row: torch.func.grad_and_value(lambda y: sqrt(y).sum())(row)[0]
        )
        torch.testing.assert_close(got(x), 1 / (2 * exact))
        return
    assert torch.equal(got, exact)


def test_derivatives():
    x = torch.rand(5, dtype=torch.float64, requires_grad=True) + 0.1
    assert torch.autograd.gradcheck(sqrt, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(sqrt, x)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(torch.tensor([4.0]), torch.tensor([1.0]))
        assert torch.autograd.forward_ad.unpack_dual(sqrt(dual)).tangent == 0.25


def test_other_kinds():
    assert sqrt(2.0) == 2.0**0.5
    assert torch.equal(sqrt(torch.tensor([4.0]).bfloat16()), torch.tensor([2.0]).bfloat16())
    compiled = torch.compile(sqrt, backend="eager", fullgraph=True)
    assert torch.equal(compiled(torch.tensor([4.0, 9.0])), torch.tensor([2.0, 3.0]))


@pytest.mark.cuda
def test_on_a_device_it_is_that_devices():
    x = torch.rand(1000, device="cuda")
    assert torch.equal(sqrt(x), torch.sqrt(x))
