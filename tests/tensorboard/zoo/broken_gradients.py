"""Broken: gradients that are cut off, multiplied by 0, clipped away, exploding or not finite."""

import torch
from torch import nn
from torch.nn import functional as F

from tests.tensorboard.trainings import batches, digits
from tests.tensorboard.zoo import broken


def clouds(classes=4, size=8, spread=1.0, seed=0):
    """A function that draws a labelled batch of points around centers."""
    centers = 2 * torch.randn(classes, size, generator=torch.Generator().manual_seed(seed))

    def draw(count=32):
        y = torch.randint(classes, (count,))
        return centers[y] + spread * torch.randn(count, size), y

    return draw


@broken("no gradient came")
def code_of_an_autoencoder_is_detached_to_be_plotted(watch):
    torch.manual_seed(0)

    class Autoencoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 8))
            self.decoder = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 784))

        def forward(self, x):
            self.code = self.encoder(x).detach()
            return self.decoder(self.code)

    model = Autoencoder()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    with watch(model, optimizer, every=20) as monitor:
        for x, _ in batches(160):
            optimizer.zero_grad()
            loss = F.mse_loss(torch.sigmoid(model(x)), x)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)


@broken("no gradient came")
def no_grad_around_an_encoder_that_should_train(watch):
    """Copied from the code of its evaluation."""
    torch.manual_seed(1)

    class Siblings(nn.Module):
        """One text encoder, two tasks."""

        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(30, 16)
            self.encoder = nn.GRU(16, 24, batch_first=True)
            self.norm = nn.LayerNorm(24)
            self.topic, self.length = nn.Linear(24, 3), nn.Linear(24, 1)

        def encode(self, tokens):
            with torch.no_grad():
                return self.encoder(self.embed(tokens))[1][0]

        def forward(self, tokens):
            code = self.norm(self.encode(tokens))
            return self.topic(code), self.length(code).squeeze(1)

    model = Siblings()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(200):
            y, length = torch.randint(3, (32,)), torch.randint(5, 15, (32,))
            tokens = torch.randint(1, 10, (32, 15)) + 9 * y[:, None]
            tokens[torch.arange(15) >= length[:, None]] = 0
            output, guess = model(tokens)
            loss = F.cross_entropy(output, y) + F.mse_loss(guess, (length - 9.5) / 3)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken("no gradient came")
def hard_argmax_chooses_the_expert(watch):
    """The gate is never trained: what it says is only used as an index."""
    torch.manual_seed(2)

    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
            self.experts = nn.ModuleList(
                nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)) for _ in range(4)
            )

        def forward(self, x):
            chosen = F.one_hot(self.gate(x).argmax(1), 4).float()
            answers = torch.stack([expert(x) for expert in self.experts], 1)
            return (chosen[:, :, None] * answers).sum(1)

    draw = clouds(spread=1.5)
    model = Experts()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(200):
            x, y = draw(64)
            output = model(x)
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


class Round(nn.Module):
    def forward(self, x):
        return torch.round(4 * torch.sigmoid(x)) / 4


@broken("the gradient is 0", also=("layers that do not move",))
def codes_are_rounded_between_encoder_and_decoder(watch):
    """torch.round has a derivative, which is 0; a straight-through estimate is forgotten."""
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Linear(784, 48), nn.LeakyReLU(), nn.Linear(48, 12), Round(),
        nn.Linear(12, 48), nn.LeakyReLU(), nn.Linear(48, 784), nn.Sigmoid(),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer, every=20) as monitor:
        for x, _ in batches(160):
            optimizer.zero_grad()
            loss = F.binary_cross_entropy(model(x), x)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)


@broken("the gradient is 0", also=("layers that do not move",))
def weight_of_the_second_loss_is_rounded_down_to_0(watch):
    """``step // steps`` was to rise from 0 to 1; the boxes' head learns nothing."""
    torch.manual_seed(4)

    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(),
                nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(),
            )  # fmt: skip
            self.label = nn.Linear(8 * 16, 2)
            self.box = nn.Sequential(nn.Linear(8 * 16, 32), nn.ReLU(), nn.Linear(32, 2))

        def forward(self, x):
            code = self.body(x)
            return self.label(code), self.box(code)

    model, steps = Detector(), 200
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    rows, columns = torch.arange(16)[:, None], torch.arange(16)
    with watch(model, optimizer, every=20) as monitor:
        for step in range(steps):
            y, place = torch.randint(2, (32,)), torch.randint(3, 13, (32, 2))
            down = (rows - place[:, :1, None]).abs()
            right = (columns - place[:, 1:, None]).abs()
            shape = torch.where(y[:, None, None] == 0, down + right, torch.maximum(down, right))
            x = (shape <= 2).float() + 0.2 * torch.randn(32, 16, 16)
            output, box = model(x[:, None])
            labels = F.cross_entropy(output, y)
            boxes = F.smooth_l1_loss(box, (place - 8) / 4)
            loss = labels + step // steps * boxes
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y, boxes=boxes)


@broken("the gradient is 0", also=("layers that do not move", "it does not learn"))
def padding_mask_the_wrong_way_round_where_nothing_is_padded(watch):
    torch.manual_seed(5)

    class Next(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(20, 24)
            self.lstm = nn.LSTM(24, 32, batch_first=True)
            self.out = nn.Linear(32, 20)

        def forward(self, tokens):
            return self.out(self.lstm(self.embed(tokens))[0])

    model = Next()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(160):
            start, stride = torch.randint(19, (32, 1)), torch.randint(1, 4, (32, 1))
            tokens = 1 + (start + stride * torch.arange(13)) % 19
            inputs, target = tokens[:, :-1], tokens[:, 1:]
            each = F.cross_entropy(model(inputs).transpose(1, 2), target, reduction="none")
            mask = (target == 0).float()
            loss = (each * mask).sum() / mask.sum().clamp(min=1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)


@broken("the gradient is 0", also=("layers that do not move", "it does not learn"))
def prediction_is_clamped_where_no_target_lies(watch):
    """Ages are clamped to 0 ... 1, from before they were measured in years."""
    torch.manual_seed(6)
    features = torch.randn(400, 6)
    age = 40 + 8 * features[:, 0] + 5 * torch.tanh(features[:, 1])
    model = nn.Sequential(nn.Linear(6, 32), nn.SiLU(), nn.Linear(32, 1))
    nn.init.constant_(model[-1].bias, 40.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(16):
            for chosen in torch.randperm(400).split(40):
                guess = model(features[chosen]).squeeze(1).clamp(0, 1)
                loss = F.l1_loss(guess, age[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)


@broken("clipped in every step", also=("learning rate too low", "it does not learn"))
def gradients_clipped_to_a_norm_of_1e_4_with_sgd(watch):
    torch.manual_seed(7)
    model = nn.Sequential(
        nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in batches(200):
            optimizer.zero_grad()
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1e-4)
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken("clipped in every step", also=("learning rate too low", "it does not learn"))
def recurrent_net_clipped_to_0_01_in_every_step_of_sgd(watch):
    torch.manual_seed(8)

    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.out = nn.LSTM(28, 32, batch_first=True), nn.Linear(32, 10)

        def forward(self, x):
            return self.out(self.lstm(x.view(-1, 28, 28))[0].mean(1))

    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.8)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in batches(200, 32):
            output = model(x)
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=0.01)
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken("no gradient came", also=("it does not learn",))
def item_of_the_main_loss_is_added_to_the_auxiliary_loss(watch):
    torch.manual_seed(9)

    class Inception(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(
                nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 8, 5, stride=2), nn.ReLU()
            )
            self.side = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(72, 10))
            self.body = nn.Sequential(
                nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(400, 10)
            )

        def forward(self, x):
            x = self.stem(x)
            return self.body(x), self.side(x)

    model = Inception()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in batches(200, 32):
            output, side = model(x)
            main = F.cross_entropy(output, y)
            loss = main.item() + 0.3 * F.cross_entropy(side, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken("no gradient came")
def loss_of_the_draft_in_place_of_the_refined_image(watch):
    torch.manual_seed(10)

    class Denoiser(nn.Module):
        def __init__(self):
            super().__init__()
            self.coarse = nn.Sequential(
                nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1)
            )
            self.refine = nn.Sequential(
                nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1)
            )

        def forward(self, x):
            draft = self.coarse(x)
            return draft, draft + self.refine(torch.cat([x, draft], 1))

    model = Denoiser()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    with watch(model, optimizer, every=20) as monitor:
        for x, _ in batches(120, 16):
            clean = x.view(-1, 1, 28, 28)
            refined, _ = model(clean + 0.3 * torch.randn_like(clean))
            loss = F.mse_loss(refined, clean)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)


@broken(
    "exploding gradients",
    also=("learning rate too high", "the loss rises", "weights grow without end"),
)
def recurrent_relu_net_over_80_steps_without_clipping(watch):
    """The adding problem."""
    torch.manual_seed(11)

    class Adder(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.RNN(2, 32, nonlinearity="relu", batch_first=True)
            self.out = nn.Linear(32, 1)
            nn.init.eye_(self.rnn.weight_hh_l0)
            nn.init.normal_(self.rnn.weight_ih_l0, std=0.01)
            nn.init.zeros_(self.rnn.bias_ih_l0)
            nn.init.zeros_(self.rnn.bias_hh_l0)

        def forward(self, x):
            return self.out(self.rnn(x)[0][:, -1])

    model = Adder()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(150):
            marks = torch.zeros(32, 80)
            for half in (0, 40):
                marks[torch.arange(32), half + torch.randint(40, (32,))] = 1
            x = torch.stack([torch.rand(32, 80), marks], 2)
            target = (x[..., 0] * marks).sum(1, keepdim=True)
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), target)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)


@broken(
    "exploding gradients", also=("learning rate too high", "the loss rises", "it does not learn")
)
def recurrent_tanh_net_of_wide_weights_without_clipping(watch):
    """The largest eigenvalue of its recurrent weights is about 2."""
    torch.manual_seed(19)

    class Memory(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.RNN(4, 48, batch_first=True), nn.Linear(48, 2)
            nn.init.normal_(self.rnn.weight_hh_l0, std=0.3)

        def forward(self, x):
            return self.out(self.rnn(x)[0][:, -1])

    model = Memory()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(200):
            x = torch.randn(32, 60, 4)
            y = (x[:, -8:, 0].mean(1) > 0).long()
            output = model(x)
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken("not finite")
def cross_entropy_by_hand_takes_the_logarithm_of_0(watch):
    torch.manual_seed(12)
    draw = clouds(classes=2, size=10, spread=0.7, seed=3)
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid())
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(300):
            x, y = draw()
            p = model(x).squeeze(1)
            loss = -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, accuracy=((p > 0.5) == (y == 1)).float().mean())


@broken("not finite")
def distance_of_a_pair_of_equal_images_has_no_gradient(watch):
    """The slope of the square root at 0 is infinite; pairs are drawn with replacement."""
    torch.manual_seed(13)
    images, labels = digits()
    images, labels = images[:1000], labels[:1000]
    model = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 16))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(200):
            first, second = torch.randint(1000, (2, 32))
            difference = model(images[first]) - model(images[second])
            distance = torch.sqrt((difference**2).sum(1))
            same = labels[first] == labels[second]
            loss = torch.where(same, distance**2, F.relu(2 - distance) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)


@broken("not finite")
def a_silent_recording_is_divided_by_its_own_spread_of_0(watch):
    torch.manual_seed(14)
    model = nn.Sequential(
        nn.Conv1d(1, 8, 9, stride=2), nn.BatchNorm1d(8), nn.ReLU(),
        nn.Conv1d(8, 16, 9, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    time = torch.linspace(0, 50, 96)
    label = torch.randint(3, (2000,))
    sound = torch.sin((1 + label[:, None] / 2) * time + 6.28 * torch.rand(2000, 1))
    sound = sound * torch.rand(2000, 1) + 0.05 * torch.randn(2000, 96)
    sound[1234] = 0
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(4):
            for chosen in torch.randperm(2000).split(40):
                x, y = sound[chosen], label[chosen]
                x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)
                output = model(x[:, None])
                loss = F.cross_entropy(output, y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=output, target=y)


@broken("not finite")
def gradients_overflow_float16_by_a_fixed_loss_scale(watch):
    """2**16, where a GradScaler would begin, and back off."""
    torch.manual_seed(15)
    scale = 2.0**16
    draw = clouds(classes=6, size=20, spread=1.5, seed=1)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 6)).half()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(150):
            x, y = draw(8)
            output = model(x.half())
            loss = F.cross_entropy(output.float(), y)
            optimizer.zero_grad()
            (scale * loss).backward()
            for param in model.parameters():
                param.grad /= scale
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken("not finite", also=("unusual options",))
def adam_in_half_precision_divides_by_0(watch):
    """Its eps of 1e-8 and the squares of small gradients are 0 in float16."""
    torch.manual_seed(16)
    draw = clouds(classes=5, size=12)
    model = nn.Sequential(
        nn.Linear(12, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 32), nn.GELU(),
        nn.Linear(32, 5),
    ).half()  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(120):
            x, y = draw()
            output = model(x.half())
            loss = F.cross_entropy(output.float(), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken("it does not learn", also=("one class is predicted", "layers that do not move"))
def all_is_frozen_but_the_bias_of_the_new_head(watch):
    """``[:-1]`` was meant to spare the last layer, and spares the last tensor."""
    torch.manual_seed(17)
    model = nn.Sequential(
        nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)
    )
    pretraining = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for x, y in batches(60, seed=1):
        pretraining.zero_grad()
        F.cross_entropy(model(x), y).backward()
        pretraining.step()
    model[-1] = nn.Linear(32, 5)
    for param in list(model.parameters())[:-1]:
        param.requires_grad = False
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in batches(200):
            output = model(x)
            loss = F.cross_entropy(output, y // 2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y // 2)


@broken("it does not learn", also=("layers that do not move",))
def the_new_head_is_frozen_with_all_but_the_norms(watch):
    """Norms and the head were to be trained; the condition forgets the head."""
    torch.manual_seed(18)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.norm1 = nn.Linear(784, 48), nn.LayerNorm(48)
            self.block, self.norm2 = nn.Linear(48, 48), nn.LayerNorm(48)
            self.head = nn.Linear(48, 10)

        def forward(self, x):
            x = F.relu(self.norm1(self.stem(x)))
            return self.head(F.relu(self.norm2(self.block(x))))

    model = Net()
    pretraining = torch.optim.Adam(model.parameters(), lr=2e-3)
    for x, y in batches(60, seed=1):
        pretraining.zero_grad()
        F.cross_entropy(model(x), y).backward()
        pretraining.step()
    model.head = nn.Linear(48, 3)
    for name, param in model.named_parameters():
        param.requires_grad = "norm" in name
    optimizer = torch.optim.SGD(
        filter(lambda p: p.requires_grad, model.parameters()), lr=1e-3, momentum=0.9
    )
    with watch(model, optimizer, every=20) as monitor:
        for x, y in batches(200):
            output = model(x)
            loss = F.cross_entropy(output, y % 3)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y % 3)
