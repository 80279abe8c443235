"""``differentiable=True``: autograd goes through the step, as finite differences confirm."""

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.func import functional_call

from torchopt_ref import optim

F64 = {"dtype": torch.float64}
CASES = [
    (optim.SGD, {"momentum": 0.9, "dampening": 0.1, "nesterov": False, "weight_decay": 0.1}),
    (optim.SGD, {"momentum": 0.9, "nesterov": True, "maximize": True}),
    (optim.AdaGrad, {"lr_decay": 0.1, "weight_decay": 0.1}),
    (optim.RMSprop, {"momentum": 0.9, "centered": True, "weight_decay": 0.1, "maximize": True}),
    (optim.Adam, {"amsgrad": True, "weight_decay": 0.1}),
    (optim.AdamW, {}),
    (optim.book.Adam, {}),
    (optim.keras.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (optim.keras.RMSprop, {"centered": True, "momentum": 0.9}),
    (optim.keras.Adam, {"amsgrad": True, "weight_decay": 0.1}),
    (optim.optax.Adagrad, {}),
    (optim.optax.RMSprop, {"centered": True, "momentum": 0.9, "bias_correction": True}),
    (optim.optax.AdamW, {"nesterov": True, "eps_root": 0.1}),
]
by_case = pytest.mark.parametrize(
    ("cls", "options"), CASES, ids=lambda value: getattr(value, "__name__", str(value))
)


def uniform(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), **F64)


@by_case
def test_one_step_with_respect_to_all_it_reads(cls, options):
    param, grad = uniform(6), uniform(6, seed=1)
    template = cls([param.clone()], lr=0.5, **options)
    template.param_groups[0]["params"][0].grad = grad
    template.step()
    (state,) = template.state.values()
    names = [name for name in state if name != "step"]
    # Away from 0, where a root has no derivative, and with a variance that is positive.
    slots = [
        uniform(6, seed=2 + index) * (0.01 if name == "grad_avg" else 1) + 0.1
        for index, name in enumerate(names)
    ]

    def after(param, grad, *slots):
        moved = param.clone()
        moved.grad = grad
        optimizer = cls([moved], lr=0.5, differentiable=True, **options)
        optimizer.state[moved].update(
            {name: slot.clone() for name, slot in zip(names, slots, strict=True)}
        )
        if "step" in state:
            optimizer.state[moved]["step"] = torch.tensor(10.0)
        optimizer.step()
        return moved, *(optimizer.state[moved][name] for name in names)

    inputs = [tensor.clone().requires_grad_() for tensor in (param, grad, *slots)]
    assert gradcheck(after, inputs)


HYPER = [
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1}),
    (optim.AdaGrad, {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "eps": 1e-3}),
    (optim.RMSprop, {"lr": 0.1, "alpha": 0.9, "momentum": 0.5, "weight_decay": 0.1, "eps": 0.01}),
    (optim.Adam, {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1, "eps": 1e-3}),
    (optim.AdamW, {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1}),
    # Keras' learning rate is rounded to float32: differences of it are not finite enough.
    (optim.keras.Adam, {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1, "eps": 1e-3}),
    (optim.optax.AdamW, {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1}),
]


@pytest.mark.parametrize(("cls", "hyper"), HYPER, ids=lambda value: getattr(value, "__name__", ""))
def test_three_steps_with_respect_to_the_hyper_parameters(cls, hyper):
    x, t = uniform(5, 3), uniform(5, seed=1)

    def loss_after(*values):
        options = dict(zip(hyper, values, strict=True))
        if "beta1" in options:
            options["betas"] = options.pop("beta1"), options.pop("beta2")
        param = uniform(3, seed=2).requires_grad_().clone()
        optimizer = cls([param], differentiable=True, **options)
        for _ in range(3):
            loss = ((x @ param - t) ** 2).mean()
            (param.grad,) = torch.autograd.grad(loss, param, create_graph=True)
            optimizer.step()
        return ((x @ param - t) ** 2).mean()

    values = [torch.tensor(value, requires_grad=True, **F64) for value in hyper.values()]
    gradients = torch.autograd.grad(loss_after(*values), values)
    assert all(gradient != 0 for gradient in gradients)
    assert gradcheck(loss_after, values)


def test_a_meta_gradient_through_inner_steps():
    """MAML: the start of an inner training is trained; its gradient, by finite differences."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    x, t, x_new, t_new = uniform(6, 2), uniform(6, 1, seed=1), uniform(6, 2, seed=2), uniform(6, 1)

    def adapted_loss(*start):
        names = [name for name, _ in model.named_parameters()]
        params = [param.clone() for param in start]
        inner = optim.Adam(params, lr=0.05, differentiable=True)
        for _ in range(3):
            # The step writes its parameters; what autograd keeps of the forward pass are copies.
            weights = {name: param.clone() for name, param in zip(names, params, strict=True)}
            loss = nn.functional.mse_loss(functional_call(model, weights, (x,)), t)
            gradients = torch.autograd.grad(loss, params, create_graph=True)
            for param, gradient in zip(params, gradients, strict=True):
                param.grad = gradient
            inner.step()
        weights = dict(zip(names, params, strict=True))
        return nn.functional.mse_loss(functional_call(model, weights, (x_new,)), t_new)

    start = [param.detach().clone().requires_grad_() for param in model.parameters()]
    assert gradcheck(adapted_loss, start)


def test_a_step_count_that_requires_a_gradient_is_refused():
    param = torch.ones(2)
    param.grad = torch.ones(2)
    optimizer = optim.Adam([param], differentiable=True)
    optimizer.state[param]["step"] = torch.tensor(1.0, requires_grad=True)
    with pytest.raises(RuntimeError, match="`requires_grad` is not supported for `step`"):
        optimizer.step()
