"""The reference's optimizers by themselves: constructors, and what bfloat16 is rounded to."""

import numpy as np
import pytest
import torch

from numpy_ref import book, optimizers
from numpy_ref.bfloat16 import to_bfloat16


def patterns():
    """Random bits, every bfloat16, every tie, and what is next to a tie on either side."""
    random = np.random.default_rng(0).integers(0, 2**32, 2**20, dtype=np.uint32)
    upper = np.arange(2**16, dtype=np.uint32) << 16
    ties = upper + 0x8000
    return np.concatenate([random, upper, ties - 1, ties, ties + 1])


def test_bfloat16_is_rounded_as_torch_rounds_it():
    values = patterns().view(np.float32)
    mine = to_bfloat16(values)
    theirs = torch.from_numpy(values).bfloat16().float().numpy()
    nan = np.isnan(values)
    assert nan.any()
    assert np.isnan(mine[nan]).all()
    assert np.array_equal(mine[~nan].view(np.uint32), theirs[~nan].view(np.uint32))


def test_bfloat16_of_a_scalar_and_of_what_is_not_contiguous():
    assert to_bfloat16(np.float32(1.004)) == 1.0078125
    assert to_bfloat16(np.array(1.004, np.float32)).shape == ()
    array = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    assert np.array_equal(to_bfloat16(array[::2].T), to_bfloat16(array)[::2].T)


def test_parameters_and_slots_are_stored_in_bfloat16():
    optimizer = optimizers.AdaGrad(lr=0.3, initial_accumulator_value=0.1)
    optimizer.storage = "bfloat16"
    params = {"w": to_bfloat16(np.linspace(-1, 1, 7, dtype=np.float32))}
    optimizer.update(params, {"w": to_bfloat16(np.linspace(0, 3, 7, dtype=np.float32))})
    for array in (params["w"], optimizer.state["w"]["sum"]):
        assert array.dtype == np.float32
        assert np.array_equal(array, to_bfloat16(array))
    assert optimizer.state["w"]["sum"][0] == to_bfloat16(0.1)


@pytest.mark.parametrize(
    ("cls", "options"),
    [(optimizers.Adam, {"momentum": 0.9}), (book.SGD, {"weight_decay": 0.1})],
    ids=["torch's", "the book's"],
)
def test_an_option_that_an_optimizer_does_not_have_is_a_type_error(cls, options):
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        cls(**options)


def test_the_book_is_other_arithmetic():
    for name in ("Momentum", "Nesterov", "AdaGrad", "Adam"):
        moved = []
        for module in (optimizers, book):
            params, optimizer = {"w": np.ones(1)}, getattr(module, name)(lr=0.1)
            for lr in (0.1, 0.2):
                optimizer.hyper["lr"] = lr
                optimizer.update(params, {"w": np.full(1, 1e-4)})
            moved.append(params["w"][0])
        assert moved[0] != moved[1], name
