"""An optimizer that keeps every promise, made to be broken in one place at a time."""

import numpy as np
import torch
from torch.optim import Optimizer


class Healthy(Optimizer):
    """Heavy-ball momentum, with every option that a check looks at."""

    def __init__(
        self,
        params,
        lr=0.01,
        momentum=0.9,
        weight_decay=0.0,
        *,
        maximize=False,
        foreach=False,
        fused=False,
        capturable=False,
        differentiable=False,
    ):
        options = {"maximize": maximize, "foreach": foreach, "fused": fused}
        options |= {"capturable": capturable, "differentiable": differentiable}
        hyper = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, hyper | options)

    def step(self, closure=None):
        with self.grad_mode():
            return self.take_step(closure)

    def grad_mode(self):
        return torch.set_grad_enabled(self.defaults["differentiable"])

    def take_step(self, closure):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    self.update(param, param.grad, group)
        return loss

    def update(self, param, grad, group):
        state = self.state[param]
        if not state:
            state.update(self.slots(param))
        state["step"] += 1
        grad = self.direction(param, grad.to_dense() if grad.is_sparse else grad, group)
        state["momentum_buffer"].mul_(group["momentum"]).add_(grad)
        param.sub_(group["lr"] * state["momentum_buffer"])

    def slots(self, param):
        return {"step": torch.zeros(()), "momentum_buffer": torch.zeros_like(param)}

    def direction(self, param, grad, group):
        if group["maximize"]:
            grad = -grad
        return grad + group["weight_decay"] * param


class HealthyReference:
    """The same formula in NumPy, with the defaults of the class."""

    def __init__(self):
        self.state = {}

    def update(self, params, grads):
        with np.errstate(all="ignore"):
            for name, param in params.items():
                zeros = {"step": np.zeros(()), "momentum_buffer": np.zeros_like(param)}
                state = self.state.setdefault(name, zeros)
                state["step"] += 1
                state["momentum_buffer"][...] = 0.9 * state["momentum_buffer"] + grads[name]
                param -= 0.01 * state["momentum_buffer"]
