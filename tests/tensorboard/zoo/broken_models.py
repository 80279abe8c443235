"""Broken: layers that no optimizer has, outputs of the wrong kind, initial values, modes."""

from functools import cache
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from tests.tensorboard.trainings import batches, digits
from tests.tensorboard.zoo import broken
from torchopt_ref.data import load


def classify(model, optimizer, monitor, steps, size=64, after=None):
    """The plain loop; ``after(step)`` runs at the end of each."""
    for step, (x, y) in enumerate(batches(steps, size), start=1):
        optimizer.zero_grad()
        output = model(x)
        loss = F.cross_entropy(output, y)
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss, output=output, target=y)
        if after:
            after(step)


@cache
def held_out(count=500):
    data = load("mnist")
    images = torch.from_numpy(data.test_images[:count]).float()
    return images.reshape(-1, 784), torch.from_numpy(data.test_labels[:count]).long()


@torch.no_grad()
def score(model, monitor):
    """Of validation, in the mode that the model is in."""
    images, labels = held_out()
    output = model(images)
    right = (output.argmax(1) == labels).float().mean()
    loss = F.cross_entropy(output, labels)
    monitor.log(**{"loss/validation": loss, "accuracy/validation": right})


def validation(model, monitor, every):
    def validate(step):
        if step % every == 0:
            model.eval()
            score(model, monitor)
            model.train()

    return validate


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x):
        return x + F.gelu(self.inner(self.norm(x)))


class ListOfBlocks(nn.Module):
    def __init__(self, width=48, depth=4):
        super().__init__()
        self.stem = nn.Linear(784, width)
        self.blocks = [Residual(width) for _ in range(depth)]
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


@broken("layers in no param group")
def residual_blocks_in_a_plain_python_list(watch):
    torch.manual_seed(0)
    model = ListOfBlocks()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        classify(model, optimizer, monitor, 200)


class Branches(nn.Module):
    """Filters of three widths over a series, side by side."""

    def __init__(self):
        super().__init__()
        self.branches = {k: nn.Conv1d(1, 8, k, padding=k // 2) for k in (3, 7, 15)}
        self.mix = nn.Conv1d(24, 16, 1)
        self.out = nn.Linear(16, 3)

    def forward(self, x):
        x = torch.cat([torch.relu(conv(x)) for conv in self.branches.values()], 1)
        return self.out(torch.relu(self.mix(x)).mean(2))


@broken("layers in no param group")
def filters_of_a_series_in_a_plain_dict(watch):
    torch.manual_seed(1)
    model = Branches()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    time = torch.linspace(0, 6.28, 64)
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(250):
            y = torch.randint(3, (32,))
            wave = torch.sin((3 + 2 * y[:, None]) * time + 6.28 * torch.rand(32, 1))
            output = model((wave + 0.5 * torch.randn(32, 64))[:, None])
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


class Reader(nn.Module):
    """Counts of a token decide the class."""

    def __init__(self, words=40, width=24):
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.body = nn.TransformerEncoderLayer(width, 4, 48, dropout=0, batch_first=True)
        self.pool = nn.Linear(width, width)
        self.head = nn.Linear(width, 4)

    def forward(self, tokens):
        return self.head(torch.tanh(self.pool(self.body(self.embed(tokens)).mean(1))))


@broken("layers in no param group")
def pooler_and_head_forgotten_in_the_groups_of_weight_decay(watch):
    torch.manual_seed(2)
    model = Reader()
    decayed = [p for name, p in model.body.named_parameters() if p.ndim > 1]
    rest = [p for name, p in model.body.named_parameters() if p.ndim == 1]
    groups = [
        {"params": [*decayed, model.embed.weight], "weight_decay": 0.01},
        {"params": rest, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(250):
            y = torch.randint(4, (32,))
            tokens = torch.randint(40, (32, 20))
            tokens[:, :5] = y[:, None]
            tokens = tokens[:, torch.randperm(20)]
            optimizer.zero_grad()
            output = model(tokens)
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken("layers in no param group", also=("no gradient came",))
def head_replaced_after_the_optimizer_was_made(watch):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 1000))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    model[2] = nn.Linear(64, 10)
    with watch(model, optimizer, every=20) as monitor:
        classify(model, optimizer, monitor, 200)


@broken("the output is never negative", also=("dead units", "the gradient is 0"))
def relu_after_the_last_layer_of_a_digit_classifier(watch):
    torch.manual_seed(4)
    layers = []
    for i, o in ((784, 128), (128, 64), (64, 10)):
        layers += [nn.Linear(i, o), nn.ReLU()]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, every=25) as monitor:
        classify(model, optimizer, monitor, 300, after=validation(model, monitor, 100))


@broken(
    "the output is never negative",
    also=("dead units", "the gradient is 0", "it does not learn"),
)
def relu_output_for_standardised_targets(watch):
    torch.manual_seed(5)
    inputs = torch.randn(512, 8)
    target = inputs[:, :3].sum(1) + inputs[:, 3] * inputs[:, 4]
    target = (target - target.mean()) / target.std()
    model = nn.Sequential(
        nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1), nn.ReLU()
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(20):
            for chosen in torch.randperm(512).split(32):
                loss = F.mse_loss(model(inputs[chosen]).squeeze(1), target[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)


@broken(
    "the output is never negative",
    also=("dead units", "the gradient is 0", "it does not learn"),
)
def relu_output_of_a_recurrent_forecast_of_returns_below_zero(watch):
    """The target is negative nearly always, so that the output is stuck at 0."""
    torch.manual_seed(6)

    class Forecast(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.out = nn.GRU(1, 16, batch_first=True), nn.Linear(16, 1)

        def forward(self, x):
            return F.relu(self.out(self.gru(x)[0][:, -1]))

    model = Forecast()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(200):
            x = torch.randn(32, 12, 1)
            target = x.mean(1) - 1 + 0.1 * torch.randn(32, 1)
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), target)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)


@broken("the output is probabilities already")
def softmax_before_cross_entropy_in_a_convolutional_net(watch):
    torch.manual_seed(7)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 8, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 36, 10),
        nn.Softmax(dim=1),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=25) as monitor:
        classify(model, optimizer, monitor, 250, after=validation(model, monitor, 50))


@broken("the output is probabilities already")
def sigmoid_before_bce_with_logits_on_tables(watch):
    torch.manual_seed(8)
    inputs = torch.randn(1000, 12)
    labels = (inputs[:, 0] + inputs[:, 1] ** 2 > 1).float()
    model = nn.Sequential(
        nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1), nn.Sigmoid()
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    criterion = nn.BCEWithLogitsLoss()
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(12):
            for chosen in torch.randperm(1000).split(50):
                predicted = model(inputs[chosen]).squeeze(1)
                loss = criterion(predicted, labels[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                right = ((predicted > 0.5) == labels[chosen]).float().mean()
                monitor.log(loss=loss, accuracy=right)


@broken(
    "the gradient is 0",
    "it does not learn",
    also=("dead units", "one class is predicted", "layers that do not move"),
)
def all_weights_begin_at_zero(watch):
    torch.manual_seed(9)
    model = nn.Sequential(
        nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    for param in model.parameters():
        nn.init.zeros_(param)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with watch(model, optimizer, every=20) as monitor:
        classify(model, optimizer, monitor, 200)


@broken("it does not learn", also=("one class is predicted",))
def all_units_of_a_layer_begin_as_the_same_constant(watch):
    """By symmetry they stay the same, so each layer is one unit wide."""
    torch.manual_seed(10)
    model = nn.Sequential(
        nn.Linear(784, 50), nn.Tanh(), nn.Linear(50, 50), nn.Tanh(), nn.Linear(50, 10)
    )
    for param in model.parameters():
        nn.init.constant_(param, 0.01)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with watch(model, optimizer, every=20) as monitor:
        classify(model, optimizer, monitor, 200)


@broken("vanishing gradients", also=("it does not learn", "one class is predicted"))
def twenty_sigmoid_layers_with_default_weights(watch):
    torch.manual_seed(11)
    layers = [nn.Linear(784, 48), nn.Sigmoid()]
    for _ in range(19):
        layers += [nn.Linear(48, 48), nn.Sigmoid()]
    model = nn.Sequential(*layers, nn.Linear(48, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    with watch(model, optimizer, every=20) as monitor:
        classify(model, optimizer, monitor, 160)


@broken("vanishing gradients", also=("it does not learn", "one class is predicted"))
def twenty_tanh_layers_with_weights_of_std_0_02(watch):
    torch.manual_seed(12)
    sizes = [16] + [64] * 20
    layers = [nn.Sequential(nn.Linear(i, o), nn.Tanh()) for i, o in pairwise(sizes)]
    model = nn.Sequential(*layers, nn.Linear(64, 3))
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    centers = 2 * torch.randn(3, 16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, nesterov=True, momentum=0.9)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(160):
            y = torch.randint(3, (64,))
            output = model(centers[y] + torch.randn(64, 16))
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken(
    "the first loss is far off",
    "exploding gradients",
)
def deep_relu_net_with_weights_of_std_1(watch):
    torch.manual_seed(13)
    sizes = (784, 100, 100, 100, 100, 100)
    layers = [m for i, o in pairwise(sizes) for m in (nn.Linear(i, o), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(100, 10))
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        classify(model, optimizer, monitor, 200)


@broken("dead units", also=("the gradient is 0", "it does not learn", "one class is predicted"))
def relu_units_born_dead_by_a_bias_of_minus_5(watch):
    torch.manual_seed(14)
    model = nn.Sequential(
        nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 10)
    )
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    nn.init.constant_(model[0].bias, -5.0)
    nn.init.constant_(model[2].bias, -5.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        classify(model, optimizer, monitor, 200)


@broken(
    "learning rate too high",
    "dead units",
    also=(
        "the gradient is 0",
        "it does not learn",
        "one class is predicted",
        "the loss rises",
        "exploding gradients",
    ),
)
def relu_units_killed_by_a_typing_error_in_the_schedule(watch):
    """From step 60 to 64 the learning rate is 5 in place of 0.05."""
    torch.manual_seed(15)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 8, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 5, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    rates = {60: 5, 65: 0.05, 150: 0.005}

    def schedule(step):
        for group in optimizer.param_groups:
            group["lr"] = rates.get(step, group["lr"])

    with watch(model, optimizer, every=20) as monitor:
        classify(model, optimizer, monitor, 240, size=32, after=schedule)


@broken("saturated activations")
def tanh_layers_saturated_by_weights_of_std_3(watch):
    torch.manual_seed(16)
    inputs = torch.randn(600, 10)
    target = torch.sin(inputs[:, 0]) + 0.5 * inputs[:, 1] * inputs[:, 2]
    model = nn.Sequential(
        nn.Linear(10, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)
    )
    for layer in (model[0], model[2]):
        nn.init.normal_(layer.weight, std=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(12):
            for chosen in torch.randperm(500).split(25):
                optimizer.zero_grad()
                loss = F.mse_loss(model(inputs[chosen]).squeeze(1), target[chosen])
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)
            with torch.no_grad():
                off = F.mse_loss(model(inputs[500:]).squeeze(1), target[500:])
            monitor.log(**{"loss/validation": off})


@broken("dropout takes too much", also=("it does not learn",))
def dropout_of_0_96_in_every_hidden_layer(watch):
    torch.manual_seed(17)
    parts = [
        m
        for i, o in ((784, 128), (128, 128), (128, 128))
        for m in (nn.Linear(i, o), nn.ReLU(), nn.Dropout(0.96))
    ]
    model = nn.Sequential(*parts, nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=25) as monitor:
        classify(model, optimizer, monitor, 250, after=validation(model, monitor, 50))


@broken("dropout takes too much", also=("it does not learn",))
def keep_probability_of_0_95_given_as_p_before_the_last_layer(watch):
    torch.manual_seed(18)
    keep = 0.95
    model = nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(4),
        nn.Flatten(),
        nn.Linear(8 * 49, 64),
        nn.ReLU(),
        nn.Dropout(keep),
        nn.Linear(64, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    with watch(model, optimizer, every=20) as monitor:
        classify(model, optimizer, monitor, 200, size=32, after=validation(model, monitor, 100))


def conv_net(momentum=0.1):
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 8, 3, stride=2, bias=False),
        nn.BatchNorm2d(8, momentum=momentum),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, bias=False),
        nn.BatchNorm2d(16, momentum=momentum),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 36, 10),
    )


@broken("running statistics are off")
def batchnorm_momentum_of_1e_4(watch):
    torch.manual_seed(19)
    model = conv_net(momentum=1e-4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    with watch(model, optimizer, every=20) as monitor:
        classify(model, optimizer, monitor, 200, after=validation(model, monitor, 40))


@broken("running statistics are off")
def batchnorm_momentum_of_0_in_a_regression_of_prices(watch):
    torch.manual_seed(20)
    inputs = torch.randn(800, 6)
    price = (2 + inputs[:, 0]) * (1 + inputs[:, 1]) + inputs[:, 2] - 0.3 * inputs[:, 5]
    price = (price - price.mean()) / price.std()
    parts = [
        m
        for i, o in ((6, 48), (48, 48))
        for m in (nn.Linear(i, o), nn.BatchNorm1d(o, momentum=0.0), nn.ELU())
    ]
    model = nn.Sequential(*parts, nn.Linear(48, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    with watch(model, optimizer, every=15) as monitor:
        for _ in range(12):
            model.train()
            for chosen in torch.randperm(600).split(40):
                loss = F.smooth_l1_loss(model(inputs[chosen]).squeeze(1), price[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)
            model.eval()
            with torch.no_grad():
                off = F.smooth_l1_loss(model(inputs[600:]).squeeze(1), price[600:])
            monitor.log(**{"loss/validation": off})


def validate_and_stay(model, monitor, every):
    def validate(step):
        if step % every == 0:
            model.eval()
            score(model, monitor)

    return validate


@broken("evaluation mode in training", also=("running statistics are off",))
def batchnorm_stays_in_eval_after_the_first_validation(watch):
    torch.manual_seed(21)
    model = conv_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model.train()
    with watch(model, optimizer, every=20) as monitor:
        after = validate_and_stay(model, monitor, 50)
        classify(model, optimizer, monitor, 250, after=after)


@broken("evaluation mode in training", also=("overfitting",))
def dropout_stays_in_eval_after_the_first_validation(watch):
    """Trained on 600 images, which it then learns by heart."""
    torch.manual_seed(22)
    images, labels = digits()
    model = nn.Sequential(
        nn.Linear(784, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 64), nn.ReLU(),
        nn.Dropout(0.5), nn.Linear(64, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    with watch(model, optimizer, every=20) as monitor:
        for epoch in range(24):
            for chosen in torch.randperm(600).split(50):
                optimizer.zero_grad()
                output = model(images[chosen])
                loss = F.cross_entropy(output, labels[chosen])
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=output, target=labels[chosen])
            if epoch % 4 == 3:
                model.eval()
                score(model, monitor)


@broken("evaluation mode in training", also=("running statistics are off",))
def a_loader_of_pretrained_models_returns_them_in_eval(watch):
    """Its features are of other data, and its BatchNorm never adapts."""
    torch.manual_seed(23)
    images, labels = digits()

    def load_pretrained():
        model = conv_net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        for x, y in batches(40, 32, seed=1):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        return model.eval()

    model = load_pretrained()
    model[-1] = nn.Linear(16 * 36, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(200):
            chosen = torch.randint(8000, (32,))
            x, y = 2 - 4 * images[chosen], labels[chosen] % 2
            output = model(x)
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken("running statistics are off", also=("it does not learn",))
def batchnorm_of_two_samples(watch):
    torch.manual_seed(24)
    model = nn.Sequential(
        nn.Linear(784, 64), nn.BatchNorm1d(64), nn.ReLU(),
        nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(),
        nn.Linear(64, 10),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    with watch(model, optimizer, every=25) as monitor:
        classify(model, optimizer, monitor, 400, size=2, after=validation(model, monitor, 100))
