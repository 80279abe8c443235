"""State dicts: their hooks, dtypes and devices, and what loading may not do."""

import copy
import io

import numpy as np
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
    for theirs in (torch.optim.SGD(params), optim.SGD(params)):
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


@pytest.mark.parametrize(
    "betas",
    [
        (torch.tensor([[0.9]]), torch.tensor(0.999)),
        torch.tensor([0.9, 0.999]),
        np.array([0.9, 0.999]),
    ],
    ids=["tensors", "a tensor", "an array"],
)
def test_betas_of_other_types(betas):
    """They are read as Python's numbers, with which scalars are computed in float64."""
    params = [nn.Parameter(torch.ones(30)), nn.Parameter(torch.ones(30))]
    floats = optim.Adam([params[0]], betas=tuple(map(float, betas)))
    tensors = optim.Adam([params[1]], betas=betas)
    for _ in range(3):
        grad = torch.randn(30)
        for param, optimizer in zip(params, (floats, tensors), strict=True):
            param.grad = grad.clone()
            optimizer.step()
    assert torch.equal(*params)


@by_class
@pytest.mark.parametrize("model", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("saved", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_a_slot_is_as_wide_as_it_was_and_as_its_parameter_needs(cls, saved, model):
    given = trained(cls, saved)[0].state_dict()
    optimizer, params = trained(cls, model)
    optimizer.load_state_dict(copy.deepcopy(given))
    copied = copy.deepcopy(optimizer)
    for index, (param, twin) in enumerate(
        zip(params, copied.param_groups[0]["params"], strict=True)
    ):
        for name, slot in optimizer.state[param].items():
            if name != "step":
                assert slot.dtype == torch.promote_types(saved, model)
                assert torch.equal(slot, given["state"][index][name].to(slot.dtype))
                assert copied.state[twin][name].dtype == slot.dtype
    optimizer.step()


def test_complex_slots_are_not_narrowed():
    z = nn.Parameter(torch.ones(3, dtype=torch.complex64))
    z.grad = torch.ones_like(z)
    optimizer = optim.Adam([z])
    optimizer.step()
    wide = nn.Parameter(z.detach().to(torch.complex128))
    other = optim.Adam([wide])
    other.load_state_dict(optimizer.state_dict())
    average = other.state[wide]["exp_avg"]
    assert average.dtype == torch.complex128
    assert torch.equal(average, optimizer.state[z]["exp_avg"].to(torch.complex128))
    optimizer.load_state_dict(other.state_dict())
    assert optimizer.state[z]["exp_avg"].dtype == torch.complex128


@by_class
def test_slots_are_laid_out_as_the_parameter_that_they_are_loaded_for(cls):
    """In another memory order no kernel would take them."""
    torch.manual_seed(0)
    param = nn.Parameter(torch.randn(4, 3, 5, 5))
    last = nn.Parameter(param.detach().contiguous(memory_format=torch.channels_last))
    optimizers = [cls([each], lr=0.1) for each in (param, last)]
    param.grad = torch.randn(4, 3, 5, 5)
    optimizers[0].step()
    last.data.copy_(param)
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    for name, slot in optimizers[1].state[last].items():
        assert name == "step" or slot.stride() == last.stride()
    last.grad = param.grad.clone()
    for optimizer in optimizers:
        optimizer.step()
    assert torch.equal(param, last)


def test_a_slot_of_a_subclass_stays_as_it_is():
    """It may have no memory of its own that could be laid out."""

    class Own(torch.Tensor):
        pass

    optimizer, (param, _) = trained(optim.Momentum)
    saved = optimizer.state_dict()
    entry = saved["state"][0]
    entry["momentum_buffer"] = entry["momentum_buffer"].t().contiguous().t().as_subclass(Own)
    optimizer.load_state_dict(saved)
    slot = optimizer.state[param]["momentum_buffer"]
    assert type(slot) is Own
    assert slot.stride() != param.stride()


@pytest.mark.parametrize("cls", [optim.AdaGrad, optim.Adam, optim.book.Adam])
@pytest.mark.parametrize("options", [{}, {"foreach": False}, {"fused": True}], ids=str)
@pytest.mark.parametrize("kind", [int, float, torch.Tensor.long, torch.Tensor.half])
def test_a_step_of_any_kind_is_loaded(cls, options, kind):
    optimizer, params = trained(cls, **options)
    given = copy.deepcopy(optimizer.state_dict())
    for entry in given["state"].values():
        entry["step"] = kind(entry["step"])
    others = [nn.Parameter(param.detach().clone()) for param in params]
    other = cls(others, lr=0.1, **options)
    other.load_state_dict(given)
    for param, twin in zip(params, others, strict=True):
        twin.grad = param.grad.clone()
    optimizer.step()
    other.step()
    for param, twin in zip(params, others, strict=True):
        assert torch.equal(param, twin)
        assert other.state[twin]["step"] == 3
        assert other.state[twin]["step"].dtype == torch.float32


@pytest.mark.parametrize("options", [{}, {"foreach": False}], ids=str)
def test_a_step_that_is_no_tensor_is_refused_in_words(options):
    optimizer, params = trained(optim.Adam, **options)
    optimizer.state[params[1]]["step"] = 2
    before = params[0].detach().clone()
    with pytest.raises(RuntimeError, match="`step` must be a singleton tensor"):
        optimizer.step()
    assert torch.equal(params[0], before)


@pytest.mark.parametrize("options", [{}, {"foreach": False}], ids=str)
def test_a_momentum_that_is_none_starts_anew(options):
    """torch.optim.SGD saves None where no step has been taken yet."""
    params, others = ([nn.Parameter(torch.ones(3))] for _ in range(2))
    optimizers = [
        optim.SGD(each, momentum=0.9, dampening=0.5, **options) for each in (params, others)
    ]
    given = optimizers[0].state_dict()
    given["state"] = {0: {"momentum_buffer": None}}
    optimizers[0].load_state_dict(given)
    for _ in range(2):
        for optimizer, (param,) in zip(optimizers, (params, others), strict=True):
            param.grad = torch.full((3,), 0.1)
            optimizer.step()
    assert torch.equal(*params, *others)
