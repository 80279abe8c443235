"""Whatever a user changes between two steps is obeyed: nothing is kept from the one to the next."""

import collections
import copy
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from numpy_ref import optimizers as reference
from torchopt_ref import optim

ENGINES = {"default": {}, "fused": {"fused": True}}
CLASSES = [optim.SGD, optim.Momentum, optim.AdaGrad, optim.RMSprop, optim.Adam]
by_engine = pytest.mark.parametrize("engine", ENGINES)
SIZES = ((3,), (2, 4), (40,), (), (5,), (20, 7), (7,), (2, 4))


class Side:
    """An optimizer, its parameters, and gradients that are the same on all sides."""

    def __init__(self, cls=optim.Adam, sizes=SIZES, **options):
        self.generator = torch.Generator().manual_seed(0)
        self.params = [nn.Parameter(self.randn(size)) for size in sizes]
        if cls is optim.Momentum:
            options["dampening"] = 0.5  # which the first step of a slot has not
        self.optimizer = cls(self.params, lr=0.1, **options)

    def randn(self, shape):
        return torch.randn(shape, generator=self.generator)

    def steps(self, count=2, missing=()):
        for _ in range(count):
            for index, param in enumerate(self.params):
                grad = self.randn(param.shape).to(param.dtype)
                param.grad = None if index in missing else grad
            self.optimizer.step()

    @property
    def group(self):
        return self.optimizer.param_groups[0]

    def entries(self):
        return [self.optimizer.state.get(param, {}) for param in self.params]

    def slots(self):
        """Every slot with its place: (entry, name)."""
        return [(e, name) for e in self.entries() for name in e.keys() - {"step"}]


def assert_same(side, other):
    for param, expected in zip(side.params, other.params, strict=True):
        assert torch.equal(param, expected)
    for entry, expected in zip(side.entries(), other.entries(), strict=True):
        assert entry.keys() == expected.keys()
        for name, slot in entry.items():
            assert torch.equal(slot, expected[name]), name
            assert slot.dtype == expected[name].dtype
            assert slot.shape == expected[name].shape


CHANGES = []


def change(function):
    CHANGES.append(function)
    return function


@change
def nothing(side):
    pass


@change
def replace_a_slot(side):
    for entry, name in side.slots():
        entry[name] = entry[name] * 0.5


@change
def write_into_a_slot(side):
    for entry, name in side.slots():
        entry[name].mul_(0.5)


@change
def exchange_the_memory_of_a_slot(side):
    for entry, name in side.slots():
        entry[name].data = entry[name].data * 0.5


@change
def slots_of_another_layout(side):
    for entry, name in side.slots():
        if entry[name].dim() == 2:
            entry[name] = entry[name].t().contiguous().t()


@change
def set_a_slot_to_none(side):
    """Then it begins anew, as one that is missing."""
    for entry, name in side.slots()[::2]:
        entry[name] = None


@change
def share_the_memory_of_slots(side):
    for entry, name in side.slots():
        entry[name].share_memory_()


@change
def replace_an_entry(side):
    for param, entry in zip(side.params, side.entries(), strict=True):
        if entry:
            side.optimizer.state[param] = copy.deepcopy(entry)


@change
def exchange_two_entries(side):
    state, (one, other) = side.optimizer.state, (side.params[1], side.params[7])
    state[one], state[other] = state[other], state[one]


@change
def forget_everything(side):
    side.optimizer.state.clear()


@change
def forget_everything_by_a_new_dict(side):
    side.optimizer.state = collections.defaultdict(dict)


@change
def forget_some(side):
    for param in side.params[::3]:
        side.optimizer.state.pop(param, None)


@change
def set_a_step_back(side):
    for entry in side.entries()[2:]:
        if "step" in entry:
            entry["step"].zero_()


@change
def replace_a_step(side):
    for entry in side.entries():
        if "step" in entry:
            entry["step"] = torch.tensor(50.0)


@change
def steps_of_several_dtypes(side):
    kinds = (torch.float64, torch.float32)
    for index, entry in enumerate(side.entries()):
        if "step" in entry:
            entry["step"] = entry["step"].to(kinds[index % 2])


@change
def exchange_parameter_memory(side):
    for param in side.params:
        param.data = param.data * 2


@change
def write_into_parameters(side):
    with torch.no_grad():
        for param in side.params:
            param.mul_(2)


@change
def another_shape_of_the_same_size(side):
    for param, entry in zip(side.params, side.entries(), strict=True):
        if param.dim() == 2:
            param.data = param.data.reshape(-1)
            param.grad = None
            for name in entry.keys() - {"step"}:
                entry[name] = entry[name].reshape(-1)


@change
def a_larger_shape(side):
    """As where a vocabulary grows: the parameter in place, and its slots."""
    for param, entry in zip(side.params, side.entries(), strict=True):
        if param.dim() == 2:
            param.data = torch.cat([param.data, param.data + 1])
            param.grad = None
            for name in entry.keys() - {"step"}:
                entry[name] = torch.cat([entry[name], torch.zeros_like(entry[name])])


@change
def resized_in_place(side):
    for param, entry in zip(side.params, side.entries(), strict=True):
        if param.dim() == 1 and param.numel() > 4:
            param.grad = None
            param.requires_grad_(False).resize_(4).requires_grad_()
            for name in entry.keys() - {"step"}:
                entry[name].resize_(4)


@change
def transposed_at_the_same_address(side):
    param = side.params[5]
    param.data = param.data.t()
    param.grad = None
    for entry, name in side.slots():
        if entry is side.optimizer.state.get(param):
            entry[name] = entry[name].t()


@change
def change_options(side):
    side.group["lr"] = 0.01
    side.group["weight_decay"] = 0.3
    if "momentum" in side.group:
        side.group["momentum"] = 0.5
    if "betas" in side.group:
        side.group["betas"] = (0.5, 0.6)


@change
def a_tensor_for_lr(side):
    side.group["lr"] = torch.tensor(0.05)


@change
def momentum_off_and_on(side):
    if "momentum" in side.group:
        side.group["momentum"] = 0.0
        side.steps(1)
        side.group["momentum"] = 0.7


@change
def more_slots(side):
    for name in ("amsgrad", "centered"):
        if name in side.group:
            side.group[name] = True


@change
def climb(side):
    side.group["maximize"] = True


@change
def freeze_some(side):
    side.steps(2, missing=(0, 2, 4))


@change
def alternate(side):
    for step in range(4):
        side.steps(1, missing=(step % 3,))


@change
def no_gradient_at_all(side):
    side.steps(1, missing=range(len(side.params)))


@change
def move_to_a_group_of_its_own(side):
    last = side.group["params"].pop()
    side.optimizer.add_param_group({"params": [last], "lr": 0.5})


@change
def another_order(side):
    side.group["params"].reverse()


@change
def take_one_out(side):
    side.group["params"].pop(1)


@change
def densify(side):
    """As 3D Gaussian splatting does: a new parameter with more rows takes over the state."""
    for index in (1, 5):
        old = side.params[index]
        stored = side.optimizer.state.pop(old, None)
        rows = torch.cat([old.detach(), side.randn((2, *old.shape[1:]))])
        new = side.group["params"][index] = side.params[index] = nn.Parameter(rows)
        if stored:
            for name in stored.keys() - {"step"}:
                more = torch.zeros((2, *old.shape[1:]))
                stored[name] = torch.cat([stored[name], more])
            side.optimizer.state[new] = stored


@change
def prune(side):
    old = side.params[5]
    keep = torch.arange(len(old)) % 3 != 0
    stored = side.optimizer.state.pop(old, None)
    new = side.group["params"][5] = side.params[5] = nn.Parameter(old.detach()[keep])
    if stored:
        for name in stored.keys() - {"step"}:
            stored[name] = stored[name][keep]
        side.optimizer.state[new] = stored


@change
def save_and_load(side):
    buffer = io.BytesIO()
    torch.save(side.optimizer.state_dict(), buffer)
    buffer.seek(0)
    side.optimizer.load_state_dict(torch.load(buffer, weights_only=True))


@change
def load_its_own_state(side):
    side.optimizer.load_state_dict(side.optimizer.state_dict())


@change
def go_on_with_a_copy(side):
    side.optimizer, side.params = copy.deepcopy((side.optimizer, side.params))


@change
def to_float64(side):
    """As ``model.double()`` does: the slots stay as they are."""
    for param in side.params:
        param.data = param.data.double()
        param.grad = None


@change
def to_float64_with_slots(side):
    to_float64(side)
    for entry, name in side.slots():
        entry[name] = entry[name].double()


@change
def bfloat16_for_some_steps(side):
    for param in side.params:
        param.data = param.data.bfloat16()
        param.grad = None
    side.steps(2)
    for param in side.params:
        param.data = param.data.float()
        param.grad = None


@change
def some_in_float16(side):
    for param in side.params[::2]:
        param.data = param.data.half()
        param.grad = None


@change
def gradients_of_another_kind(side):
    for _ in range(2):
        for param in side.params:
            grad = side.randn((2, *param.shape)).to(param.dtype)
            param.grad = grad.movedim(0, -1)[..., 0]
        side.optimizer.step()


@change
def sparse_gradients_where_they_may_be(side):
    if isinstance(side.optimizer, optim.SGD) and not side.group.get("weight_decay"):
        param = side.params[1]
        side.steps(0)
        for each in side.params:
            each.grad = None
        param.grad = torch.eye(*param.shape).to(param.dtype).to_sparse()
        side.optimizer.step()


@change
def the_same_gradients_again(side):
    side.steps(1)
    side.optimizer.step()


def run(change_names, cls, **options):
    side = Side(cls, **options)
    side.steps(2)
    for each in change_names:
        each(side)
        side.steps(2)
    return side


@by_engine
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_a_change_between_steps_is_obeyed(cls, change, engine):
    assert_same(run([change], cls, **ENGINES[engine]), run([change], cls, foreach=False))


# Changes after which the next one would not find what it changes.
ALONE = {resized_in_place, another_shape_of_the_same_size, transposed_at_the_same_address}
TOGETHER = [
    each
    for each in CHANGES
    if each not in ALONE | {take_one_out, another_order, move_to_a_group_of_its_own, densify, prune,
                            exchange_two_entries, a_larger_shape}
]  # fmt: skip


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from(TOGETHER), min_size=2, max_size=5),
    st.sampled_from(CLASSES),
)
def test_any_changes_in_any_order(changes, cls):
    assert_same(run(changes, cls), run(changes, cls, foreach=False))


class NumpySide:
    """A training by the reference, one optimizer for each parameter."""

    def __init__(self, arrays, make):
        self.arrays = arrays
        self.optimizers = [make() for _ in arrays]

    def step(self, grads):
        for array, optimizer, grad in zip(self.arrays, self.optimizers, grads, strict=True):
            if grad is not None:
                optimizer.update({"p": array}, {"p": grad})


ACTIONS = ("lr", "betas", "weight_decay", "step", "slot", "forget", "reverse", "load")


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(ACTIONS),
            st.integers(0, 3),
            st.floats(0.01, 0.9),
            st.lists(st.booleans(), min_size=4, max_size=4),
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["float32", "float64", "float16"]),
    st.sampled_from([{}, {"fused": True}, {"foreach": False}]),
)
def test_actions_of_the_user_are_those_of_the_reference(actions, dtype, engine):
    """Adam of both sides, with the same done to both between the steps."""
    rng = np.random.default_rng(0)
    shapes = ((3,), (2, 3), (), (3,))
    arrays = [np.asarray(rng.standard_normal(shape)).astype(dtype) for shape in shapes]
    params = [nn.Parameter(torch.from_numpy(array.copy())) for array in arrays]
    optimizer = optim.Adam(params, lr=0.1, **engine)
    numpys = NumpySide(arrays, lambda: reference.Adam(lr=0.1))
    for action, index, value, present in actions:
        group, entry = optimizer.param_groups[0], optimizer.state.get(params[index])
        theirs = numpys.optimizers[index].state.get("p")
        if action in ("lr", "betas", "weight_decay"):
            group[action] = (value, value / 2) if action == "betas" else value
            for each in numpys.optimizers:
                (each.around if action == "weight_decay" else each.hyper)[action] = group[action]
        elif action == "step" and entry:
            entry["step"] = torch.tensor(7.0)
            theirs["step"] = 7
        elif action == "slot" and entry:
            entry["exp_avg"] = torch.full_like(entry["exp_avg"], value)
            theirs["exp_avg"][...] = value
        elif action == "forget":
            optimizer.state.pop(params[index], None)
            numpys.optimizers[index].state.pop("p", None)
        elif action == "reverse":
            group["params"].reverse()
        elif action == "load":
            optimizer.load_state_dict(optimizer.state_dict())
        grads = [
            np.asarray(rng.standard_normal(shape)).astype(dtype) if there else None
            for shape, there in zip(shapes, present, strict=True)
        ]
        for param, grad in zip(params, grads, strict=True):
            param.grad = None if grad is None else torch.from_numpy(grad.copy())
        optimizer.step()
        numpys.step(grads)
        for param, array, own in zip(params, arrays, numpys.optimizers, strict=True):
            np.testing.assert_array_equal(param.detach().numpy(), array)
            for name, slot in own.state.get("p", {}).items():
                np.testing.assert_array_equal(optimizer.state[param][name].numpy(), slot)
