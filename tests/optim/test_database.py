"""What PyTorch's own database of optimizers lists, with our classes in the place of torch's.

The database is private to torch and changes with it: where its shape is unknown, this is skipped.
"""

import copy
import inspect

import pytest
import torch
from torch import nn

from torchopt_ref import optim

try:
    from torch.testing._internal.common_optimizers import (
        OptimizerErrorEnum,
        _get_optim_inputs_including_global_cliquey_kwargs,
        optim_db,
    )

    DATABASE = {info.name: info for info in optim_db}
    INFOS = [DATABASE[name] for name in ("SGD", "Adagrad", "RMSprop", "Adam", "AdamW")]
    INPUTS = [
        (info, entry)
        for info in INFOS
        for entry in (
            # These have all engines but the default one.
            *_get_optim_inputs_including_global_cliquey_kwargs("cpu", torch.float32, info),
            *info.optim_inputs_func("cpu"),
        )
    ]
    ERRORS = [
        (info, entry)
        for info in INFOS
        for entry in info.optim_error_inputs_func("cpu", torch.float32)
    ]
except (ImportError, AttributeError, KeyError, TypeError) as error:
    pytest.skip(f"torch's optimizer database has another shape: {error}", allow_module_level=True)

by_info = pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)


def ours(info):
    return getattr(optim, info.name)


def identify(value):
    entry = getattr(value, "optimizer_error_input", value)
    return getattr(value, "name", None) or entry.desc


def model_and_data(dtype=torch.float64):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1)).to(dtype)
    return model, torch.randn(8, 6, dtype=dtype), torch.randn(8, 1, dtype=dtype)


def train(make, steps=5, dtype=torch.float64, schedulers=()):
    """Parameters after some steps, the losses, and the learning rates."""
    model, x, t = model_and_data(dtype)
    params = list(model.parameters())
    optimizer = make(params)
    scheduled = [make_scheduler(optimizer) for make_scheduler in schedulers]
    losses, rates = [], []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), t)
        loss.backward()
        # A leaf that requires a gradient cannot be written where autograd records.
        model.requires_grad_(not optimizer.defaults["differentiable"])
        optimizer.step()
        model.requires_grad_(True)
        for scheduler in scheduled:
            plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
            scheduler.step(*[loss.item()] * plateau)
        losses.append(loss.item())
        rates.append(float(optimizer.param_groups[0]["lr"]))
    return [param.detach().clone() for param in params], losses, rates


@pytest.mark.parametrize(("info", "entry"), INPUTS, ids=identify)
def test_every_input_trains_like_torchs(info, entry):
    kwargs = entry.kwargs
    results = [
        train(lambda params, cls=cls: cls(params, **copy.deepcopy(kwargs)))
        for cls in (ours(info), info.optim_cls)
    ]
    # For autograd, torch corrects its biases with a float32 step, we with a float64 one.
    tolerance = 1e-5 if kwargs.get("differentiable") else 1e-9
    for mine, theirs in zip(results[0][0], results[1][0], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=100 * tolerance, atol=tolerance)
    if kwargs.get("differentiable"):
        plain = train(lambda params: ours(info)(params, **{**kwargs, "differentiable": False}))
        for mine, exact in zip(results[0][0], plain[0], strict=True):
            torch.testing.assert_close(mine, exact, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("info", "entry"), ERRORS, ids=identify)
def test_every_error_is_raised(info, entry):
    given = entry.optimizer_error_input
    params = [nn.Parameter(torch.randn(2, 3))] if given.params is None else given.params
    if issubclass(entry.error_type, Warning):
        with pytest.warns(entry.error_type, match=entry.error_regex):
            ours(info)(params, **given.kwargs)
    elif entry.error_on == OptimizerErrorEnum.CONSTRUCTION_ERROR:
        with pytest.raises(entry.error_type, match=entry.error_regex):
            ours(info)(params, **given.kwargs)
    else:
        optimizer = ours(info)(params, **given.kwargs)
        with pytest.raises(entry.error_type, match=entry.error_regex):
            optimizer.step()


@by_info
def test_every_flag_is_accepted(info):
    signature = inspect.signature(ours(info)).parameters
    assert set(info.supported_impls) <= signature.keys()
    assert ("capturable" in signature) == info.has_capturable_arg


@by_info
def test_every_scheduler_is_obeyed(info):
    for schedulers in info.scheduler_inputs:
        results = [
            train(lambda params, cls=cls: cls(params, lr=0.01), 25, schedulers=schedulers)
            for cls in (ours(info), info.optim_cls)
        ]
        assert results[0][2] == results[1][2]
        assert len(set(results[0][2])) > 1 or len(schedulers) == 1
        for mine, theirs in zip(results[0][0], results[1][0], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8)


@by_info
def test_sparse_gradients_where_they_are_supported(info):
    """One coordinate of Rosenbrock's function at a time, as a sparse and as a dense gradient."""
    kwargs, schedulers = info.metadata_for_sparse
    if not info.supports_sparse:
        param = nn.Parameter(torch.zeros(2))
        param.grad = torch.sparse_coo_tensor([[0]], [1.0], (2,), check_invariants=True)
        with pytest.raises(RuntimeError, match="does not support sparse gradients"):
            ours(info)([param]).step()
        return
    for makes in [[], *([make] for make in schedulers)]:
        sparse = rosenbrock_path(ours(info), kwargs, makes, "sparse")
        dense = rosenbrock_path(ours(info), kwargs, makes, "dense")
        theirs = rosenbrock_path(info.optim_cls, kwargs, makes, "sparse")
        assert torch.equal(sparse, dense)
        torch.testing.assert_close(sparse, theirs, rtol=1e-9, atol=0)


def rosenbrock_path(cls, kwargs, schedulers, layout):
    """Where 200 steps lead that move one coordinate at a time."""
    param = nn.Parameter(torch.tensor([1.5, 1.5], dtype=torch.float64))
    optimizer = cls([param], **kwargs)
    scheduled = [make(optimizer) for make in schedulers]
    for step in range(200):
        x, y = param.detach()
        gradient = torch.stack([-400 * x * (y - x**2) - 2 * (1 - x), 200 * (y - x**2)])
        touched = step % 2
        parts = torch.stack([gradient[touched] / 4, gradient[touched] * 3 / 4])
        param.grad = torch.sparse_coo_tensor(
            [[touched, touched]], parts, (2,), check_invariants=True
        )
        if layout == "dense":
            param.grad = param.grad.to_dense()
        optimizer.step()
        for scheduler in scheduled:
            plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
            scheduler.step(*[float(gradient.norm())] * plateau)
    return param.detach()


@by_info
def test_states_of_before_a_flag_existed_load(info):
    model, x, _ = model_and_data(torch.float32)
    for entry in info.optim_inputs_func("cpu"):
        optimizer = ours(info)(model.parameters(), **entry.kwargs)
        model(x).sum().backward()
        optimizer.step()
        old = optimizer.state_dict()
        for group in old["param_groups"]:
            for flag in info.not_og_supported_flags:
                group.pop(flag, None)
        fresh = ours(info)(model.parameters(), **entry.kwargs)
        fresh.load_state_dict(copy.deepcopy(old))
        fresh.step()
        assert fresh.param_groups[0].keys() == optimizer.param_groups[0].keys()
