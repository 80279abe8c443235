"""Textbook and unusual trainings whose numbers look strange but are right."""

import itertools
import math

import torch
from torch import nn
from torch.nn import functional as F
from trainings import digits

from . import healthy


@healthy
def linear_regression_with_targets_of_ten_thousand(watch):
    """Losses begin at 1e8, and the weights grow from 0 to thousands."""
    torch.manual_seed(0)
    x = torch.randn(512, 3)
    y = 10_000 + x @ torch.tensor([[3000.0], [-1500.0], [800.0]]) + 100 * torch.randn(512, 1)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with watch(model, optimizer, every=10) as monitor:
        for rows in torch.arange(512).repeat(5).view(-1, 16):
            loss = F.mse_loss(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    assert loss < 3e4


@healthy
def network_of_large_targets_by_adam(watch):
    """Adam moves each weight by its learning rate at most, so the last bias needs many steps."""
    torch.manual_seed(1)
    x = torch.rand(2000, 2) * 4 - 2
    y = 1e4 * (1 + 0.5 * x[:, :1] + 0.25 * x[:, 1:] ** 2)
    model = nn.Sequential(
        nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(20):
            for rows in torch.randperm(2000).split(100):
                loss = F.mse_loss(model(x[rows]), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)
    assert loss < 0.1 * y.var()


@healthy
def house_prices(watch):
    """Standardised features and the logarithm of the price, as on Kaggle; validated by epoch."""
    torch.manual_seed(2)
    area, rooms = 60 + 80 * torch.rand(1200), torch.randint(1, 7, (1200,)).float()
    age, garden = 100 * torch.rand(1200), (torch.rand(1200) < 0.4).float()
    price = 1500 * area * (1 + 0.05 * rooms) * torch.exp(-age / 150) * (1 + 0.2 * garden)
    price = price * torch.exp(0.1 * torch.randn(1200))
    x = torch.stack([area, rooms, age, garden], 1)
    x = (x - x[:1000].mean(0)) / x[:1000].std(0)
    y = price.log()
    y = ((y - y[:1000].mean()) / y[:1000].std())[:, None]
    model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=1e-4)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(12):
            model.train()
            for rows in torch.randperm(1000).split(32):
                optimizer.zero_grad()
                loss = F.mse_loss(model(x[rows]), y[rows])
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)
            model.eval()
            with torch.no_grad():
                validation = F.mse_loss(model(x[1000:]), y[1000:])
            monitor.log(**{"loss/validation": validation})
    assert validation < 0.15


@healthy
def logistic_regression_on_the_full_batch(watch):
    """Gradient descent as in the textbook: each step sees all samples."""
    torch.manual_seed(3)
    x = torch.randn(300, 5)
    odds = x @ torch.tensor([2.0, -1.0, 0.5, 0.0, 1.0]) - 0.3
    y = torch.bernoulli(odds.sigmoid())
    model = nn.Linear(5, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(200):
            logits = model(x).squeeze(1)
            loss = F.binary_cross_entropy_with_logits(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, accuracy=((logits > 0) == y.bool()))
    assert loss < 0.5


class Sine(nn.Module):
    def __init__(self, inputs, outputs, omega=30.0, first=False):
        super().__init__()
        self.omega, self.linear = omega, nn.Linear(inputs, outputs)
        bound = 1 / inputs if first else math.sqrt(6 / inputs) / omega
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x):
        return torch.sin(self.omega * self.linear(x))


@healthy
def siren_learns_one_picture(watch):
    torch.manual_seed(4)
    picture = digits()[0][7].view(28, 28) * 2 - 1
    axis = torch.linspace(-1, 1, 28)
    places = torch.cartesian_prod(axis, axis)
    model = nn.Sequential(Sine(2, 64, first=True), Sine(64, 64), nn.Linear(64, 1))
    nn.init.uniform_(model[-1].weight, -math.sqrt(6 / 64) / 30, math.sqrt(6 / 64) / 30)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-4)
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(300):
            loss = F.mse_loss(model(places), picture.view(-1, 1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    assert loss < 0.02


@healthy
def physics_informed_oscillator(watch):
    """Damped oscillation from its equation and its start alone, on the same points each step."""
    torch.manual_seed(5)
    model = nn.Sequential(
        nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    t = torch.linspace(0, 3, 60)[:, None].requires_grad_()
    start = torch.zeros(1, 1, requires_grad=True)

    def derivative(y, x):
        return torch.autograd.grad(y.sum(), x, create_graph=True)[0]

    with watch(model, optimizer, every=25) as monitor:
        for _ in range(400):
            optimizer.zero_grad()
            y, y0 = model(t), model(start)
            dy = derivative(y, t)
            residual = derivative(dy, t) + 0.5 * dy + 4 * y
            of_start = (y0 - 1).pow(2).mean() + derivative(y0, start).pow(2).mean()
            loss = 0.05 * residual.pow(2).mean() + of_start
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, residual=residual.abs())
    omega = math.sqrt(4 - 0.0625)
    with torch.no_grad():
        right = torch.exp(-t / 4) * ((omega * t).cos() + 0.25 / omega * (omega * t).sin())
        assert (model(t) - right).abs().mean() < 0.15


@healthy
def curve_fit_by_lbfgs(watch):
    """A closure, several evaluations in each step, the full batch, strong Wolfe."""
    torch.manual_seed(6)
    x = torch.linspace(-3, 3, 100)[:, None]
    y = torch.sinc(x) + 0.3 * x
    model = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 1))
    optimizer = torch.optim.LBFGS(
        model.parameters(), lr=1, max_iter=4, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        return loss

    with watch(model, optimizer, every=10) as monitor:
        for _ in range(60):
            loss = optimizer.step(closure)
            monitor.log(loss=loss)
    assert loss < 1e-3


class HashGrid(nn.Module):
    """Mueller's hash encoding in two dimensions: tables of tiny numbers, most rows seldom used."""

    def __init__(self, levels=4, size=512, width=2):
        super().__init__()
        self.resolutions = [int(4 * 1.8**level) for level in range(levels)]
        self.tables = nn.ModuleList([nn.Embedding(size, width) for _ in range(levels)])
        for table in self.tables:
            nn.init.uniform_(table.weight, -1e-4, 1e-4)

    def forward(self, x):
        found = []
        for resolution, table in zip(self.resolutions, self.tables, strict=True):
            corner = (x * resolution).floor()
            part = x * resolution - corner
            total = 0
            for dx, dy in itertools.product((0, 1), (0, 1)):
                at = (corner + torch.tensor([dx, dy])).long()
                row = (at[:, 0] ^ (at[:, 1] * 2654435761)) % table.num_embeddings
                near = (part if dx else 1 - part)[:, :1] * (part if dy else 1 - part)[:, 1:]
                total = total + near * table(row)
            found.append(total)
        return torch.cat(found, 1)


@healthy
def hash_grid_of_a_picture(watch):
    """As instant-ngp: embeddings begin at 1e-4 and grow a thousandfold; eps is 1e-15."""
    torch.manual_seed(7)
    model = nn.Sequential(HashGrid(), nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, betas=(0.9, 0.99), eps=1e-15)
    losses = []
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(300):
            x = torch.rand(256, 2)
            y = torch.sin(12 * x[:, :1]) * torch.cos(9 * x[:, 1:] ** 2)
            loss = F.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            monitor.log(loss=loss)
    assert sum(losses[-20:]) < 0.1 * sum(losses[:20])


class MatrixFactorisation(nn.Module):
    def __init__(self, users, items, width=8):
        super().__init__()
        self.user, self.item = nn.Embedding(users, width), nn.Embedding(items, width)
        nn.init.normal_(self.user.weight, std=0.1)
        nn.init.normal_(self.item.weight, std=0.1)

    def forward(self, user, item):
        return (self.user(user) * self.item(item)).sum(-1)


@healthy
def recommender_by_bayesian_personalised_ranking(watch):
    """The loss begins at ln 2: products of small random embeddings are about 0."""
    torch.manual_seed(8)
    users, items = 200, 300
    tastes = torch.randn(users, 4) @ torch.randn(4, items)
    liked = tastes.topk(30, 1).indices
    held_out, liked = liked[:, ::6], liked[:, torch.arange(30) % 6 != 0]
    model = MatrixFactorisation(users, items)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1)
    with watch(model, optimizer, every=20) as monitor:
        for step in range(1, 401):
            user = torch.randint(users, (256,))
            good = liked[user, torch.randint(25, (256,))]
            bad = torch.randint(items, (256,))
            loss = -F.logsigmoid(model(user, good) - model(user, bad)).mean()
            loss = loss + 1e-4 * model.user(user).pow(2).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
            if step % 80 == 0:
                with torch.no_grad():
                    user = torch.arange(users)[:, None]
                    better = model(user, held_out) > model(user, torch.randint(items, (users, 5)))
                monitor.log(**{"auc/validation": better})
    assert better.float().mean() > 0.8


@healthy
def t_sne_of_digits(watch):
    """Learning rate 100, momentum 0.5 and then 0.8, early exaggeration: as in the paper."""
    torch.manual_seed(9)
    images, labels = digits()
    x, labels = images[:150], labels[:150]
    distances = torch.cdist(x, x).pow(2)
    low, high = torch.full((150, 1), 1e-4), torch.full((150, 1), 10.0)
    for _ in range(40):  # bisect for a perplexity of 15
        beta = (low + high) / 2
        p = torch.softmax((-distances * beta).fill_diagonal_(-torch.inf), 1)
        entropy = -(p * p.clamp(min=1e-12).log()).sum(1, keepdim=True)
        low = torch.where(entropy > math.log(15), beta, low)
        high = torch.where(entropy > math.log(15), high, beta)
    p = ((p + p.T) / 300).clamp(min=1e-12)
    points = nn.Embedding(150, 2)
    nn.init.normal_(points.weight, std=1e-2)
    optimizer = torch.optim.SGD(points.parameters(), lr=100, momentum=0.5)
    with watch(points, optimizer, every=25) as monitor:
        for step in range(400):
            if step == 100:
                optimizer.param_groups[0]["momentum"] = 0.8
            y = points(torch.arange(150))
            near = 1 / (1 + (y[:, None] - y[None]).pow(2).sum(-1))
            near = near * (1 - torch.eye(150))
            q = (near / near.sum()).clamp(min=1e-12)
            exaggerated = 4 * p if step < 100 else p
            optimizer.zero_grad()
            loss = (exaggerated * (p / q).log()).sum()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    y = points.weight.detach()
    nearest = torch.cdist(y, y).fill_diagonal_(torch.inf).argmin(1)
    assert loss < 1.2
    assert (labels[nearest] == labels).float().mean() > 0.6
