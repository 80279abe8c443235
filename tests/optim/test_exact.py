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


def test_differentiable_and_compilable():
    x = torch.tensor([4.0, 9.0], requires_grad=True)
    sqrt(x).sum().backward()
    assert torch.allclose(x.grad, torch.tensor([0.25, 1 / 6]))
    compiled = torch.compile(sqrt, backend="eager", fullgraph=True)
    assert torch.equal(compiled(torch.tensor([4.0, 9.0])), torch.tensor([2.0, 3.0]))


@pytest.mark.cuda
def test_on_a_device_it_is_that_devices():
    x = torch.rand(1000, device="cuda")
    assert torch.equal(sqrt(x), torch.sqrt(x))
