"""Textbook and unusual trainings whose numbers look strange but are right."""

import itertools
import math

import torch
from torch import nn
from torch.nn import functional as F

from tests.tensorboard.trainings import batches, digits

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


class GaussianProcess(nn.Module):
    def __init__(self):
        super().__init__()
        self.log_length = nn.Parameter(torch.tensor(0.0))
        self.log_scale = nn.Parameter(torch.tensor(0.0))
        self.log_noise = nn.Parameter(torch.tensor(-1.0))

    def forward(self, x, y):
        """The negative log marginal likelihood of one observation, on the mean."""
        kernel = torch.exp(-0.5 * (torch.cdist(x, x) / self.log_length.exp()) ** 2)
        kernel = (2 * self.log_scale).exp() * kernel
        kernel = kernel + (2 * self.log_noise).exp() * torch.eye(len(x))
        prior = torch.distributions.MultivariateNormal(torch.zeros(len(x)), kernel)
        return -prior.log_prob(y) / len(x)


@healthy
def gaussian_process_by_marginal_likelihood(watch):
    """Three scalars, the same 80 points each step; the loss becomes negative."""
    torch.manual_seed(10)
    x = torch.rand(80, 1) * 5
    y = torch.sin(2 * x[:, 0]) + 0.05 * torch.randn(80)
    model = GaussianProcess()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(120):
            optimizer.zero_grad()
            loss = model(x, y)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, noise=model.log_noise.detach().exp())
    assert loss < -0.8
    assert 0.03 < model.log_noise.exp() < 0.08


@healthy
def poisson_regression_of_counts(watch):
    """Without its constant term the likelihood of large counts makes the loss negative."""
    torch.manual_seed(11)
    x = torch.randn(3000, 4)
    rate = 3 + 4 * F.softplus(x @ torch.tensor([1.0, 0.5, -0.5, 0.0]))
    counts = torch.poisson(rate)
    model = nn.Sequential(nn.Linear(4, 16), nn.ELU(), nn.Linear(16, 1), nn.Softplus())
    optimizer = torch.optim.Adamax(model.parameters(), lr=0.01)
    loss_of = nn.PoissonNLLLoss(log_input=False)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(5):
            for rows in torch.randperm(3000).split(50):
                loss = loss_of(model(x[rows]).squeeze(1), counts[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)
    with torch.no_grad():
        assert ((model(x).squeeze(1) - rate).abs() / rate).mean() < 0.12


class GCN(nn.Module):
    def __init__(self, adjacency, inputs, hidden, outputs):
        super().__init__()
        with_self = adjacency + torch.eye(len(adjacency))
        scale = with_self.sum(1).rsqrt()
        self.register_buffer("spread", scale[:, None] * with_self * scale)
        self.first = nn.Linear(inputs, hidden, bias=False)
        self.second = nn.Linear(hidden, outputs, bias=False)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        hidden = F.relu(self.spread @ self.first(self.dropout(x)))
        return self.spread @ self.second(self.dropout(hidden))


@healthy
def kipf_and_wellings_graph_network(watch):
    """One graph, all of it in each step, twenty labels a class."""
    torch.manual_seed(12)
    labels = torch.arange(300) % 3
    same = labels[:, None] == labels
    edges = torch.rand(300, 300) < torch.where(same, 0.05, 0.008)
    adjacency = (edges.triu(1) | edges.triu(1).T).float()
    words = (torch.rand(300, 60) < 0.05 + 0.1 * F.one_hot(labels, 3).repeat(1, 20)).float()
    words = words / words.sum(1, keepdim=True).clamp(min=1)
    model = GCN(adjacency, 60, 16, 3)
    optimizer = torch.optim.Adam(
        [
            {"params": model.first.parameters(), "weight_decay": 5e-4},
            {"params": model.second.parameters(), "weight_decay": 0},
        ],
        lr=0.01,
    )
    known = torch.arange(60)
    with watch(model, optimizer, every=20) as monitor:
        for epoch in range(200):
            model.train()
            optimizer.zero_grad()
            output = model(words)[known]
            loss = F.cross_entropy(output, labels[known])
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=labels[known])
            if epoch % 20 == 19:
                model.eval()
                with torch.no_grad():
                    output = model(words)[100:]
                right = output.argmax(1) == labels[100:]
                validation = F.cross_entropy(output, labels[100:])
                monitor.log(**{"loss/validation": validation, "accuracy/validation": right})
    assert right.float().mean() > 0.85


@healthy
def support_vector_machine_by_pegasos(watch):
    """Steps of 1 / (lambda t): the first are enormous, and all of it is noisy."""
    torch.manual_seed(13)
    y = torch.randint(2, (1000,)) * 2.0 - 1
    x = torch.randn(1000, 10) + y[:, None] * torch.linspace(0, 1, 10)
    model = nn.Linear(10, 1, bias=False)
    nn.init.zeros_(model.weight)
    strength = 0.02
    optimizer = torch.optim.SGD(model.parameters(), lr=1 / strength, weight_decay=strength)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(400):
            rows = torch.randint(1000, (8,))
            loss = F.relu(1 - y[rows] * model(x[rows]).squeeze(1)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            monitor.log(loss=loss)
    assert (model(x).squeeze(1) * y > 0).float().mean() > 0.93


@healthy
def nielsens_first_network(watch):
    """network.py: weights and biases of N(0, 1), sigmoids, half the squared error, eta 3."""
    torch.manual_seed(14)
    model = nn.Sequential(nn.Linear(784, 30), nn.Sigmoid(), nn.Linear(30, 10), nn.Sigmoid())
    for param in model.parameters():
        nn.init.normal_(param)
    optimizer = torch.optim.SGD(model.parameters(), lr=3.0)
    right = []
    with watch(model, optimizer, every=50) as monitor:
        for x, y in batches(1000, size=10, seed=14):
            output = model(x)
            loss = 0.5 * (output - F.one_hot(y, 10)).pow(2).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            right.append((output.argmax(1) == y).float().mean().item())
            monitor.log(loss=loss, output=output, target=y)
    assert sum(right[-100:]) > 55


@healthy
def exclusive_or(watch):
    torch.manual_seed(15)
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1), nn.Sigmoid())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(400):
            optimizer.zero_grad()
            output = model(x)
            loss = F.mse_loss(output, y)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    assert ((output > 0.5) == y.bool()).all()


@healthy
def evolution_strategy_without_a_backward_pass(watch):
    """Antithetic samples give the estimate that is written to grad; autograd is never used."""
    torch.manual_seed(16)
    x = torch.randn(200, 3)
    y = torch.sign(x[:, 0] + torch.sin(2 * x[:, 1]))
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    params = list(model.parameters())
    sigma, pairs = 0.1, 10
    with torch.no_grad(), watch(model, optimizer, every=20) as monitor:
        for _ in range(150):
            optimizer.zero_grad()
            center = nn.utils.parameters_to_vector(params)
            gradient, losses = torch.zeros_like(center), []
            for _ in range(pairs):
                noise = torch.randn_like(center)
                pair = []
                for sign in (1, -1):
                    nn.utils.vector_to_parameters(center + sign * sigma * noise, params)
                    pair.append(F.mse_loss(model(x).squeeze(1), y))
                gradient += (pair[0] - pair[1]) / (2 * sigma * pairs) * noise
                losses += pair
            nn.utils.vector_to_parameters(center, params)
            start = 0
            for param in params:
                param.grad = gradient[start : start + param.numel()].view_as(param).clone()
                start += param.numel()
            optimizer.step()
            monitor.log(loss=torch.stack(losses))
    assert torch.stack(losses).mean() < 0.5


class ReZero(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.alpha = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x + self.alpha * self.net(x)


@healthy
def rezero_with_a_last_layer_of_zeros(watch):
    """In the first step the last layer alone has a gradient, in the second the alphas have."""
    torch.manual_seed(17)
    model = nn.Sequential(nn.Linear(784, 64), *[ReZero(64) for _ in range(6)], nn.Linear(64, 10))
    nn.init.zeros_(model[-1].weight)
    nn.init.zeros_(model[-1].bias)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in batches(200, seed=17):
            output = model(x)
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)
    assert loss < 0.6


class KalmanFilter(nn.Module):
    """Position and speed; only the positions are seen, and the noises are learnt."""

    def __init__(self):
        super().__init__()
        self.log_process = nn.Parameter(torch.tensor(0.0))
        self.log_observation = nn.Parameter(torch.tensor(0.0))
        self.register_buffer("move", torch.tensor([[1.0, 1.0], [0.0, 1.0]]))

    def forward(self, seen):
        state, covariance = torch.zeros(len(seen), 2), 10 * torch.eye(2)
        push = self.log_process.exp() * torch.tensor([[0.25, 0.5], [0.5, 1.0]])
        total = 0
        for z in seen.T:
            state = state @ self.move.T
            covariance = self.move @ covariance @ self.move.T + push
            variance = covariance[0, 0] + self.log_observation.exp()
            surprise = z - state[:, 0]
            total = total + 0.5 * (surprise**2 / variance + (2 * math.pi * variance).log())
            gain = covariance[:, 0] / variance
            state = state + surprise[:, None] * gain
            covariance = covariance - torch.outer(gain, covariance[0])
        return (total / seen.shape[1]).mean()


@healthy
def noises_of_a_kalman_filter(watch):
    torch.manual_seed(18)
    pushes = 0.1 * torch.randn(128, 25)
    speed = pushes.cumsum(1)
    path = (speed - pushes / 2).cumsum(1)
    seen = path + 0.3 * torch.randn(128, 25)
    model = KalmanFilter()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(120):
            loss = model(seen[torch.randint(128, (16,))])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    assert 0.2 < (0.5 * model.log_observation).exp() < 0.4
    assert 0.05 < (0.5 * model.log_process).exp() < 0.2


@healthy
def mean_teacher_of_few_labels(watch):
    """200 labels; the teacher, an average of the student, is followed on unlabelled digits."""
    torch.manual_seed(19)
    images, labels = digits()

    def network():
        return nn.Sequential(
            nn.Dropout(0.2), nn.Linear(784, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10)
        )

    student, teacher = network(), network()
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False)
    optimizer = torch.optim.Adam(student.parameters(), lr=2e-3)
    with watch(student, optimizer, every=20) as monitor:
        for step in range(1, 251):
            known = torch.randint(200, (32,))
            x = torch.cat([images[known], images[torch.randint(200, 8000, (64,))]])
            output = student(x)
            with torch.no_grad():
                goal = teacher(x).softmax(1)
            supervised = F.cross_entropy(output[:32], labels[known])
            consistency = F.mse_loss(output.softmax(1), goal)
            loss = supervised + 10 * min(1, step / 100) * consistency
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for ours, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
                    ours.lerp_(theirs, max(0.02, 1 / (step + 1)))
            monitor.log(loss=loss, output=output[:32], target=labels[known])
            if step % 50 == 0:
                teacher.eval()
                right = teacher(images[8000:]).argmax(1) == labels[8000:]
                teacher.train()
                monitor.log(**{"accuracy/validation": right})
    assert right.float().mean() > 0.75


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimisation, as in the implementation that most people copy."""

    def __init__(self, params, base, rho=0.05, **options):
        super().__init__(params, dict(rho=rho, **options))
        self.base_optimizer = base(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self):
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.stack([p.grad.norm() for p in params]).norm()
        for p in params:
            self.state[p]["before"] = p.data.clone()
            p.add_(p.grad * self.param_groups[0]["rho"] / (norm + 1e-12))
        self.zero_grad()

    @torch.no_grad()
    def second_step(self):
        for p, state in self.state.items():
            p.data = state["before"]
        self.base_optimizer.step()
        self.zero_grad()


@healthy
def sharpness_aware_minimisation(watch):
    torch.manual_seed(20)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 8, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(400, 10),
    )
    optimizer = SAM(model.parameters(), torch.optim.SGD, rho=0.05, lr=0.05, momentum=0.9)
    with watch(model, optimizer.base_optimizer, every=20) as monitor:
        for x, y in batches(150, size=32, seed=20):
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.first_step()
            F.cross_entropy(model(x), y).backward()
            optimizer.second_step()
            monitor.log(loss=loss, output=output, target=y)
    assert loss < 0.8


class ScheduleFree(torch.optim.Optimizer):
    """Defazio's SGD: gradients at a mix of the fast iterate and of the mean of all of them."""

    def __init__(self, params, lr, beta=0.9, warm_up=20):
        super().__init__(params, {"lr": lr, "beta": beta, "warm_up": warm_up})
        self.total = 0.0

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["k"] = group.get("k", 0) + 1
            lr = group["lr"] * min(1, group["k"] / group["warm_up"])
            self.total += lr**2
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["fast"], state["mean"] = p.clone(), p.clone()
                state["fast"].sub_(p.grad, alpha=lr)
                state["mean"].lerp_(state["fast"], lr**2 / self.total)
                p.copy_(state["fast"].lerp(state["mean"], group["beta"]))

    @torch.no_grad()
    def use(self, mean):
        beta = self.param_groups[0]["beta"]
        for p, state in self.state.items():
            p.copy_(state["mean"] if mean else state["fast"].lerp(state["mean"], beta))


@healthy
def schedule_free_sgd(watch):
    """For validation the parameters are exchanged for their mean, and back again."""
    torch.manual_seed(21)
    images, labels = digits()
    model = nn.Sequential(nn.Linear(784, 64), nn.LayerNorm(64), nn.SiLU(), nn.Linear(64, 10))
    optimizer = ScheduleFree(model.parameters(), lr=1.0)
    with watch(model, optimizer, every=25) as monitor:
        for step in range(1, 301):
            rows = torch.randint(9000, (64,))
            output = model(images[rows])
            loss = F.cross_entropy(output, labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=labels[rows])
            if step % 50 == 0:
                optimizer.use(mean=True)
                with torch.no_grad():
                    output = model(images[9000:])
                optimizer.use(mean=False)
                validation = F.cross_entropy(output, labels[9000:])
                right = output.argmax(1) == labels[9000:]
                monitor.log(**{"loss/validation": validation, "accuracy/validation": right})
    assert right.float().mean() > 0.85


class DeepSets(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.each = nn.Sequential(nn.Linear(1, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.all = nn.Sequential(nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.head = nn.Linear(hidden, 1)

    def forward(self, x, mask):
        mean = (self.each(x[..., None]) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return self.head(self.all(mean)).squeeze(1)


@healthy
def deep_sets_find_the_spread(watch):
    """Sets of three to twelve numbers, padded with zeros; huber loss, NAdam."""
    torch.manual_seed(22)
    model = DeepSets()
    optimizer = torch.optim.NAdam(model.parameters(), lr=3e-3)
    losses = []
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(350):
            size = torch.randint(3, 13, (128, 1))
            mask = (torch.arange(12) < size).float()
            x = (torch.randn(128, 12) * (0.2 + torch.rand(128, 1)) + torch.randn(128, 1)) * mask
            mean = x.sum(1, keepdim=True) / size
            spread = (((x - mean) * mask) ** 2).sum(1) / size.squeeze(1)
            loss = F.huber_loss(model(x, mask), spread.sqrt())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            monitor.log(loss=loss)
    assert sum(losses[-20:]) < 0.15 * sum(losses[:20])


class TiedLanguageModel(nn.Module):
    def __init__(self, letters, width=48, context=4):
        super().__init__()
        self.embedding = nn.Embedding(letters, width)
        self.mix = nn.Linear(context * width, width)
        self.act, self.norm = nn.GELU(), nn.LayerNorm(width)
        self.head = nn.Linear(width, letters, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.head.weight = self.embedding.weight

    def forward(self, x):
        return self.head(self.norm(self.act(self.mix(self.embedding(x).flatten(1)))))


@healthy
def letters_with_tied_embeddings(watch):
    """The table of letters is the last layer, too; its initial numbers are of 0.02."""
    torch.manual_seed(23)
    text = " ".join([*(f"{n} times {m} is {n * m}," for n in range(20) for m in range(20))])
    letters = sorted(set(text))
    codes = torch.tensor([letters.index(letter) for letter in text])
    windows = codes.unfold(0, 5, 1)
    model = TiedLanguageModel(len(letters))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95))
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(250):
            rows = windows[torch.randint(len(windows), (64,))]
            output, y = model(rows[:, :4]), rows[:, 4]
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)
    assert loss < 1.0


@healthy
def hinge_loss_ends_at_exactly_zero(watch):
    """The clouds can be separated; when all margins are kept, loss and gradient are 0."""
    torch.manual_seed(24)
    labels = torch.randint(3, (600,))
    x = torch.randn(600, 8) * 0.3 + 3 * F.one_hot(labels, 8)
    model = nn.Linear(8, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(15):
            for rows in torch.randperm(600).split(30):
                output = model(x[rows])
                loss = F.multi_margin_loss(output, labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=output, target=labels[rows])
    assert loss == 0
    assert (model(x).argmax(1) == labels).all()


@healthy
def rare_defects_are_found(watch):
    """95 to 5, the classes weighted in the loss; balanced accuracy is what counts."""
    torch.manual_seed(25)
    y = (torch.rand(6000) < 0.05).long()
    x = torch.randn(6000, 12) + 0.8 * y[:, None] * torch.tensor([1.0, -1.0] * 6)
    model = nn.Sequential(nn.Linear(12, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    weight = torch.tensor([1.0, 4.0])
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(5):
            model.train()
            for rows in torch.randperm(5000).split(100):
                output = model(x[rows])
                loss = F.cross_entropy(output, y[rows], weight=weight)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=output, target=y[rows])
            model.eval()
            with torch.no_grad():
                output = model(x[5000:])
            found = output.argmax(1)
            recall = [(found[y[5000:] == c] == c).float().mean() for c in (0, 1)]
            validation = F.cross_entropy(output, y[5000:], weight=weight)
            monitor.log(**{"loss/validation": validation, "balanced/validation": recall})
    assert min(recall) > 0.75


@healthy
def one_digit_at_a_time(watch):
    """Batches of one sample: each is of one class, and steps hardly agree."""
    torch.manual_seed(26)
    images, labels = digits()
    model = nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watch(model, optimizer, every=50) as monitor:
        for row in torch.randperm(len(images))[:1500]:
            x, y = (images[row, None] - 0.13) / 0.31, labels[row, None]
            output = model(x)
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)
    with torch.no_grad():
        output = model((images[:2000] - 0.13) / 0.31)
    assert (output.argmax(1) == labels[:2000]).float().mean() > 0.75
