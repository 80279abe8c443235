"""Learning rates, schedules and options of optimizers that do not fit."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import lr_scheduler

from tests.tensorboard.trainings import batches

from . import broken


@broken(
    "learning rate too high",
    also=(
        "dead units",
        "one class is predicted",
        "it does not learn",
        "exploding gradients",
        "the gradient is 0",
        "weights grow without end",
    ),
)
def convolutions_with_momentum_at_rate_one(watch):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 8, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 36, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in batches(160):
            optimizer.zero_grad()
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


class CausalTransformer(nn.Module):
    def __init__(self, tokens=12, length=16, width=32):
        super().__init__()
        self.tokens = nn.Embedding(tokens, width)
        self.positions = nn.Parameter(torch.randn(length, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 64, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, tokens)
        self.register_buffer("mask", torch.full((length, length), -torch.inf).triu(1))

    def forward(self, x):
        return self.head(self.layers(self.tokens(x) + self.positions, mask=self.mask))


@broken("learning rate too high", also=("it does not learn",))
def transformer_by_adam_at_a_twentieth(watch):
    """The next token of sequences that repeat themselves, which is learnt at 3e-3."""
    torch.manual_seed(1)
    model = CausalTransformer()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(160):
            motif = torch.randint(12, (32, 4))
            sequence = motif.repeat(1, 5)[:, :17]
            x, y = sequence[:, :-1], sequence[:, 1:]
            logits = model(x).transpose(1, 2)
            loss = F.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=logits, target=y)


@broken(
    "learning rate too high",
    also=("dead units", "saturated activations", "it does not learn", "the gradient is 0"),
)
def autoencoder_by_rmsprop_at_a_tenth(watch):
    torch.manual_seed(2)
    encoder = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 16), nn.ReLU())
    decoder = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 784), nn.Sigmoid())
    model = nn.Sequential(encoder, decoder)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.1)
    with watch(model, optimizer, every=25) as monitor:
        for images, _ in batches(250):
            loss = F.mse_loss(model(images), images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)


@broken(
    "learning rate too high",
    also=("not finite", "the loss rises", "exploding gradients", "weights grow without end"),
)
def linear_regression_past_the_stable_rate(watch):
    """Features share a factor, so that the largest curvature is near 16, and 2 / 16 < 0.3."""
    torch.manual_seed(3)
    features = torch.randn(1000, 16) * 0.5 + torch.randn(1000, 1)
    features = (features - features.mean(0)) / features.std(0)
    prices = features @ torch.randn(16, 1) + 0.1 * torch.randn(1000, 1)
    model = nn.Linear(16, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(5):
            for chosen in torch.randperm(1000).split(50):
                optimizer.zero_grad()
                loss = F.mse_loss(model(features[chosen]), prices[chosen])
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)


@broken(
    "learning rate too high",
    also=(
        "the loss rises",
        "weights grow without end",
        "exploding gradients",
        "one class is predicted",
        "it does not learn",
    ),
)
def one_cycle_with_a_peak_of_five(watch):
    torch.manual_seed(4)
    model = nn.Sequential(
        nn.Linear(784, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 64), nn.GELU()
    ).append(nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = lr_scheduler.OneCycleLR(optimizer, max_lr=5.0, total_steps=200)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in batches(200, size=32):
            optimizer.zero_grad()
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            scheduler.step()
            monitor.log(loss=loss, output=output, target=y)


class Tabular(nn.Module):
    def __init__(self):
        super().__init__()
        self.city, self.job = nn.Embedding(20, 4), nn.Embedding(10, 4)
        self.layers = nn.Sequential(nn.Linear(13, 32), nn.SiLU(), nn.Linear(32, 1))

    def forward(self, city, job, numbers):
        return self.layers(torch.cat([self.city(city), self.job(job), numbers], 1)).squeeze(1)


@broken("learning rate too low", also=("it does not learn",))
def adamw_with_1e_8_typed_for_1e_3(watch):
    torch.manual_seed(5)
    city, job, numbers = (
        torch.randint(20, (2000,)),
        torch.randint(10, (2000,)),
        torch.randn(2000, 5),
    )
    clicked = (torch.randn(20)[city] + torch.randn(10)[job] + numbers @ torch.randn(5) > 0).float()
    model = Tabular()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-8)
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(8):
            for i in torch.randperm(2000).split(64):
                optimizer.zero_grad()
                loss = F.binary_cross_entropy_with_logits(
                    model(city[i], job[i], numbers[i]), clicked[i]
                )
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)


class CharacterModel(nn.Module):
    def __init__(self, characters):
        super().__init__()
        self.embedding = nn.Embedding(characters, 16)
        self.lstm = nn.LSTM(16, 48, batch_first=True)
        self.head = nn.Linear(48, characters)

    def forward(self, text):
        return self.head(self.lstm(self.embedding(text))[0])


TEXT = """It was the best of times, it was the worst of times, it was the age of wisdom, it was the
age of foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the season
of Light, it was the season of Darkness, it was the spring of hope, it was the winter of despair"""


@broken("learning rate too low", also=("it does not learn",))
def warm_up_of_a_hundred_thousand_steps(watch):
    """The warm-up of a large run, kept for one of 200 steps."""
    torch.manual_seed(6)
    alphabet = sorted(set(TEXT))
    text = torch.tensor([alphabet.index(each) for each in TEXT])
    model = CharacterModel(len(alphabet))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 100_000))
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(200):
            starts = torch.randint(len(text) - 25, (16, 1))
            chunk = text[starts + torch.arange(25)]
            logits = model(chunk[:, :-1]).flatten(0, 1)
            loss = F.cross_entropy(logits, chunk[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            scheduler.step()
            monitor.log(loss=loss)


@broken("learning rate too low", also=("it does not learn",))
def sgd_with_the_rate_that_fine_tunes_bert(watch):
    torch.manual_seed(7)
    model = nn.Sequential(
        nn.Linear(784, 128), nn.Tanh(), nn.Linear(128, 64), nn.Tanh(), nn.Linear(64, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=2e-5, weight_decay=0.01)
    with watch(model, optimizer, every=20) as monitor:
        for step, (x, y) in enumerate(batches(200)):
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss, output=output, target=y)
            if step % 50 == 49:
                with torch.no_grad():
                    x, y = next(batches(1, size=500, seed=1))
                    held = model(x)
                    right = (held.argmax(1) == y).float()
                monitor.log(
                    **{
                        "loss/validation": F.cross_entropy(held, y),
                        "accuracy/validation": right,
                    }
                )


@broken(
    "the learning rate ends too early",
    "learning rate too low",
    also=("layers that do not move", "it does not learn"),
)
def linear_decay_by_integer_division(watch):
    """``//`` makes the factor 1 in the first step and 0 in all others."""
    torch.manual_seed(8)
    steps = 200
    time = torch.arange(2000) / 10
    series = torch.sin(time) + 0.5 * torch.sin(2.7 * time) + 0.1 * torch.randn(2000)
    model = nn.Sequential(
        nn.Conv1d(1, 16, 5), nn.ReLU(), nn.Conv1d(16, 16, 5), nn.ReLU(), nn.Flatten()
    ).append(nn.Linear(16 * 24, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: (steps - step) // steps)
    windows = series.unfold(0, 33, 1)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(steps):
            window = windows[torch.randint(len(windows), (32,))]
            optimizer.zero_grad()
            loss = F.mse_loss(model(window[:, None, :-1]), window[:, -1:])
            loss.backward()
            optimizer.step()
            scheduler.step()
            monitor.log(loss=loss)


def discs(size, side=24):
    """Noisy pictures of one bright disc each, and their masks."""
    rows = torch.arange(side).view(1, side, 1)
    columns = torch.arange(side).view(1, 1, side)
    middle = torch.randint(6, side - 6, (2, size, 1, 1))
    radius = torch.randint(3, 8, (size, 1, 1))
    mask = (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 < radius**2
    return (mask.float() + 0.7 * torch.randn(size, side, side))[:, None], mask.long()


@broken(
    "the learning rate ends too early",
    also=(
        "learning rate too low",
        "layers that do not move",
        "it does not learn",
        "one class is predicted",
    ),
)
def polynomial_schedule_of_epochs_stepped_in_each_batch(watch):
    torch.manual_seed(9)
    epochs = 10
    images, masks = discs(320)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2),
        nn.ReLU(),
        nn.Conv2d(8, 2, 1),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    scheduler = lr_scheduler.PolynomialLR(optimizer, total_iters=epochs, power=0.9)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(epochs):
            for chosen in torch.randperm(320).split(16):
                optimizer.zero_grad()
                output = model(images[chosen])
                loss = F.cross_entropy(output, masks[chosen])
                loss.backward()
                optimizer.step()
                scheduler.step()
                monitor.log(loss=loss, output=output, target=masks[chosen])


@broken(
    "the learning rate ends too early", also=("learning rate too low", "layers that do not move")
)
def a_tenth_of_the_rate_each_ten_steps(watch):
    torch.manual_seed(10)
    model = nn.Sequential(
        nn.Linear(784, 64, bias=False),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Linear(64, 64, bias=False),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, nesterov=True)
    scheduler = lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.1)
    with watch(model, optimizer, every=25) as monitor:
        for x, y in batches(300):
            optimizer.zero_grad()
            output = model(x)
            loss = F.cross_entropy(output, y, label_smoothing=0.1)
            loss.backward()
            optimizer.step()
            scheduler.step()
            monitor.log(loss=loss, output=output, target=y)


class Factorisation(nn.Module):
    def __init__(self, users, items, width=8):
        super().__init__()
        self.users, self.items = nn.Embedding(users, width), nn.Embedding(items, width)
        self.user_bias, self.item_bias = nn.Embedding(users, 1), nn.Embedding(items, 1)

    def forward(self, user, item):
        bias = self.user_bias(user) + self.item_bias(item)
        return (self.users(user) * self.items(item)).sum(1) + bias.squeeze(1)


@broken(
    "the learning rate ends too early",
    also=("learning rate too low", "layers that do not move", "it does not learn"),
)
def plateau_looked_for_in_each_noisy_batch(watch):
    torch.manual_seed(11)
    user, item = torch.randint(100, (6000,)), torch.randint(60, (6000,))
    rating = (torch.randn(100, 3)[user] * torch.randn(60, 3)[item]).sum(1)
    model = Factorisation(100, 60)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=3)
    with watch(model, optimizer, every=30) as monitor:
        for _ in range(4):
            for i in torch.randperm(6000).split(64):
                loss = F.mse_loss(model(user[i], item[i]), rating[i])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step(loss.item())
                monitor.log(loss=loss)


@broken("unusual options", also=("learning rate too high",))
def betas_of_adam_swapped(watch):
    """A picture as a function of its coordinates."""
    torch.manual_seed(12)
    grid = torch.linspace(-1, 1, 24)
    points = torch.cartesian_prod(grid, grid)
    picture = torch.sin(5 * points[:, :1]) * torch.cos(4 * points[:, 1:]) + points[:, :1] ** 2
    model = nn.Sequential(
        nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, betas=(0.999, 0.9))
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(300):
            optimizer.zero_grad()
            loss = F.mse_loss(model(points), picture)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)


@broken(
    "unusual options", also=("learning rate too low", "it does not learn", "one class is predicted")
)
def epsilon_of_one_in_adam(watch):
    torch.manual_seed(13)
    model = nn.Sequential(
        nn.Unflatten(1, (4, 7, 28)),
        nn.Flatten(2),
        nn.Linear(196, 32),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(128, 64),
        nn.GELU(),
        nn.Linear(64, 10),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1.0)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in batches(200):
            optimizer.zero_grad()
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


class GraphConvolution(nn.Module):
    def __init__(self, adjacency):
        super().__init__()
        self.register_buffer("adjacency", adjacency)
        self.first, self.second = nn.Linear(16, 32), nn.Linear(32, 1)
        self.activation = nn.Softplus()

    def forward(self, x):
        return self.second(self.adjacency @ self.activation(self.first(self.adjacency @ x)))


@broken("unusual options", also=("learning rate too high", "the loss rises"))
def momentum_with_four_nines(watch):
    """The age of people in a graph of four communities, who know each other more often."""
    torch.manual_seed(14)
    community = torch.randint(4, (160,))
    chance = torch.where(community[:, None] == community, 0.2, 0.05)
    edges = torch.bernoulli(chance).triu(1)
    edges = edges + edges.T + torch.eye(160)
    x = F.one_hot(community, 4).float() @ torch.randn(4, 16) + 2 * torch.randn(160, 16)
    age = torch.randn(4, 1)[community] + 0.3 * torch.randn(160, 1)
    model = GraphConvolution(edges / edges.sum(1, keepdim=True))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9999)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(300):
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), age)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, x):
        return x + self.layers(x)


@broken(
    "weight decay too strong",
    "unusual options",
    also=("it does not learn", "one class is predicted", "vanishing gradients", "dead units"),
)
def momentum_and_weight_decay_swapped(watch):
    torch.manual_seed(15)
    model = nn.Sequential(nn.Linear(784, 48), Residual(48), Residual(48), nn.Linear(48, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=5e-4, weight_decay=0.9)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in batches(200):
            optimizer.zero_grad()
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken("unusual options", "weight decay too strong", also=("it does not learn",))
def decoupled_decay_that_takes_two_thirds_in_each_step(watch):
    """The decay was meant for a library that does not multiply it by the rate: 0.02 x 33."""
    torch.manual_seed(16)
    model = nn.Sequential(nn.Linear(8, 64), nn.ELU(), nn.Linear(64, 64), nn.ELU(), nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=33.0)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(200):
            x = torch.rand(64, 8)
            y = 10 * torch.sin(torch.pi * x[:, :1] * x[:, 1:2]) + 20 * (x[:, 2:3] - 0.5) ** 2
            optimizer.zero_grad()
            loss = F.smooth_l1_loss(model(x), y - 5)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)


@broken(
    "weight decay too strong",
    also=("unusual options", "it does not learn", "vanishing gradients"),
)
def penalty_of_one_added_to_the_gradient_of_adam(watch):
    """A checkerboard of 2 x 2 fields."""
    torch.manual_seed(17)
    x = torch.rand(1024, 2) * 2 - 1
    y = (x.prod(1) > 0).float()
    model = nn.Sequential(
        nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1), nn.Flatten(0)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=1.0)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(10):
            for chosen in torch.randperm(1024).split(32):
                optimizer.zero_grad()
                loss = F.binary_cross_entropy_with_logits(model(x[chosen]), y[chosen])
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)


@broken("unusual options", also=("learning rate too high", "the loss rises"))
def second_beta_of_a_tenth_and_rare_words(watch):
    """Where a word does not come, its second moment vanishes long before its first."""
    torch.manual_seed(18)
    topics = torch.distributions.Dirichlet(torch.full((5, 400), 0.05)).sample()
    model = nn.Sequential(nn.EmbeddingBag(400, 16), nn.Linear(16, 5))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, betas=(0.9, 0.1))
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(250):
            topic = torch.randint(5, (16,))
            words = torch.multinomial(0.5 * topics[topic] + 0.5 / 400, 20, replacement=True)
            optimizer.zero_grad()
            output = model(words)
            loss = F.cross_entropy(output, topic)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=topic)
