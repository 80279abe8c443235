"""What a checkpoint holds reads back as it was, or is refused before the training."""

import io
import json
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from enum import IntEnum
from fractions import Fraction

import numpy as np
import pytest
import torch

from tests.train.training_cases import last_state
from torchopt_ref.errors import UserError
from torchopt_ref.train.checkpoints import canonical


class Kind(IntEnum):
    A = 1


Pair = namedtuple("Pair", "a b")


class Text(str):
    __slots__ = ()


def test_the_versions_of_modules_are_kept():
    """Modules ask for them when they load a state."""
    state = torch.nn.Sequential(torch.nn.BatchNorm1d(2)).state_dict()
    assert canonical(state)._metadata == state._metadata
    assert state._metadata["0"]["version"] == 2


@pytest.mark.parametrize(
    "value",
    [
        *(True, None, 2**70, 0.1, 1j, "a", b"a", (1, "a"), [1.5], {1: {"a": 2}}, {1, 2}),
        *(OrderedDict(a=1), Counter("aab"), torch.Size([2]), torch.float16, torch.device("cpu")),
        *(np.float64(0.1), np.int64(7), np.uint8(7), np.bool_(True), {"a": [np.float64(0.1)]}),
    ],
    ids=repr,
)
def test_what_is_saved_reads_back_as_it_is(value):
    file = io.BytesIO()
    torch.save(canonical({"it": value}), file)
    file.seek(0)
    (read,) = torch.load(file, weights_only=True).values()
    assert read == value
    assert type(read) in (type(value), float, int, bool)
    assert not isinstance(read, np.generic)


class Own(torch.Tensor):
    pass


@pytest.mark.parametrize(
    "value",
    [
        *(deque([1]), defaultdict(list), range(3), np.ones(2), np.float32(0.1), frozenset([1])),
        *(Pair(1, 2), Kind.A, Text("a"), Fraction(1, 2), len, slice(1), object()),
        torch.ones(2).as_subclass(Own),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_not_read_back_is_refused_with_its_place(value):
    for state in ({"slot": value}, {"slot": [{"deep": value}]}):
        with pytest.raises(UserError, match=r"cannot be saved: \['slot'\].* is a .*weights_only"):
            canonical(state)


def test_a_class_that_torch_is_told_to_read_is_kept():
    value = torch.ones(2).as_subclass(Own)
    with torch.serialization.safe_globals([Own]):
        assert type(canonical({"slot": value})["slot"]) is Own


def test_an_integer_that_would_not_read_back_is_refused():
    canonical({"slot": -(2**2039 - 1)})
    with pytest.raises(UserError, match=r"cannot be saved: \['slot'\] is a too large int"):
        canonical({"slot": 2**2039})


def test_a_scheduler_of_numpy_numbers_is_resumed(train):
    arguments = ["--scheduler", "troublemakers:Remembering", "--warmup", "0"]
    folder = train(*arguments, "--scheduler-args", '{"kind": "float64"}')
    assert type(last_state(folder)["schedule"]["scheduler"]["seen"]) is float
    train("--resume", tiny=[])


@pytest.mark.parametrize("kind", ["ndarray", "deque", "defaultdict", "range", "later"])
def test_a_scheduler_whose_state_cannot_be_read_back_is_refused_before_the_training(train, kind):
    arguments = json.dumps({"kind": kind})
    scheduler = ["--scheduler", "troublemakers:Remembering", "--scheduler-args", arguments]
    assert not train(*scheduler, status=2).exists()
    (line,) = train.err.splitlines()
    assert f"['seen'] is a {'numpy' if kind == 'ndarray' else ''}" in line
    assert "torch.load(weights_only=True)" in line


def test_a_tensor_is_not_saved_to_see_whether_it_can_be(monkeypatch):
    monkeypatch.setattr(torch, "save", None)
    tensors = [torch.ones(2), torch.nn.Parameter(torch.ones(2))]
    assert [id(each) for each in canonical(tensors)] == [id(each) for each in tensors]
