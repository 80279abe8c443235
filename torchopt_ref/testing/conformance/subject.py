"""An optimizer under test: how it is built, and how it is driven through reproducible steps."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from torchopt_ref.sides import options_of

from .traits import PLAIN, Traits
from .verdicts import Skip

MIXED_SHAPES = ((4, 3), (5,), (3, 3))
MATRIX_SHAPES = ((4, 3), (5, 2), (3, 3))

FACTORS = {1.0: "at its default lr", 0.1: "at a tenth of it", 0.01: "at a hundredth of it"}
"""Factors of the default lr, tried in turn where the default may be too large for the problem."""

UNDER_WAY = 12
"""Steps after which every optimizer has moved and has all its state; some begin at the tenth."""

Params = list[Parameter]
Gradients = Sequence[Tensor | None]


@dataclass(frozen=True)
class Subject:
    """What a check is given. Everything it draws is a function of the step, never of what ran
    before, so that two runs of the same steps see the same numbers."""

    factory: Callable[..., Optimizer]
    traits: Traits = PLAIN
    reference: Callable[..., Any] | None = None
    max_ulp: int | None = 0

    def build(self, params: Iterable[Any], **options: Any) -> Optimizer:
        made = self.factory(params, **options)
        train = getattr(made, "train", None)  # schedule-free optimizers start in another mode
        if callable(train):
            train()
        return made

    def takes(self, option: str) -> bool:
        """Whether the factory has a parameter of that name."""
        return option in options_of(self.factory)

    def require_option(self, option: str) -> None:
        if not self.takes(option):
            raise Skip(f"the constructor takes no {option}")

    def parameters(self, dtype: torch.dtype = torch.float32) -> Params:
        """Three parameters of normal values; all matrices, if the optimizer needs them."""
        matrices = self.traits.two_dimensional_only or self.traits.sparse_only
        shapes = MATRIX_SHAPES if matrices else MIXED_SHAPES
        generator = seeded(0)
        return [Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]

    def gradients(self, params: Params, step: int) -> list[Tensor]:
        """Normal gradients of a step: those of a parameter depend on its shape and the step."""
        return [
            torch.randn(param.shape, generator=seeded(1000 * step + param.numel())).to(param.dtype)
            for param in params
        ]

    def step(
        self, optimizer: Optimizer, params: Params, grads: Gradients, step: int = 0
    ) -> list[Tensor | None]:
        """Take one step with ``grads``, and return the tensors that ``param.grad`` was set to."""
        given: list[Tensor | None] = []

        def closure() -> Tensor:
            loss = torch.zeros(())
            given[:] = [None if grad is None else self.laid_out(grad) for grad in grads]
            for param, grad, set_to in zip(params, grads, given, strict=True):
                param.grad = set_to
                if grad is not None and grad.layout == torch.strided:
                    loss = loss + (grad * param.detach()).sum().real.float().cpu()
            return loss

        seed_torch(step)
        closure()
        if self.traits.needs_closure:  # which some call for a second gradient, as SAM does
            optimizer.step(closure)  # type: ignore[arg-type]
        else:
            optimizer.step()
        return given

    def laid_out(self, grad: Tensor) -> Tensor:
        """A copy of a gradient, sparse by rows if the optimizer takes no other."""
        return grad.to_sparse(1) if self.traits.sparse_only else grad.clone()

    def train(
        self,
        optimizer: Optimizer,
        params: Params,
        steps: Iterable[int],
        gradients: Callable[[Params, int], Gradients] | None = None,
    ) -> None:
        """Take the steps of the given numbers with ``gradients``, by default the normal ones."""
        for step in steps:
            self.step(optimizer, params, (gradients or self.gradients)(params, step), step)

    def trained(self, steps: Iterable[int], **options: Any) -> tuple[Params, Optimizer]:
        """Parameters and their optimizer, made with ``options``, after the given steps."""
        params = self.parameters()
        optimizer = self.build(params, **options)
        self.train(optimizer, params, steps)
        return params, optimizer

    def require_lr(self, optimizer: Optimizer) -> None:
        """Skip where the param groups have no ``lr`` that could be tried."""
        if self.traits.lr_free:
            raise Skip("lr is not its step size (lr_free)")
        if not has_lr(optimizer):
            raise Skip("its param groups have no lr")

    def require_independent_parameters(self) -> None:
        if self.traits.couples_parameters:
            raise Skip("each parameter's step depends on the others (couples_parameters)")


def seed_torch(seed: int) -> None:
    """The effect of ``torch.manual_seed``, a hundred times as fast: torch's function also records a
    stack trace of each call for every kind of device that is not in use yet."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def has_lr(optimizer: Optimizer) -> bool:
    """Whether every group has an lr; a default of None leaves it to the optimizer."""
    return all(group.get("lr") is not None for group in optimizer.param_groups)


def set_lr(optimizer: Optimizer, factor: float) -> None:
    """Multiply every group's lr, as a scheduler does: a tensor in place."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].mul_(factor)
        else:
            group["lr"] = group["lr"] * factor
