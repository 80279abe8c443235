"""State dicts: their hooks, dtypes and devices, and what loading may not do."""

import copy
import io

import pytest
import torch
from torch import nn

from torchopt_ref import optim

CLASSES = [optim.Momentum, optim.AdaGrad, optim.RMSprop, optim.Adam, optim.AdamW]
by_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


def trained(cls, dtype=torch.float32, **options):
    torch.manual_seed(0)
    params = [nn.Parameter(torch.randn(4, 3).to(dtype)), nn.Parameter(torch.randn(3).to(dtype))]
    optimizer = cls(params, lr=0.1, **options)
    for _ in range(2):
        for param in params:
            param.grad = torch.ones_like(param)
        optimizer.step()
    return optimizer, params


@by_class
def test_hooks_of_saving_and_loading(cls):
    optimizer, _ = trained(cls)
    seen = []
    optimizer.register_state_dict_pre_hook(lambda o: seen.append("before saving"))
    optimizer.register_state_dict_post_hook(
        lambda o, state: {**state, "note": 1} if seen.append("saved") is None else None
    )
    optimizer.register_load_state_dict_pre_hook(
        lambda o, state: seen.append(f"before loading {state.get('note')}")
    )
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append("loaded"))
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen == ["before saving", "saved", "before loading 1", "loaded"]
    assert len(optimizer._optimizer_load_state_dict_pre_hooks) == 1
    assert len(optimizer._optimizer_load_state_dict_post_hooks) == 1


@by_class
def test_what_a_loading_hook_puts_in_is_what_is_loaded(cls):
    optimizer, params = trained(cls)
    name = next(name for name in optimizer.state[params[0]] if name != "step")

    def replace(_, state):
        return {
            **state,
            "state": {
                key: {**entry, name: torch.full_like(entry[name], 7, dtype=torch.float64)}
                for key, entry in state["state"].items()
            },
        }

    optimizer.register_load_state_dict_pre_hook(replace)
    seen = []
    optimizer.register_load_state_dict_post_hook(
        lambda o: seen.append(o.state[params[0]][name].dtype)
    )
    optimizer.load_state_dict(optimizer.state_dict())
    assert (optimizer.state[params[0]][name] == 7).all()
    assert seen == [torch.float64]


@by_class
@pytest.mark.parametrize("saved", [torch.float32, torch.float64, torch.bfloat16])
def test_slots_keep_the_dtype_they_were_saved_in(cls, saved):
    """torch.optim would round float32 averages of a bfloat16 parameter when they are loaded."""
    optimizer, _ = trained(cls, saved)
    state = optimizer.state_dict()
    other, params = trained(cls, torch.bfloat16)
    other.load_state_dict(copy.deepcopy(state))
    for index, param in enumerate(params):
        for name, slot in other.state[param].items():
            assert slot.dtype == state["state"][index][name].dtype
            assert torch.equal(slot, state["state"][index][name])
    other.step()


@by_class
@pytest.mark.parametrize("engine", [{}, {"fused": True}])
def test_the_step_is_stored_as_torch_stores_it(cls, engine):
    optimizer, params = trained(cls, **engine)
    if "step" not in optimizer.state[params[0]]:
        assert cls is optim.Momentum
        return
    for dtype in (torch.float64, torch.float32):
        torch.set_default_dtype(dtype)
        try:
            mine, params = trained(cls, **engine)
            step = mine.state[params[0]]["step"]
            assert step.shape == ()
            assert step.device.type == "cpu"
            assert step.dtype == (torch.float32 if engine else dtype)
        finally:
            torch.set_default_dtype(torch.float32)


@by_class
def test_a_state_dict_is_a_plain_file(cls):
    optimizer, params = trained(cls)
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    sizes = sum(slot.nbytes for param in params for slot in optimizer.state[param].values())
    assert buffer.tell() < sizes + 8_000
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=True)
    assert str(loaded) == str(optimizer.state_dict())


@by_class
def test_loading_does_not_change_what_is_loaded(cls):
    optimizer, _ = trained(cls)
    saved = copy.deepcopy(optimizer.state_dict())
    given = copy.deepcopy(saved)
    other, params = trained(cls)
    other.load_state_dict(given)
    assert str(given) == str(saved)
    for param in params:
        param.grad = torch.ones_like(param)
    other.step()
    assert str(given["param_groups"]) == str(saved["param_groups"])


@by_class
def test_states_that_do_not_fit_are_refused(cls):
    optimizer, params = trained(cls)
    with pytest.raises(ValueError, match="different number of parameter groups"):
        cls([{"params": [params[0]]}, {"params": [params[1]]}]).load_state_dict(
            optimizer.state_dict()
        )
    with pytest.raises(ValueError, match="doesn't match the size of optimizer's group"):
        cls([params[0]]).load_state_dict(optimizer.state_dict())


def test_a_state_of_another_optimizer_is_refused():
    """torch.optim raises KeyError in the first step; defaults would be worse."""
    params = [nn.Parameter(torch.ones(2))]
    for theirs in (torch.optim.SGD(params), optim.SGD(params, convention="torch")):
        with pytest.raises(ValueError, match="not of Adam: its param groups have no"):
            optim.Adam(params).load_state_dict(theirs.state_dict())


def test_names_of_parameters_travel():
    model = nn.Linear(3, 2)
    optimizer = optim.Adam(model.named_parameters())
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]
    other = optim.Adam(nn.Linear(3, 2).named_parameters())
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["param_names"] == ["weight", "bias"]


@by_class
def test_a_lr_as_a_tensor_stays_one_and_is_not_shared(cls):
    rate = torch.tensor(0.1)
    params = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))]
    optimizer = cls([{"params": [params[0]]}, {"params": [params[1]]}], lr=rate)
    assert all(isinstance(group["lr"], torch.Tensor) for group in optimizer.param_groups)
    restored = cls([{"params": [params[0]]}, {"params": [params[1]]}], lr=0.5)
    restored.load_state_dict(optimizer.state_dict())
    assert isinstance(restored.param_groups[0]["lr"], torch.Tensor)


def test_tensor_betas():
    params = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))]
    floats = optim.Adam([params[0]], betas=(0.5, 0.75))
    tensors = optim.Adam([params[1]], betas=(torch.tensor([[0.5]]), torch.tensor(0.75)))
    for _ in range(3):
        for param, optimizer in zip(params, (floats, tensors), strict=True):
            param.grad = torch.ones(3)
            optimizer.step()
    assert torch.equal(*params)
