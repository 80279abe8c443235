"""How checks compare, and what they say of a difference."""

import pytest
import torch

from torchopt_ref.testing.conformance.comparing import (
    require_close,
    require_same,
    require_same_state,
)
from torchopt_ref.testing.conformance.verdicts import Failure

ONE, NAN = torch.tensor([1.0, 2.0]), float("nan")


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (torch.tensor([1.0, 2.5]), "differs in 1 of 2 elements, by up to 0.5"),
        (ONE.double(), r"is torch.float64 \(2,\), not torch.float32 \(2,\)"),
        (ONE[:1], r"is torch.float32 \(1,\), not torch.float32 \(2,\)"),
    ],
)
def test_a_difference_is_in_values_dtype_or_shape(seen, said):
    with pytest.raises(Failure, match=f"then: parameter 1 {said}"):
        require_same("then", [ONE, seen], [ONE, ONE])
    require_same("then", [ONE, ONE], [ONE, ONE.clone()])


def test_nan_is_close_to_nan():
    require_close("then", [ONE * NAN], [ONE * NAN], rtol=0, atol=0)
    with pytest.raises(Failure, match="then: parameter 0 "):
        require_close("then", [ONE * NAN], [ONE], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({"lr": 1, "a": [{"b": 2}]}, "only one side has a.0.c"),
        ({"lr": 3, "a": [{"b": 2, "c": NAN}]}, "lr is 3, not 1"),
        ({"lr": 1, "a": [{"b": 2, "c": 4}]}, "a.0.c is 4, not nan"),
        ({"lr": ONE, "a": [{"b": 2, "c": NAN}]}, "lr is tensor"),
        ({"lr": torch.tensor(1), "a": [{"b": 2, "c": NAN}]}, r"lr is tensor\(1\), not 1"),
    ],
)
def test_states_have_the_same_leaves_under_the_same_paths(seen, said):
    expected = {"lr": 1, "a": [{"b": 2, "c": NAN}]}
    require_same_state("then", {"lr": 1, "a": [{"b": 2, "c": NAN}]}, expected)
    with pytest.raises(Failure, match=f"then: {said}"):
        require_same_state("then", seen, expected)
