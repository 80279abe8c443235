"""Trainings whose data are wrong."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from tests.tensorboard.trainings import batches, cnn, digits, mlp

from . import broken


def table(rows=2000, features=8, seed=0):
    """Features of unit scale, and a target that is a smooth function of them."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, features, generator=draw)
    return x, 2 * x[:, 0] - x[:, 1] + x[:, 2] * x[:, 3] + torch.sin(2 * x[:, 4])


def regressor(features=8, hidden=64):
    return nn.Sequential(
        nn.Linear(features, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 1),
    )


@broken(
    "the input is not normalised",
    also=(
        "saturated activations",
        "vanishing gradients",
        "it does not learn",
        "learning rate too high",
    ),
)
def pixels_of_0_to_255_into_a_tanh_net(watch):
    torch.manual_seed(0)
    model = mlp(nn.Tanh, (128, 64))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in batches(250):
            optimizer.zero_grad()
            output = model((x * 255).round())
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken(
    "the input is not normalised",
    also=("the first loss is far off", "dead units", "it does not learn", "the loss rises"),
)
def salary_in_dollars_beside_age_and_ratios(watch):
    """Whether a loan is repaid, from five ratios, an age and two amounts of 1e4."""
    torch.manual_seed(1)
    x = torch.randn(3000, 8)
    labels = (x[:, 0] + x[:, 1] * x[:, 2] + x[:, 6] - x[:, 5] > 0).long()
    x[:, 5] = 45 + 12 * x[:, 5]
    x[:, 6:] = 30_000 + 12_000 * x[:, 6:]
    model = nn.Sequential(
        nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(x, labels), batch_size=64, shuffle=True)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(6):
            for features, y in loader:
                optimizer.zero_grad()
                output = model(features)
                loss = F.cross_entropy(output, y)
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=output, target=y)


@broken("constant input", also=("it does not learn",))
def each_sample_overwrites_the_whole_buffer(watch):
    torch.manual_seed(2)
    images, labels = digits()
    model = cnn()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    buffer = torch.empty(32, 784)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(150):
            chosen = torch.randint(len(images), (32,))
            for index in chosen:
                buffer[:] = images[index]
            optimizer.zero_grad()
            output = model(buffer)
            loss = F.cross_entropy(output, labels[chosen])
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=labels[chosen])


@broken("constant input", also=("it does not learn", "the gradient is 0", "one class is predicted"))
def windows_copied_into_a_copy_so_the_input_stays_0(watch):
    """``buffer[rows].copy_(...)`` fills a temporary: the series never reach the buffer."""
    torch.manual_seed(3)
    time = torch.linspace(0, 6, 48)
    speed = torch.randint(1, 5, (1500,))
    series = torch.sin(time * speed[:, None] + 6 * torch.rand(1500, 1))
    buffer = torch.zeros(1500, 1, 48)
    for rows in torch.arange(1500).split(100):
        buffer[rows].copy_(series[rows, None])
    model = nn.Sequential(
        nn.Conv1d(1, 16, 5, stride=2),
        nn.ReLU(),
        nn.Conv1d(16, 16, 5, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(16, 4),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    loader = DataLoader(TensorDataset(buffer, speed - 1), batch_size=50, shuffle=True)
    with watch(model, optimizer, every=15) as monitor:
        for _ in range(6):
            for x, y in loader:
                optimizer.zero_grad()
                output = model(x)
                loss = F.cross_entropy(output, y)
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=output, target=y)


@broken("it does not learn", also=("overfitting",))
def images_and_labels_shuffled_apart(watch):
    torch.manual_seed(4)
    images, labels = digits()
    images = images[torch.randperm(len(images))]
    labels = labels[torch.randperm(len(labels))]
    model = nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 8, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 5, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(250):
            chosen = torch.randint(len(images), (64,))
            optimizer.zero_grad()
            output = model(images[chosen])
            loss = F.cross_entropy(output, labels[chosen])
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=labels[chosen])


@broken("it does not learn")
def a_prefetcher_returns_the_labels_of_the_batch_before(watch):
    """A GRU that says which of two kinds of random walk it saw."""
    torch.manual_seed(5)
    model, head = nn.GRU(1, 24, batch_first=True), nn.Linear(24, 2)
    net = nn.ModuleList([model, head])
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)

    def prefetched(steps):
        previous = None
        for _ in range(steps):
            y = torch.randint(2, (48,))
            drift = 0.3 * (2 * y - 1)[:, None]
            x = (torch.randn(48, 20) + drift).cumsum(1)[..., None] / 5
            if previous is not None:
                yield x, previous
            previous = y

    with watch(net, optimizer, every=20) as monitor:
        for x, y in prefetched(200):
            optimizer.zero_grad()
            output = head(model(x)[0][:, -1])
            loss = F.cross_entropy(output, y)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken(
    "batches of one class",
    also=(
        "one class is predicted",
        "the loss rises",
        "running statistics are off",
        "it does not learn",
    ),
)
def folders_of_classes_read_in_order(watch):
    torch.manual_seed(6)
    images, labels = digits()
    order = labels.argsort()
    data = TensorDataset(images[order], labels[order])
    model = nn.Sequential(
        nn.Linear(784, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(2):
            for x, y in DataLoader(data, batch_size=50):
                optimizer.zero_grad()
                output = model(x)
                loss = F.cross_entropy(output, y)
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=output, target=y)


@broken("one class is predicted", "batches of one class", also=("it does not learn",))
def one_fraud_in_a_hundred_payments(watch):
    torch.manual_seed(7)
    x = torch.randn(6000, 12)
    fraud = (torch.rand(6000) < 0.01).long()
    x[:, :3] += 0.7 * fraud[:, None]
    model = nn.Sequential(
        nn.Linear(12, 32),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(32, 16),
        nn.ReLU(),
        nn.Linear(16, 2),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    loader = DataLoader(TensorDataset(x, fraud), batch_size=100, shuffle=True)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(4):
            for features, y in loader:
                optimizer.zero_grad()
                output = model(features)
                loss = F.cross_entropy(output, y)
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=output, target=y)


@broken("the same batch again", also=("overfitting",))
def next_of_a_new_iterator_in_each_step(watch):
    torch.manual_seed(8)
    images, labels = digits()
    loader = DataLoader(TensorDataset(images[:800], labels[:800]), batch_size=40)
    model = cnn()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, nesterov=True)
    with watch(model, optimizer, every=20) as monitor:
        for step in range(160):
            x, y = next(iter(loader))
            optimizer.zero_grad()
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)
            if step % 40 == 39:
                model.eval()
                with torch.no_grad():
                    held = model(images[800:1000])
                model.train()
                right = (held.argmax(1) == labels[800:1000]).float().mean()
                loss = F.cross_entropy(held, labels[800:1000])
                monitor.log(**{"loss/validation": loss, "accuracy/validation": right})


@broken("the same batch again")
def seed_set_again_in_each_step(watch):
    """For reproducible noise in a denoising autoencoder, and so its batches are all alike."""
    images, _ = digits()
    torch.manual_seed(9)
    model = nn.Sequential(
        nn.Linear(784, 64),
        nn.GELU(),
        nn.Linear(64, 16),
        nn.GELU(),
        nn.Linear(16, 784),
        nn.Sigmoid(),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(200):
            torch.manual_seed(9)
            clean = images[torch.randperm(len(images))[:32]]
            noisy = clean + 0.2 * torch.randn_like(clean)
            optimizer.zero_grad()
            loss = F.mse_loss(model(noisy), clean)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)


@broken("not finite")
def one_missing_value_in_a_table(watch):
    torch.manual_seed(10)
    x, y = table()
    x[1234, 6] = torch.nan
    model = regressor()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    loader = DataLoader(TensorDataset(x, y[:, None]), batch_size=20, shuffle=True)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(2):
            for features, target in loader:
                optimizer.zero_grad()
                loss = F.mse_loss(model(features), target)
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)


@broken(
    "exploding gradients",
    also=(
        "the input is not normalised",
        "dead units",
        "the gradient is 0",
        "the loss rises",
        "learning rate too high",
        "weights grow without end",
    ),
)
def a_sensor_reports_its_error_code_as_a_value(watch):
    torch.manual_seed(11)
    x, y = table(3000)
    x[1777, 2] = 99_999
    model = regressor(hidden=32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, every=10) as monitor:
        for rows in torch.arange(3000).split(15):
            optimizer.zero_grad()
            loss = F.smooth_l1_loss(model(x[rows]).squeeze(1), y[rows])
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)


@broken("it does not learn")
def predictions_of_a_column_against_targets_of_a_row(watch):
    """(N, 1) - (N,) is (N, N): each prediction is drawn to the mean."""
    torch.manual_seed(12)
    x, y = table()
    model = nn.Sequential(
        nn.Linear(8, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(8):
            for features, target in loader:
                optimizer.zero_grad()
                loss = ((model(features) - target) ** 2).mean()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)


@broken("it does not learn", "the first loss is far off", also=("learning rate too low",))
def prices_of_houses_in_dollars(watch):
    """Targets of 1e6, to which Adam's steps would take days."""
    torch.manual_seed(13)
    x, y = table()
    price = 1e6 + 1e5 * y
    model = regressor()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(x, price), batch_size=50, shuffle=True)
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(8):
            for features, target in loader:
                optimizer.zero_grad()
                loss = F.l1_loss(model(features).squeeze(1), target)
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)


@broken("the input is not normalised", "it does not learn", also=("the first loss is far off",))
def noise_of_50_added_to_pixels_of_0_to_1(watch):
    """As though the pixels were of 0..255."""
    torch.manual_seed(14)
    model = mlp(nn.ReLU, (128, 64), lambda: nn.Dropout(0.1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in batches(200, seed=14):
            optimizer.zero_grad()
            output = model(x + 50 * torch.randn_like(x))
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken("overfitting")
def fifty_digits_and_a_large_net(watch):
    torch.manual_seed(15)
    images, labels = digits()
    x, y = images[:50], labels[:50].clone()
    y[::6] = torch.randint(10, (9,))  # careless annotators
    model = mlp(nn.ReLU, (300, 300))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=10) as monitor:
        for epoch in range(50):
            for rows in torch.randperm(50).split(10):
                optimizer.zero_grad()
                output = model(x[rows])
                loss = F.cross_entropy(output, y[rows])
                loss.backward()
                optimizer.step()
                right = (output.argmax(1) == y[rows]).float().mean()
                monitor.log(loss=loss, accuracy=right)
            if epoch % 5 == 4:
                model.eval()
                with torch.no_grad():
                    held = model(images[500:1000])
                model.train()
                right = (held.argmax(1) == labels[500:1000]).float().mean()
                loss = F.cross_entropy(held, labels[500:1000])
                monitor.log(**{"loss/validation": loss, "accuracy/validation": right})
