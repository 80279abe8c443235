"""What is arranged once must never show: whatever a user changes between two steps is obeyed."""

import collections
import copy
import io

import pytest
import torch
from torch import nn

from torchopt_ref import optim

ENGINES = {"default": {}, "fused": {"fused": True}, "flat": {"flat": True}}
CLASSES = [optim.SGD, optim.Momentum, optim.AdaGrad, optim.RMSprop, optim.Adam]
by_engine = pytest.mark.parametrize("engine", ENGINES)
SIZES = ((3,), (2, 4), (40_000,), (), (5,), (200, 200), (7,))


class Side:
    """An optimizer, its parameters, and gradients that are the same on all sides."""

    def __init__(self, cls, **options):
        generator = torch.Generator().manual_seed(0)
        self.params = [nn.Parameter(torch.randn(size, generator=generator)) for size in SIZES]
        self.optimizer = cls(self.params, lr=0.1, **options)
        self.cls, self.options, self.taken = cls, options, 0

    def steps(self, count=3, missing=()):
        for _ in range(count):
            self.taken += 1
            generator = torch.Generator().manual_seed(self.taken)
            for index, param in enumerate(self.params):
                grad = torch.randn(param.shape, generator=generator)
                param.grad = None if index in missing else grad
            self.optimizer.step()

    def entries(self):
        return [self.optimizer.state.get(param, {}) for param in self.params]


def replace_a_slot(side):
    for entry in side.entries():
        for name, slot in entry.items():
            entry[name] = slot * 0.5 if name != "step" else slot


def write_into_a_slot(side):
    for entry in side.entries():
        for name in entry.keys() - {"step"}:
            entry[name].mul_(0.5)


def exchange_the_memory_of_a_slot(side):
    for entry in side.entries():
        for name in entry.keys() - {"step"}:
            entry[name].data = entry[name].data * 0.5


def share_the_memory_of_slots(side):
    for entry in side.entries():
        for name in entry.keys() - {"step"}:
            entry[name].share_memory_()


def replace_an_entry(side):
    for param, entry in zip(side.params, side.entries(), strict=True):
        if entry:
            side.optimizer.state[param] = copy.deepcopy(entry)


def forget_everything(side):
    side.optimizer.state.clear()


def forget_everything_by_a_new_dict(side):
    side.optimizer.state = collections.defaultdict(dict)


def set_a_step_back(side):
    for entry in side.entries()[2:]:
        if "step" in entry:
            entry["step"].zero_()


def replace_a_step(side):
    for entry in side.entries():
        if "step" in entry:
            entry["step"] = torch.tensor(50.0)


def exchange_parameter_memory(side):
    for param in side.params:
        param.data = param.data * 2


def write_into_parameters(side):
    with torch.no_grad():
        for param in side.params:
            param.mul_(2)


def change_options(side):
    group = side.optimizer.param_groups[0]
    group["lr"] = 0.01
    group["weight_decay"] = 0.3
    if "momentum" in group:
        group["momentum"] = 0.5


def freeze_some(side):
    side.steps(3, missing=(0, 2, 4))


def alternate(side):
    for step in range(6):
        side.steps(1, missing=(step % 3,))


def move_to_a_group_of_its_own(side):
    last = side.optimizer.param_groups[0]["params"].pop()
    side.optimizer.add_param_group({"params": [last], "lr": 0.5})


def another_order(side):
    side.optimizer.param_groups[0]["params"].reverse()


def save_and_load(side):
    buffer = io.BytesIO()
    torch.save(side.optimizer.state_dict(), buffer)
    buffer.seek(0)
    side.optimizer.load_state_dict(torch.load(buffer, weights_only=True))


def go_on_with_a_copy(side):
    side.optimizer = copy.deepcopy(side.optimizer)
    side.params = side.optimizer.param_groups[0]["params"]


def use_bfloat16(side):
    for param in side.params:
        param.data = param.data.bfloat16()
        param.grad = None
    original = side.steps
    side.steps = None
    for _ in range(3):
        side.taken += 1
        generator = torch.Generator().manual_seed(side.taken)
        for param in side.params:
            param.grad = torch.randn(param.shape, generator=generator).bfloat16()
        side.optimizer.step()
    for param in side.params:
        param.grad = None
        param.data = param.data.float()
    side.steps = original


def gradients_of_another_kind(side):
    for _ in range(2):
        side.taken += 1
        generator = torch.Generator().manual_seed(side.taken)
        for param in side.params:
            grad = torch.randn((2, *param.shape), generator=generator)
            param.grad = grad.movedim(0, -1)[..., 0]
        side.optimizer.step()


CHANGES = [
    replace_a_slot, write_into_a_slot, exchange_the_memory_of_a_slot, share_the_memory_of_slots,
    replace_an_entry, forget_everything, forget_everything_by_a_new_dict, set_a_step_back,
    replace_a_step, exchange_parameter_memory, write_into_parameters, change_options, freeze_some,
    alternate, move_to_a_group_of_its_own, another_order, save_and_load, go_on_with_a_copy,
    use_bfloat16, gradients_of_another_kind,
]  # fmt: skip


@by_engine
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_a_change_between_steps_is_obeyed(cls, change, engine):
    planned, plain = Side(cls, **ENGINES[engine]), Side(cls, foreach=False)
    for side in (planned, plain):
        side.steps(4)
        change(side)
        side.steps(4)
    for param, expected in zip(planned.params, plain.params, strict=True):
        assert torch.equal(param, expected)
    for entry, expected in zip(planned.entries(), plain.entries(), strict=True):
        assert entry.keys() == expected.keys()
        for name, slot in entry.items():
            assert torch.equal(slot, expected[name]), name
            assert slot.dtype == expected[name].dtype
            assert slot.shape == expected[name].shape


@by_engine
@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_each_state_tensor_has_a_storage_of_its_own(cls, engine):
    side = Side(cls, **ENGINES[engine])
    side.steps(5)
    for entry in side.entries():
        for slot in entry.values():
            assert slot.untyped_storage().nbytes() == slot.nbytes
            assert slot.is_contiguous()
            assert not slot.requires_grad


@by_engine
@pytest.mark.parametrize("size", [3, 40_000])
def test_autograd_notices_that_a_step_changed_a_saved_parameter(engine, size):
    params = [nn.Parameter(torch.ones(size)) for _ in range(3)]
    optimizer = optim.Adam(params, **ENGINES[engine])
    for _ in range(4):
        loss = sum((param * param).sum() for param in params)
        for param in params:
            param.grad = torch.ones(size)
        optimizer.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@by_engine
def test_a_tensor_that_the_user_holds_stays_the_state(engine):
    """Once arranged, a slot is written in place, as in torch.optim."""
    side = Side(optim.Adam, **ENGINES[engine])
    side.steps(3)
    held = [dict(entry) for entry in side.entries()]
    side.steps(2)
    for entry, before in zip(side.entries(), held, strict=True):
        assert all(entry[name] is before[name] for name in entry)
