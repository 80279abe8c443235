#!/usr/bin/env python
"""What RMSprop's epsilon does in reinforcement learning: the figures of docs/dialects.md.

    scripts/rmsprop_epsilon.py           train (some 2 minutes), write figures and numbers
    scripts/rmsprop_epsilon.py figures   draw the figures again, from the numbers there are

An actor-critic learns to balance a pole on a cart, with a recipe like that of A2C: 16 carts, an
update every 5 steps, alpha 0.99, gradients of norm 0.5 at most. Eight seeds learn at once, along
the first dimension of every tensor: the optimizers are elementwise, so none knows of the others.
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from torchopt_ref.experiments.lab.charts import Lines
from torchopt_ref.experiments.lab.panels import curves
from torchopt_ref.experiments.lab.svg import Axis, Figure
from torchopt_ref.experiments.lab.words import Words
from torchopt_ref.optim import keras, optax

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "images" / "dialects"
SEEDS, CARTS, STEPS, HIDDEN, UPDATES, RECORD = 8, 16, 5, 64, 1500, 50
LR, ALPHA, DISCOUNT, ENTROPY, LONGEST = 5e-3, 0.99, 0.99, 0.01, 500
EPSILONS = (1e-5, 1e-2)
OPTIMIZERS: dict[str, Callable[[Sequence[Tensor], float], torch.optim.Optimizer]] = {
    "torch": lambda params, eps: torch.optim.RMSprop(params, LR, ALPHA, eps),
    "Optax, outside": lambda params, eps: optax.RMSprop(params, LR, ALPHA, eps, eps_in_sqrt=False),
    "Keras": lambda params, eps: keras.RMSprop(params, LR, ALPHA, eps=eps),
    "Optax": lambda params, eps: optax.RMSprop(params, LR, ALPHA, eps),
    "torch, √eps": lambda params, eps: torch.optim.RMSprop(params, LR, ALPHA, math.sqrt(eps)),
}


class Carts:
    """Carts with a pole each (A. Barto, R. Sutton, C. Anderson, 1983), steps of 0.02 s."""

    def __init__(self, random: torch.Generator) -> None:
        self.random = random
        self.state, self.age = self.upright(), torch.zeros(SEEDS, CARTS)

    def upright(self) -> Tensor:
        return 0.1 * torch.rand(SEEDS, CARTS, 4, generator=self.random) - 0.05

    def push(self, right: Tensor) -> Tensor:
        """Push each cart by 10 N to the right or to the left; return which episodes have ended."""
        x, speed, angle, turning = self.state.unbind(-1)
        sin, cos = angle.sin(), angle.cos()
        pushed = (20 * right - 10 + 0.05 * turning**2 * sin) / 1.1
        turned = (9.8 * sin - cos * pushed) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
        slid = pushed - 0.05 * turned * cos / 1.1
        change = torch.stack([speed, slid, turning, turned], dim=-1)
        self.state, self.age = self.state + 0.02 * change, self.age + 1
        x, _, angle, _ = self.state.unbind(-1)
        return (x.abs() > 2.4) | (angle.abs() > math.radians(12)) | (self.age >= LONGEST)

    def restart(self, ended: Tensor) -> None:
        self.state = torch.where(ended[..., None], self.upright(), self.state)
        self.age = torch.where(ended, 0, self.age)


def train(optimizer: str, eps: float) -> dict[str, list]:
    """What is recorded every ``RECORD`` updates.

    ``lengths``: for each seed, the mean length of the episodes that have ended since the record
    before. ``roots``: the median of the roots of all mean squares.
    """
    random = torch.Generator().manual_seed(0)
    params = [
        torch.randn(SEEDS, 4, HIDDEN, generator=random) / 2,
        torch.zeros(SEEDS, 1, HIDDEN),
        torch.randn(SEEDS, HIDDEN, 2, generator=random) / math.sqrt(HIDDEN),
    ]
    params = [param.requires_grad_() for param in params]
    stepper = OPTIMIZERS[optimizer](params, eps)
    carts = Carts(random)

    def network() -> Sequence[Tensor]:
        """The value of each cart's state, and the logit of a push to the right."""
        return (torch.tanh(carts.state @ params[0] + params[1]) @ params[2]).unbind(-1)

    lengths, roots = [], []
    sums, counts = torch.zeros(SEEDS), torch.zeros(SEEDS)
    for update in range(1, UPDATES + 1):
        seen = []
        for _ in range(STEPS):
            value, logit = network()
            right = torch.rand(SEEDS, CARTS, generator=random) < torch.sigmoid(logit.detach())
            ended = carts.push(right.float())
            seen.append((value, logit, right, ended))
            sums, counts = sums + (carts.age * ended).sum(1), counts + ended.sum(1)
            carts.restart(ended)
        back, losses = network()[0].detach(), []
        for value, logit, right, ended in reversed(seen):
            back = torch.where(ended, 1.0, 1 + DISCOUNT * back)
            advantage = back - value
            chosen = logsigmoid(torch.where(right, logit, -logit))
            entropy = torch.nn.functional.softplus(logit) - logit * torch.sigmoid(logit)
            losses.append(advantage**2 / 2 - chosen * advantage.detach() - ENTROPY * entropy)
        stepper.zero_grad()
        torch.stack(losses).mean((0, 2)).sum().backward()
        clip(params)
        stepper.step()
        if update % RECORD == 0:
            # Where no episode has ended, take the mean age of those that go on.
            alive = carts.age.mean(1)
            lengths.append(torch.where(counts > 0, sums / counts.clamp(min=1), alive))
            sums, counts = torch.zeros(SEEDS), torch.zeros(SEEDS)
            squares = [stepper.state[param]["square_avg"].flatten() for param in params]
            roots.append(float(f"{torch.cat(squares).sqrt().median():.2g}"))
    rounded = [[round(each, 1) for each in row] for row in torch.stack(lengths, 1).tolist()]
    return {"lengths": rounded, "roots": roots}


def clip(params: Sequence[Tensor]) -> None:
    """Scale the gradients of each seed down to a norm of at most 0.5."""
    grads = [param.grad for param in params if param.grad is not None]
    norms = sum(grad.square().sum((1, 2)) for grad in grads) ** 0.5
    for grad in grads:
        grad *= (0.5 / (norms + 1e-6)).clamp(max=1)[:, None, None]


def figures(recorded: dict[str, dict[str, dict[str, list]]]) -> dict[str, Figure]:
    """By the names of their files; ``recorded`` is what ``train`` returned, by epsilon and name."""
    updates = Axis(Words("update", "更新次数"), whole=True)
    length = Axis(Words("steps until the pole falls", "杆倒下前的步数"), limits=(0, LONGEST))
    learned = [
        Lines(
            Words(f"epsilon {eps}", f"epsilon {eps}"),
            updates,
            length,
            curves(
                {Words(name, name): np.array(each["lengths"]) for name, each in found.items()},
                range(RECORD, UPDATES + 1, RECORD),
            ),
        )
        for eps, found in recorded.items()
    ]
    note = Words(
        f"Means over {SEEDS} seeds; bands: from the smallest to the largest.",
        f"曲线是 {SEEDS} 个随机种子的平均值，色带从最小值到最大值。",
    )
    return {
        "cartpole": Figure(
            Words("RMSprop's epsilon on a cart", "RMSprop 的 epsilon"), learned, note
        ),
        "ratio": ratio_figure(),
    }


def ratio_figure() -> Figure:
    root = np.logspace(-6, 0, 121)
    same = {
        Words(f"eps {eps:g}", f"eps {eps:g}"): (np.sqrt(root**2 + eps) / (root + eps))[None]
        for eps in (1e-2, 1e-5, 1e-8)
    }
    relative = np.logspace(-3, 3, 121)
    adapted = {Words("any eps", "任何 eps"): (np.sqrt(relative**2 + 1) / (relative + 1))[None]}
    times = Axis(Words("torch's step / Keras' step", "torch 的步长 / Keras 的步长"))
    return Figure(
        Words("How much larger a step is in torch", "torch 的步长大多少"),
        [
            Lines(
                Words("The same epsilon in both", "相同的 epsilon"),
                Axis(Words("√s, the size of gradients", "√s，梯度的大小"), log=True),
                times._replace(log=True),
                curves(same, root),
            ),
            Lines(
                Words("√eps in torch, eps in Keras", "torch 用 √eps，Keras 用 eps"),
                Axis(Words("√s / √eps", "√s / √eps"), log=True),
                times._replace(limits=(0.0, 1.05)),
                curves(adapted, relative),
            ),
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=["all", "figures"], default="all")
    numbers = FOLDER / "cartpole.json"
    if parser.parse_args().what == "all":
        torch.set_num_threads(1)  # the tensors are small
        found = {f"{eps:g}": {name: train(name, eps) for name in OPTIMIZERS} for eps in EPSILONS}
        FOLDER.mkdir(parents=True, exist_ok=True)
        numbers.write_text(json.dumps(found), encoding="utf-8")
    for name, figure in figures(json.loads(numbers.read_text(encoding="utf-8"))).items():
        for narrow in (False, True):
            file = FOLDER / f"{name}.en{'.narrow' if narrow else ''}.svg"
            file.write_text(figure.svg("en", narrow), encoding="utf-8")


if __name__ == "__main__":
    main()
