"""What people ask for in forums: written by somebody who had not read the rules."""

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from tests.tensorboard.trainings import batches, digits

from . import broken


def sentences(steps, size=32, length=11, seed=0):
    """Words of 0 to 39; is the tone of most of them, 0 to 19, bad?"""
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        words = torch.randint(40, (size, length), generator=draw)
        yield words, ((words < 20).sum(1) > length // 2).long()


class Reader(nn.Module):
    def __init__(self, words=40, width=32, classes=2, dropout=0.0):
        super().__init__()
        self.words, self.dropout = nn.Embedding(words, width), nn.Dropout(dropout)
        self.gru = nn.GRU(width, 32, batch_first=True)
        self.head = nn.Linear(32, classes)

    def forward(self, words):
        return self.head(self.gru(self.dropout(self.words(words)))[1][0])


def waves(steps, size=32, length=64, seed=0):
    """Sines, squares and saw teeth of any pitch, as (batch, 1, length)."""
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        kind = torch.randint(3, (size,), generator=draw)
        pitch = 2 + 3 * torch.rand(size, 1, generator=draw)
        turn = pitch * torch.linspace(0, 1, length) + torch.rand(size, 1, generator=draw)
        forms = torch.stack(
            [(2 * math.pi * turn).sin(), 1 - 2 * (turn % 1).round(), 2 * (turn % 1) - 1]
        )
        x = forms[kind, torch.arange(size)] + 0.1 * torch.randn(size, length, generator=draw)
        yield x[:, None], kind


def listener(width=16):
    return nn.Sequential(
        nn.Conv1d(1, width, 7, stride=2),
        nn.ReLU(),
        nn.Conv1d(width, width, 5, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(4),
        nn.Flatten(),
        nn.Linear(4 * width, 3),
    )


def cells(steps, size=16, side=16, seed=0):
    """Noisy images of two kinds of squares on a background, and their masks."""
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        masks = torch.zeros(size, side, side, dtype=torch.long)
        for mask in masks:
            for kind in (1, 2):
                top, left = torch.randint(side - 6, (2,), generator=draw).tolist()
                mask[top : top + 6, left : left + 6] = kind
        noise = torch.randn(size, 1, side, side, generator=draw)
        yield masks[:, None] - 1.0 + 0.3 * noise, masks


def segmenter():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 3, 1),
    )


def measurements(steps, size=64, seed=0):
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.randn(size, 6, generator=draw)
        y = x[:, :1].sin() + x[:, 1:2] * x[:, 2:3] + x[:, 3:4]
        yield x, y + 0.1 * torch.randn(size, 1, generator=draw)


def classify(monitor, model, optimizer, draws, loss_of=F.cross_entropy):
    for x, y in draws:
        optimizer.zero_grad()
        output = model(x)
        loss = loss_of(output, y)
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss, output=output, target=y)


def regress(monitor, model, optimizer, draws, loss_of=F.mse_loss):
    for x, y in draws:
        optimizer.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss)


class Attentive(nn.Module):
    """One layer of attention over words, of which 0 is padding, written by hand."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(41, 32)
        self.keys, self.values = nn.Linear(32, 32), nn.Linear(32, 32)
        self.query, self.head = nn.Parameter(torch.randn(32) * 0.1), nn.Linear(32, 2)

    def forward(self, words):
        embedded = self.words(words)
        scores = (self.keys(embedded) @ self.query).masked_fill(words == 0, -torch.inf)
        weights = scores.softmax(1)[..., None]
        return self.head((weights * self.values(embedded)).sum(1))


@broken("not finite")
def one_sentence_is_nothing_but_padding_and_all_its_scores_are_masked(watch):
    torch.manual_seed(0)
    model = Attentive()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer, every=20) as monitor:
        for step, (words, y) in enumerate(sentences(200)):
            words = words + 1
            if step == 93:
                words[5] = 0
            classify(monitor, model, optimizer, [(words, y)])


@broken("not finite")
def logarithm_of_a_spread_that_may_become_negative(watch):
    """A network of two outputs, mean and standard deviation, nothing keeps the second above 0."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2)
    )
    model[-1].bias.data[1] = 1.0
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(300):
            x = 4 * torch.rand(64, 1) - 2
            y = (2 * x).sin() + 0.02 * torch.randn(64, 1)
            mean, spread = model(x).split(1, 1)
            loss = (spread.log() + 0.5 * ((y - mean) / spread) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)


@broken(
    "gradients are never zeroed",
    also=("the loss rises", "it does not learn", "learning rate too high", "not finite"),
)
def optimizer_of_the_documents_zeroed_twice_that_of_the_queries_never(watch):
    torch.manual_seed(2)
    queries = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 16))
    documents = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 16))
    of_queries = torch.optim.SGD(queries.parameters(), lr=0.01, momentum=0.9)
    of_documents = torch.optim.SGD(documents.parameters(), lr=0.01, momentum=0.9)
    mixing = torch.randn(20, 20) / 20**0.5
    with watch(queries, of_queries, every=20) as monitor:
        for _ in range(300):
            topic = torch.randn(32, 20)
            similar = queries(topic) @ documents(topic @ mixing).T
            loss = F.cross_entropy(similar, torch.arange(32))
            of_documents.zero_grad()
            of_documents.zero_grad()
            loss.backward()
            of_queries.step()
            of_documents.step()
            monitor.log(loss=loss, output=similar, target=torch.arange(32))


@broken(
    "gradients are never zeroed",
    also=("the loss rises", "it does not learn", "learning rate too high"),
)
def zero_grad_without_its_parentheses_after_each_fourth_batch(watch):
    torch.manual_seed(3)
    model = listener()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    with watch(model, optimizer, every=10) as monitor:
        for count, (x, y) in enumerate(waves(600, size=16), start=1):
            output = model(x)
            loss = F.cross_entropy(output, y)
            (loss / 4).backward()
            if count % 4 == 0:
                optimizer.step()
                optimizer.zero_grad  # noqa: B018
                monitor.log(loss=loss, output=output, target=y)


@broken(
    "learning rate too high",
    also=("dead units", "one class is predicted", "it does not learn", "the loss rises"),
)
def loss_summed_over_the_batch_with_the_rate_of_a_mean(watch):
    torch.manual_seed(4)
    model = listener()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    with watch(model, optimizer, every=20) as monitor:
        summed = nn.CrossEntropyLoss(reduction="sum")
        classify(monitor, model, optimizer, waves(300, size=64), summed)


class Forecaster(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(1, 32, batch_first=True), nn.Linear(32, 1)

    def forward(self, x):
        return self.head(self.lstm(x)[0])


@broken("learning rate too high", also=("it does not learn", "saturated activations"))
def lstm_forecast_by_adam_at_one(watch):
    torch.manual_seed(5)
    model = Forecaster()
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0)
    with watch(model, optimizer, every=20) as monitor:
        turns = torch.linspace(0, 4, 31)
        for _ in range(250):
            series = ((1 + torch.rand(32, 1)) * turns + 6 * torch.rand(32, 1)).sin()[..., None]
            regress(monitor, model, optimizer, [(series[:, :-1], series[:, 1:])])


@broken("learning rate too low", also=("it does not learn",))
def adagrad_at_the_rate_of_fine_tuning(watch):
    torch.manual_seed(6)
    model = Reader()
    optimizer = torch.optim.Adagrad(model.parameters(), lr=2e-5)
    with watch(model, optimizer, every=20) as monitor:
        classify(monitor, model, optimizer, sentences(300))


@broken("learning rate too low", also=("it does not learn",))
def mean_loss_divided_by_the_pixels_once_more(watch):
    torch.manual_seed(7)
    model = segmenter()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with watch(model, optimizer, every=20) as monitor:
        classify(
            monitor,
            model,
            optimizer,
            cells(200),
            lambda output, y: F.cross_entropy(output, y) / y.numel(),
        )


@broken("the learning rate ends too early")
def exponential_schedule_of_epochs_stepped_in_each_batch(watch):
    torch.manual_seed(8)
    model = nn.Sequential(nn.Linear(784, 64), nn.ELU(), nn.Linear(64, 784), nn.Sigmoid())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.95)
    with watch(model, optimizer, every=20) as monitor:
        for x, _ in batches(300):
            regress(monitor, model, optimizer, [(x, x)], F.binary_cross_entropy)
            schedule.step()


@broken(
    "unusual options",
    also=("learning rate too low", "it does not learn", "layers that do not move"),
)
def epsilon_of_rmsprop_lost_its_minus(watch):
    torch.manual_seed(9)
    model = listener()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, eps=1e8)
    with watch(model, optimizer, every=20) as monitor:
        classify(monitor, model, optimizer, waves(200))


@broken("no step was seen", also=("it does not learn",))
def schedule_stepped_in_place_of_the_optimizer(watch):
    torch.manual_seed(10)
    model = segmenter()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    with watch(model, optimizer, every=10) as monitor:
        for x, y in cells(100):
            optimizer.zero_grad()
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            schedule.step()
            monitor.log(loss=loss, output=output, target=y)


@broken("no step was seen", also=("it does not learn", "gradients are never zeroed"))
def sixty_four_batches_to_accumulate_and_epochs_of_twenty(watch):
    torch.manual_seed(11)
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer, every=10) as monitor:
        for epoch in range(10):
            optimizer.zero_grad()
            for count, (words, y) in enumerate(sentences(20, seed=epoch), start=1):
                output = model(words)
                loss = F.cross_entropy(output, y)
                (loss / 64).backward()
                if count % 64 == 0:
                    optimizer.step()
                    optimizer.zero_grad()
                monitor.log(loss=loss, output=output, target=y)


@broken("steps have stopped", also=("not finite", "it does not learn"))
def running_mean_of_the_loss_stays_infinite_after_one_batch(watch):
    """The guard skips a batch whose mean is not finite: so all after the first that was."""
    torch.manual_seed(12)
    model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    running = 1.0
    with watch(model, optimizer, every=20) as monitor:
        for step, (x, y) in enumerate(measurements(400)):
            price = y.exp()
            if step == 90:
                price[7] = 0.0
            loss = F.mse_loss(model(x), price.log())
            running = 0.95 * running + 0.05 * loss.item()
            monitor.log(loss=loss)
            if not math.isfinite(running):
                continue
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@broken("no gradient came")
def features_of_a_spectrogram_go_through_numpy(watch):
    torch.manual_seed(13)
    encoder = nn.Sequential(nn.Conv1d(1, 16, 7, stride=2), nn.ReLU(), nn.AdaptiveAvgPool1d(8))
    head = nn.Sequential(nn.Flatten(), nn.Linear(128, 3))
    model = nn.ModuleDict({"encoder": encoder, "head": head})
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in waves(250):
            features = model["encoder"](x).detach().numpy()
            features = (features - features.mean()) / features.std()
            output = model["head"](torch.from_numpy(features))
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


class Sign(nn.Module):
    def forward(self, x):
        return torch.sign(x)


@broken("the gradient is 0", also=("layers that do not move",))
def binary_activations_without_a_straight_through_gradient(watch):
    torch.manual_seed(14)
    model = nn.Sequential(
        nn.Linear(784, 100), Sign(), nn.Linear(100, 50), Sign(), nn.Linear(50, 10)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        classify(monitor, model, optimizer, batches(200))


@broken("layers in no param group")
def backbone_unfrozen_but_the_optimizer_had_filtered_it_out(watch):
    torch.manual_seed(15)
    model = listener()
    for layer in model[:-1]:
        layer.requires_grad_(False)
    trainable = filter(lambda param: param.requires_grad, model.parameters())
    optimizer = torch.optim.Adam(trainable, lr=3e-3)
    with watch(model, optimizer, every=20) as monitor:
        classify(monitor, model, optimizer, waves(60))
        model.requires_grad_(True)
        classify(monitor, model, optimizer, waves(240, seed=1))


@broken("layers that do not move")
def rates_of_layers_by_an_integer_division_of_their_depth(watch):
    """Deep layers were to learn more slowly; (depth // layers) is 0 for all but the last."""
    torch.manual_seed(16)
    sizes = (784, 64, 64, 64)
    layers = [part for i, o in pairwise(sizes) for part in (nn.Linear(i, o), nn.GELU())]
    model = nn.Sequential(*layers, nn.Linear(64, 10))
    linear = [each for each in model if isinstance(each, nn.Linear)]
    groups = [
        {"params": each.parameters(), "lr": 1e-3 * (depth // len(linear))}
        for depth, each in enumerate(linear, start=1)
    ]
    optimizer = torch.optim.AdamW(groups)
    with watch(model, optimizer, every=20) as monitor:
        classify(monitor, model, optimizer, batches(250))


@broken("dead units", also=("the gradient is 0", "it does not learn", "one class is predicted"))
def uniform_weights_between_minus_a_tenth_and_zero(watch):
    torch.manual_seed(17)
    model = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    nn.init.uniform_(model[0].weight, -0.1, 0.0)
    nn.init.zeros_(model[0].bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with watch(model, optimizer, every=20) as monitor:
        classify(monitor, model, optimizer, batches(200))


@broken("dead units", also=("the gradient is 0", "it does not learn", "layers that do not move"))
def sparsity_of_an_autoencoder_weighs_more_than_its_images(watch):
    torch.manual_seed(18)
    encoder = nn.Sequential(nn.Linear(784, 128), nn.ReLU())
    decoder = nn.Linear(128, 784)
    model = nn.Sequential(encoder, decoder)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        for x, _ in batches(250):
            code = encoder(x)
            reconstruction = F.mse_loss(decoder(code), x)
            loss = reconstruction + 1.0 * code.abs().sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, reconstruction=reconstruction)


@broken("saturated activations", also=("vanishing gradients", "the first loss is far off"))
def xavier_gain_of_fifty_before_tanh_in_a_surrogate_of_physics(watch):
    torch.manual_seed(19)
    model = nn.Sequential(
        nn.Linear(6, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)
    )
    for layer in (model[0], model[2]):
        nn.init.xavier_uniform_(layer.weight, gain=50.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        regress(monitor, model, optimizer, measurements(300))


class Remembers(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(8, 16), nn.Linear(32, 8)
        self.rnn = nn.RNN(16, 32, batch_first=True)

    def forward(self, words):
        return self.head(self.rnn(self.words(words))[1][0])


@broken("vanishing gradients", also=("it does not learn",))
def plain_recurrent_net_asked_for_the_first_of_eighty_symbols(watch):
    """The classic: what a tanh unit read 80 steps ago has no gradient left."""
    torch.manual_seed(20)
    model = Remembers()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(200):
            words = torch.randint(8, (32, 80))
            classify(monitor, model, optimizer, [(words, words[:, 0])])


@broken(
    "vanishing gradients",
    also=("it does not learn", "dead units", "one class is predicted", "layers that do not move"),
)
def plain_convolutions_twenty_deep_with_default_weights(watch):
    torch.manual_seed(21)
    layers = [nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 8, 3, stride=4, padding=1), nn.ReLU()]
    for _ in range(20):
        layers += [nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 49, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    with watch(model, optimizer, every=20) as monitor:
        classify(monitor, model, optimizer, batches(150, size=32))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        for layer in (self.inner, self.outer):
            nn.init.kaiming_normal_(layer.weight)

    def forward(self, x):
        return x + self.outer(F.relu(self.inner(x)))


@broken("exploding gradients", also=("the first loss is far off", "not finite", "the loss rises"))
def thirty_residual_blocks_that_each_double_the_variance(watch):
    torch.manual_seed(22)
    blocks = [Block(32) for _ in range(30)]
    model = nn.Sequential(nn.Linear(784, 32), *blocks, nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        classify(monitor, model, optimizer, batches(150))


@broken(
    "exploding gradients",
    "learning rate too high",
    also=("not finite", "the loss rises", "it does not learn"),
)
def learnt_pendulum_rolled_out_for_ninety_steps_without_clipping(watch):
    torch.manual_seed(23)
    model = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 2))
    nn.init.normal_(model[2].weight, std=0.2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(100):
            state = torch.stack([2 * torch.rand(16) - 1, torch.zeros(16)], 1)
            guess, loss = state, 0.0
            for _ in range(90):
                angle, speed = state.unbind(1)
                speed = speed - 0.1 * angle.sin()
                state = torch.stack([angle + 0.1 * speed, speed], 1)
                guess = guess + model(guess)
                loss = loss + F.mse_loss(guess, state) / 90
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)


class Encoder(nn.Module):
    """A small transformer over words, with or without their positions."""

    def __init__(self, words=40, length=12, classes=2, positions=True):
        super().__init__()
        self.words = nn.Embedding(words, 32)
        self.positions = nn.Parameter(torch.randn(length, 32)) if positions else 0.0
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.head = nn.Linear(32, classes)

    def forward(self, words):
        return self.head(self.layer(self.words(words) + self.positions).mean(1))


@broken("clipped in every step", also=("learning rate too low", "it does not learn"))
def each_value_of_the_gradient_cut_at_1e_5(watch):
    torch.manual_seed(24)
    model = Encoder(length=11)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    with watch(model, optimizer, every=20) as monitor:
        for words, y in sentences(200):
            optimizer.zero_grad()
            output = model(words)
            loss = F.cross_entropy(output, y)
            loss.backward()
            nn.utils.clip_grad_value_(model.parameters(), 1e-5)
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken("evaluation mode in training", also=("overfitting",))
def training_mode_at_the_epoch_but_validation_each_twenty_batches(watch):
    torch.manual_seed(25)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 8, 5, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(8 * 144, 10),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    images, labels = digits()
    with watch(model, optimizer, every=10) as monitor:
        for epoch in range(3):
            model.train()
            for count, (x, y) in enumerate(batches(100, seed=epoch), start=1):
                classify(monitor, model, optimizer, [(x, y)])
                if count % 20 == 0:
                    model.eval()
                    with torch.no_grad():
                        right = model(images[-300:]).argmax(1) == labels[-300:]
                    monitor.log(**{"accuracy/validation": right})


@broken("evaluation mode in training", also=("running statistics are off",))
def encoder_left_in_eval_by_the_extraction_of_features(watch):
    torch.manual_seed(26)
    encoder = nn.Sequential(
        nn.Conv1d(1, 16, 7, stride=2),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Conv1d(16, 16, 5, stride=2),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(4),
    )
    encoder.eval()
    with torch.no_grad():
        features = torch.cat([encoder(x) for x, _ in waves(5)])
    model = nn.Sequential(encoder, nn.Flatten(), nn.Dropout(0.1), nn.Linear(64, 3))
    assert features.shape[1:] == (16, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    with watch(model, optimizer, every=20) as monitor:
        classify(monitor, model, optimizer, waves(250))


@broken("dropout takes too much", also=("it does not learn",))
def dropout_of_0_97_on_the_words_of_a_recurrent_net(watch):
    torch.manual_seed(27)
    model = Reader(dropout=0.97)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with watch(model, optimizer, every=20) as monitor:
        classify(monitor, model, optimizer, sentences(250))


def eyes(width=16):
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, width, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * width * 36, 10),
    )


@broken("memory grows")
def losses_of_validation_summed_with_their_graphs(watch):
    torch.manual_seed(28)
    model = eyes()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    images, labels = digits()
    total = 0.0
    with watch(model, optimizer, every=10) as monitor:
        for count, (x, y) in enumerate(batches(150), start=1):
            classify(monitor, model, optimizer, [(x, y)])
            if count % 3 == 0:
                chosen = slice(-100 * (count // 3), -100 * (count // 3) + 100 or None)
                total += F.cross_entropy(model(images[chosen]), labels[chosen])
                monitor.log(**{"loss/validation": total / (count // 3)})


@broken("memory grows")
def predictions_collected_for_the_score_of_the_epoch(watch):
    torch.manual_seed(29)
    model = segmenter()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    predictions, targets = [], []
    with watch(model, optimizer, every=10) as monitor:
        for x, y in cells(150, size=32):
            optimizer.zero_grad()
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            predictions.append(model(x).softmax(1))
            targets.append(y)
            monitor.log(loss=loss, output=output, target=y)


@broken("the same batch again", also=("overfitting",))
def test_with_a_single_batch_left_from_debugging(watch):
    torch.manual_seed(30)
    model = eyes(8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    images, labels = digits()
    batch = next(batches(1, size=128))
    with watch(model, optimizer, every=20) as monitor:
        for step in range(200):
            classify(monitor, model, optimizer, [batch])
            if step % 20 == 19:
                with torch.no_grad():
                    scores = model(images[-300:])
                right, loss = (
                    scores.argmax(1) == labels[-300:],
                    F.cross_entropy(scores, labels[-300:]),
                )
                monitor.log(**{"loss/validation": loss, "accuracy/validation": right})


@broken("the same batch again")
def slices_counted_by_the_epoch_in_place_of_the_batch(watch):
    torch.manual_seed(31)
    x, y = next(measurements(1, size=2000))
    model = nn.Sequential(
        nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    with watch(model, optimizer, every=10) as monitor:
        for epoch in range(12):
            for _ in range(2000 // 64):
                chosen = slice(epoch * 64, (epoch + 1) * 64)
                regress(monitor, model, optimizer, [(x[chosen], y[chosen])])


class Customers(nn.Module):
    def __init__(self, count, width=16):
        super().__init__()
        self.numbers, self.facts = nn.Embedding(count, width), nn.Linear(4, width)
        self.rest = nn.Sequential(nn.ReLU(), nn.Linear(2 * width, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, numbers, facts):
        return self.rest(torch.cat([self.numbers(numbers), self.facts(facts)], 1))


@broken("overfitting")
def number_of_the_customer_as_a_feature(watch):
    torch.manual_seed(32)
    numbers, facts = torch.arange(800), torch.randn(800, 4)
    leaves = (facts[:, 0] + 2 * torch.randn(800) > 0).long()
    model = Customers(800)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    known = TensorDataset(numbers[:500], facts[:500], leaves[:500])
    loader = DataLoader(known, batch_size=50, shuffle=True)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(35):
            for *x, y in loader:
                optimizer.zero_grad()
                output = model(*x)
                loss = F.cross_entropy(output, y)
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=output, target=y)
            model.eval()
            with torch.no_grad():
                scores = model(numbers[500:], facts[500:])
            right = scores.argmax(1) == leaves[500:]
            loss = F.cross_entropy(scores, leaves[500:])
            monitor.log(**{"loss/validation": loss, "accuracy/validation": right})
            model.train()


@broken("overfitting")
def forty_patients_with_two_hundred_genes(watch):
    torch.manual_seed(33)
    genes = torch.randn(140, 200)
    age = genes[:, :3].sum(1, keepdim=True) + torch.randn(140, 1)
    model = nn.Sequential(nn.Linear(200, 64), nn.SiLU(), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        for step in range(300):
            chosen = torch.randperm(40)[:20]
            regress(monitor, model, optimizer, [(genes[chosen], age[chosen])])
            if step % 20 == 19:
                with torch.no_grad():
                    monitor.log(val_loss=F.mse_loss(model(genes[40:]), age[40:]))


class Language(nn.Module):
    def __init__(self, words=200, width=128):
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.gru, self.norm = nn.GRU(width, width, batch_first=True), nn.LayerNorm(width)
        self.head = nn.Linear(width, words, bias=False)
        self.head.weight = self.words.weight

    def forward(self, words):
        return self.head(self.norm(self.gru(self.words(words))[0])).transpose(1, 2)


@broken("the first loss is far off")
def embeddings_of_std_1_tied_to_the_output_of_a_language_model(watch):
    torch.manual_seed(34)
    model = Language()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    following = torch.randint(200, (200, 3))
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(150):
            text = [torch.randint(200, (16,))]
            for _ in range(12):
                text.append(following[text[-1], torch.randint(3, (16,))])
            text = torch.stack(text, 1)
            classify(monitor, model, optimizer, [(text[:, :-1], text[:, 1:])])


@broken(
    "the input is not normalised",
    also=(
        "the first loss is far off",
        "learning rate too high",
        "dead units",
        "exploding gradients",
        "it does not learn",
        "one class is predicted",
    ),
)
def sound_as_integers_of_16_bits(watch):
    torch.manual_seed(35)
    model = listener()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    with watch(model, optimizer, every=20) as monitor:
        sound = (((10000 * x).to(torch.int16).float(), y) for x, y in waves(250))
        classify(monitor, model, optimizer, sound)


@broken(
    "constant input",
    also=("it does not learn", "one class is predicted", "no gradient came", "the gradient is 0"),
)
def pixels_cast_back_to_bytes_after_the_division_by_256(watch):
    torch.manual_seed(36)
    model = eyes(8)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in batches(150):
            pixels = (255 * x / 256).to(torch.uint8)
            classify(monitor, model, optimizer, [(pixels.float(), y)])


@broken("weights grow without end", "the loss falls without end", also=("exploding gradients",))
def wasserstein_critic_without_any_bound(watch):
    """No clipping of weights, no penalty of the gradient: the critic's scale is free."""
    torch.manual_seed(37)
    critic = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(), nn.Linear(32, 32), nn.LeakyReLU())
    critic.append(nn.Linear(32, 1))
    optimizer = torch.optim.Adam(critic.parameters(), lr=0.05)
    with watch(critic, optimizer, every=20) as monitor:
        for _ in range(400):
            real, fake = torch.randn(64, 2) + 2, torch.randn(64, 2)
            loss = critic(fake).mean() - critic(real).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)


@broken(
    "weight decay too strong",
    also=("it does not learn", "one class is predicted", "vanishing gradients"),
)
def penalty_of_squares_written_by_hand_and_not_scaled(watch):
    torch.manual_seed(38)
    model = listener()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in waves(250):
            optimizer.zero_grad()
            output = model(x)
            entropy = F.cross_entropy(output, y)
            loss = entropy + 0.2 * sum(param.pow(2).sum() for param in model.parameters())
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken("the output is probabilities already")
def segmenter_that_ends_in_softmax(watch):
    torch.manual_seed(39)
    model = segmenter().append(nn.Softmax(dim=1))
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        classify(monitor, model, optimizer, cells(200))


@broken("the output is probabilities already")
def nll_of_probabilities_without_their_logarithm(watch):
    torch.manual_seed(40)
    model = nn.Sequential(Reader(), nn.Softmax(dim=-1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        classify(monitor, model, optimizer, sentences(300), F.nll_loss)


@broken("the output is never negative", also=("it does not learn",))
def softplus_values_for_a_reward_of_minus_1_in_each_step(watch):
    """The value of a state on a line of ten, each step to its end costs 1."""
    torch.manual_seed(41)
    model = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 1), nn.Softplus())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(250):
            place = torch.randint(10, (64,))
            after = F.one_hot((place + 1).clamp(max=9), 10).float()
            with torch.no_grad():
                target = -1 + 0.95 * model(after) * (place < 9)[:, None]
            regress(monitor, model, optimizer, [(F.one_hot(place, 10).float(), target)])


@broken("one class is predicted", also=("the loss rises", "it does not learn"))
def inverse_frequency_of_a_class_that_the_sample_lacked(watch):
    torch.manual_seed(42)
    model = nn.Sequential(nn.Linear(784, 64), nn.GELU(), nn.Linear(64, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    counts = torch.bincount(digits()[1][:16], minlength=10)
    weighted = nn.CrossEntropyLoss(weight=1 / (counts + 1e-6))
    with watch(model, optimizer, every=20) as monitor:
        classify(monitor, model, optimizer, batches(250), weighted)


@broken("one class is predicted", "the first loss is far off")
def bias_of_a_detector_in_the_first_of_three_classes(watch):
    """RetinaNet's -log(99) was meant for a sigmoid; here the class 0 gets ten times it."""
    torch.manual_seed(43)
    model = segmenter()
    nn.init.zeros_(model[-1].bias)
    model[-1].bias.data[0] = 10 * math.log(99)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watch(model, optimizer, every=20) as monitor:
        classify(monitor, model, optimizer, cells(200))


@broken("batches of one class", also=("the loss rises", "one class is predicted"))
def batches_by_length_where_the_length_tells_the_class(watch):
    """Buckets of equal length spare padding; complaints are long, praise is short."""
    torch.manual_seed(44)
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(5):
            for length in range(4, 24):
                for words, _ in sentences(3, length=length, seed=length):
                    y = (length + torch.randn(32) > 14).long()
                    classify(monitor, model, optimizer, [(words, y)])


@broken("batches of one class", also=("the loss rises", "it does not learn", "dead units"))
def one_recording_makes_one_batch(watch):
    torch.manual_seed(45)
    model = listener()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    with watch(model, optimizer, every=10) as monitor:
        for x, y in waves(300, size=120):
            speaker = torch.randint(3, ())
            classify(monitor, model, optimizer, [(x[y == speaker], y[y == speaker])])


class Own(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    param.add_(param.grad, alpha=group["lr"])


@broken("the loss rises", also=("exploding gradients", "not finite", "weights grow without end"))
def optimizer_of_ones_own_adds_the_gradient(watch):
    torch.manual_seed(46)
    model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 1))
    optimizer = Own(model.parameters(), lr=0.01)
    with watch(model, optimizer, every=20) as monitor:
        regress(monitor, model, optimizer, measurements(150))


@broken("it does not learn")
def order_of_words_asked_of_a_transformer_without_positions(watch):
    """Is the first word smaller than the last? Its output is the same for any order."""
    torch.manual_seed(47)
    model = Encoder(positions=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(250):
            words = torch.randint(40, (64, 12))
            y = (words[:, 0] < words[:, -1]).long()
            classify(monitor, model, optimizer, [(words, y)])


@broken("it does not learn")
def labels_of_two_views_interleaved_while_views_are_stacked(watch):
    torch.manual_seed(48)
    model = eyes(8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in batches(250, size=32):
            views = torch.cat([x + 0.1 * torch.randn_like(x), x + 0.1 * torch.randn_like(x)])
            classify(monitor, model, optimizer, [(views, y.repeat_interleave(2))])


@broken("running statistics are off", also=("overfitting",))
def two_sensors_take_turns_at_one_batchnorm(watch):
    """Each batch is of one of two sensors of other offset and gain; evaluation sees their mean."""
    torch.manual_seed(49)
    model = nn.Sequential(nn.Linear(6, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer, every=25) as monitor:
        for step, (x, y) in enumerate(measurements(400)):
            sensed = 0.2 * x - 5 if step % 2 else 3 * x + 5
            regress(monitor, model, optimizer, [(sensed, y)])
            if step % 25 == 24:
                model.eval()
                x, y = next(measurements(1, size=500, seed=step))
                with torch.no_grad():
                    monitor.log(**{"loss/validation": F.mse_loss(model(3 * x + 5), y)})
                model.train()
