"""Whether tensors lie where they did, by a build of torch with CUDA and by one without."""

import pytest
import torch

from torchopt_ref.optim import places


@pytest.fixture(params=["one-call", "one-by-one"])
def tensors(request, monkeypatch):
    if request.param == "one-by-one":
        monkeypatch.setattr(places, "_all_equal", None)
    elif places._all_equal is None:
        pytest.skip("this build of torch compares addresses one by one only")
    return [torch.nn.Parameter(torch.zeros(3)), torch.zeros(2, 2), torch.zeros(())]


def test_writing_moves_nothing(tensors):
    place = places.Places(tensors)
    for tensor in tensors:
        tensor.detach().add_(1)
    assert place.hold()


@pytest.mark.parametrize("position", [0, 1, 2])
def test_one_tensor_moves_and_comes_back(tensors, position):
    place = places.Places(tensors)
    before = tensors[position].data
    tensors[position].data = before.clone()
    assert not place.hold()
    tensors[position].data = before
    assert place.hold()


def test_nothing_lies_where_it_did(tensors):
    assert places.Places([]).hold()
