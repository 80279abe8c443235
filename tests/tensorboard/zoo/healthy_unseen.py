"""Recipes of tutorials, papers and other trades, written without a look at the rules."""

import copy
import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from tests.tensorboard.trainings import digits
from torchopt_ref import optim

from . import healthy


def right(output, target):
    return (output.argmax(1) == target).float().mean().item()


@torch.no_grad()
def accuracy_of(model):
    """On the last digits, which ``first`` never draws."""
    images, labels = digits()
    model.eval()
    found = right(model(images[-1000:]), labels[-1000:])
    model.train()
    return found


def first(steps, size=64, count=8000):
    images, labels = digits()
    for _ in range(steps):
        rows = torch.randint(count, (size,))
        yield images[rows], labels[rows]


@healthy
def pytorchs_mnist_example_by_adadelta(watch):
    """log_softmax in the model and nll_loss, a rate of 1, times 0.7 in each epoch."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 8, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU(),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(16 * 36, 64),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(64, 10),
        nn.LogSoftmax(1),
    )
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 60, gamma=0.7)
    with watch(model, optimizer, every=20) as monitor:
        for step, (x, y) in enumerate(first(240), 1):
            optimizer.zero_grad()
            output = model(x)
            loss = F.nll_loss(output, y)
            loss.backward()
            optimizer.step()
            scheduler.step()
            monitor.log(loss=loss, output=output, target=y)
            if step % 60 == 0:
                monitor.log(**{"accuracy/validation": accuracy_of(model)})
    assert accuracy_of(model) > 0.9


@healthy
def flowers_of_150_samples_on_the_full_batch(watch):
    """As the iris data: three species by four lengths, two of them overlapping."""
    torch.manual_seed(2)
    means = torch.tensor([[5.0, 3.4, 1.5, 0.2], [5.9, 2.8, 4.3, 1.3], [6.6, 3.0, 5.6, 2.0]])
    y = torch.arange(3).repeat_interleave(50)
    x = means[y] + torch.tensor([0.5, 0.35, 0.4, 0.2]) * torch.randn(150, 4)
    order = torch.randperm(150)
    train, test = order[:120], order[120:]
    model = nn.Sequential(
        nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)
    )
    optimizer = torch.optim.RAdam(model.parameters(), lr=0.02)
    with watch(model, optimizer, every=10) as monitor:
        for epoch in range(200):
            output = model(x[train])
            loss = F.cross_entropy(output, y[train])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y[train])
            if epoch % 10 == 9:
                with torch.no_grad():
                    output = model(x[test])
                validation = F.cross_entropy(output, y[test]).item()
                monitor.log(**{"loss/validation": validation})
                monitor.log(**{"accuracy/validation": right(output, y[test])})
    assert right(output, y[test]) > 0.9


@healthy
def seasonal_demand_is_forecast_by_nadam(watch):
    """A GRU on windows of 24 hours; smooth L1, clipped at 1, validated on what follows."""
    torch.manual_seed(3)
    time = torch.arange(1500.0)
    series = torch.sin(time * 2 * torch.pi / 24) + 0.5 * torch.sin(time * 2 * torch.pi / 168)
    series = series + 0.15 * torch.randn(1500)
    windows = series.unfold(0, 25, 1)[..., None]
    train, test = windows[:1100], windows[1150:]
    gru, head = nn.GRU(1, 24, batch_first=True), nn.Linear(24, 1)
    model = nn.ModuleDict({"gru": gru, "head": head})
    optimizer = torch.optim.NAdam(model.parameters(), lr=4e-3)

    def forecast(part):
        return F.smooth_l1_loss(head(gru(part[:, :-1])[0][:, -1]), part[:, -1])

    with watch(model, optimizer, every=10) as monitor:
        for _ in range(6):
            for rows in torch.randperm(1100).split(32):
                optimizer.zero_grad()
                loss = forecast(train[rows])
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                monitor.log(loss=loss)
            with torch.no_grad():
                validation = forecast(test)
            monitor.log(**{"loss/validation": validation})
    assert validation < 0.06


@healthy
def kinematics_of_an_arm_by_resilient_propagation(watch):
    """Rprop on the full batch, as its authors meant it."""
    torch.manual_seed(4)
    angles = (torch.rand(100, 2) - 0.5) * 3
    ends = torch.stack(
        [
            angles[:, 0].cos() + 0.7 * angles.sum(1).cos(),
            angles[:, 0].sin() + 0.7 * angles.sum(1).sin(),
        ],
        1,
    )
    model = nn.Sequential(nn.Linear(2, 20), nn.Sigmoid(), nn.Linear(20, 2))
    optimizer = torch.optim.Rprop(model.parameters(), lr=0.01)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(300):
            optimizer.zero_grad()
            loss = F.mse_loss(model(angles), ends)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    assert loss < 0.005


@healthy
def parts_of_speech_by_the_tutorial(watch):
    """One sentence at a time, SGD at 0.1, four sentences of a made grammar in turn, to the end."""
    torch.manual_seed(5)
    kinds = {"the": 0, "a": 0, "dog": 1, "apple": 1, "book": 1, "child": 1, "ate": 2, "read": 2}
    words = list(kinds)
    sentences = [
        "the dog ate the apple",
        "a child read the book",
        "the child ate",
        "a dog read a book",
        "the book",
    ]
    embed, lstm, head = nn.Embedding(8, 6), nn.LSTM(6, 6), nn.Linear(6, 3)
    model = nn.ModuleDict({"embed": embed, "lstm": lstm, "head": head})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(80):
            for sentence in sentences:
                x = torch.tensor([words.index(word) for word in sentence.split()])
                y = torch.tensor([kinds[word] for word in sentence.split()])
                model.zero_grad()
                output = F.log_softmax(head(lstm(embed(x)[:, None])[0].squeeze(1)), 1)
                loss = F.nll_loss(output, y)
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=output, target=y)
    assert loss < 0.1


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                mean = state.setdefault("exp_avg", torch.zeros_like(param))
                param.mul_(1 - group["lr"] * group["weight_decay"])
                param.sub_(group["lr"] * mean.lerp(param.grad, 1 - beta1).sign())
                mean.lerp_(param.grad, 1 - beta2)


@healthy
def lion_at_its_own_rate_and_decay(watch):
    """A tenth of Adam's rate, ten times its decay, warmed up and falling by a cosine."""
    torch.manual_seed(6)
    model = nn.Sequential(
        nn.Linear(784, 128), nn.LayerNorm(128), nn.GELU(), nn.Linear(128, 128), nn.LayerNorm(128),
        nn.GELU(), nn.Linear(128, 10),
    )  # fmt: skip
    optimizer = Lion(model.parameters(), lr=3e-4, weight_decay=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda at: min((at + 1) / 20, 0.5 + 0.5 * math.cos(math.pi * at / 250))
    )
    with watch(model, optimizer, every=20) as monitor:
        for x, y in first(250):
            output = model(x)
            loss = F.cross_entropy(output, y, label_smoothing=0.1)
            optimizer.zero_grad(set_to_none=False)
            loss.backward()
            optimizer.step()
            scheduler.step()
            monitor.log(loss=loss, output=output, target=y)
    assert accuracy_of(model) > 0.9


@healthy
def matrices_by_muon_and_the_rest_by_adamw(watch):
    torch.manual_seed(7)
    model = nn.Sequential(
        nn.Linear(784, 96), nn.ReLU(), nn.Linear(96, 96, bias=False), nn.ReLU(),
        nn.Linear(96, 96, bias=False), nn.ReLU(), nn.Linear(96, 10),
    )  # fmt: skip
    hidden = [model[2].weight, model[4].weight]
    rest = [*model[0].parameters(), *model[6].parameters()]
    muon = torch.optim.Muon(hidden, lr=0.02, momentum=0.95, weight_decay=0.01)
    adamw = torch.optim.AdamW(rest, lr=2e-3, betas=(0.9, 0.95))
    with watch(model, {"muon": muon, "adamw": adamw}, every=20) as monitor:
        for x, y in first(200):
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            for optimizer in (muon, adamw):
                optimizer.step()
                optimizer.zero_grad()
            monitor.log(loss=loss, output=output, target=y)
    assert accuracy_of(model) > 0.9


@healthy
def sorting_by_adafactor_without_a_rate(watch):
    """A small encoder tells each number's rank; Adafactor chooses its steps by itself."""
    torch.manual_seed(8)
    model = nn.Sequential(
        nn.Linear(1, 32),
        nn.TransformerEncoder(
            nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True), 1
        ),
        nn.LayerNorm(32),
        nn.Linear(32, 6),
    )
    optimizer = torch.optim.Adafactor(model.parameters(), lr=0.01)
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(350):
            x = torch.randn(64, 6, 1)
            y = x.squeeze(2).argsort(1).argsort(1)
            output = model(x).transpose(1, 2)
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)
    assert loss < 0.9


@healthy
def faces_like_triplets_with_a_margin(watch):
    """Digits embedded on the sphere by triplets, tested by the nearest centre."""
    torch.manual_seed(9)
    images, labels = digits()
    by_class = [torch.where(labels[:8000] == each)[0] for each in range(10)]
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 16))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def embed(x):
        return F.normalize(model(x), dim=1)

    def drawn(classes):
        return torch.stack([by_class[c][torch.randint(len(by_class[c]), ())] for c in classes])

    with watch(model, optimizer, every=20) as monitor:
        for _ in range(200):
            own = torch.randint(10, (48,))
            other = (own + torch.randint(1, 10, (48,))) % 10
            anchors, positives, negatives = (
                embed(images[drawn(each.tolist())]) for each in (own, own, other)
            )
            loss = F.triplet_margin_loss(anchors, positives, negatives, margin=0.5)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    with torch.no_grad():
        centres = torch.stack([embed(images[rows]).mean(0) for rows in by_class])
        assert right(embed(images[-1000:]) @ centres.T, labels[-1000:]) > 0.85


@healthy
def three_quantiles_of_a_noisy_curve(watch):
    torch.manual_seed(10)
    x = torch.rand(3000, 1) * 4
    y = torch.sin(2 * x) + (0.1 + 0.3 * x) * torch.randn(3000, 1)
    model = nn.Sequential(
        nn.Linear(1, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, 3)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    levels = torch.tensor([0.1, 0.5, 0.9])
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(15):
            for rows in torch.randperm(3000).split(100):
                off = y[rows] - model(x[rows])
                loss = torch.maximum(levels * off, (levels - 1) * off).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)
    with torch.no_grad():
        below = (y < model(x)).float().mean(0)
    assert (below - levels).abs().max() < 0.05


@healthy
def grades_by_ordinal_regression(watch):
    """CORAL: one score, four thresholds, and a binary loss for each; most people give a 4."""
    torch.manual_seed(11)
    x = torch.randn(2000, 8)
    score = x @ torch.tensor([1.0, 0.8, -0.6, 0.4, 0.3, 0, 0, 0]) + 0.5 * torch.randn(2000)
    y = torch.bucketize(score, torch.tensor([-2.2, -1.4, -0.5, 1.5]))

    class Coral(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1, bias=False))
            self.thresholds = nn.Parameter(torch.tensor([1.5, 0.5, -0.5, -1.5]))

        def forward(self, x):
            return self.body(x) + self.thresholds

    model = Coral()
    optimizer = torch.optim.Adamax(model.parameters(), lr=0.01)
    above = (y[:, None] > torch.arange(4)).float()
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(6):
            for rows in torch.randperm(1600).split(32):
                output = model(x[rows])
                loss = F.binary_cross_entropy_with_logits(output, above[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, accuracy=((output > 0).sum(1) == y[rows]))
            with torch.no_grad():
                off = ((model(x[1600:]) > 0).sum(1) - y[1600:]).abs().float().mean()
            monitor.log(**{"mae/validation": off})
    assert off < 0.5


@healthy
def wasserstein_gan_whose_critic_is_clipped(watch):
    """RMSprop at 5e-4, five steps of the critic for one, its weights kept within 0.1."""
    torch.manual_seed(12)
    generator = nn.Sequential(
        nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2)
    )
    critic = nn.Sequential(
        nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
    )
    of_g = torch.optim.RMSprop(generator.parameters(), lr=1e-3)
    of_c = torch.optim.RMSprop(critic.parameters(), lr=1e-3)

    def real(count):
        return torch.randn(count, 2) @ torch.tensor([[0.6, 0.3], [0.0, 0.3]]) + torch.tensor(
            [2.0, -1]
        )

    models = {"critic": critic, "generator": generator}
    with watch(models, {"critic": of_c, "generator": of_g}, every=25) as monitor:
        for _ in range(150):
            for _ in range(5):
                fake = generator(torch.randn(64, 4)).detach()
                loss_of_critic = critic(fake).mean() - critic(real(64)).mean()
                of_c.zero_grad()
                loss_of_critic.backward()
                of_c.step()
                with torch.no_grad():
                    for param in critic.parameters():
                        param.clamp_(-0.1, 0.1)
            loss = -critic(generator(torch.randn(64, 4))).mean()
            of_g.zero_grad()
            loss.backward()
            of_g.step()
            monitor.log(**{"loss/critic": loss_of_critic, "loss/generator": loss})
    with torch.no_grad():
        drawn = generator(torch.randn(1000, 4))
    assert (drawn.mean(0) - torch.tensor([2.0, -1])).abs().max() < 0.5


@healthy
def pictures_and_captions_by_clip(watch):
    """Two towers, a learnt temperature that begins at 0.07, and its logarithm capped."""
    torch.manual_seed(13)
    names = torch.randn(10, 12)

    class Clip(nn.Module):
        def __init__(self):
            super().__init__()
            self.sees = nn.Sequential(nn.Linear(784, 96), nn.GELU(), nn.Linear(96, 24))
            self.reads = nn.Sequential(nn.Linear(12, 48), nn.GELU(), nn.Linear(48, 24))
            self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

        def forward(self, pictures, captions):
            pictures = F.normalize(self.sees(pictures), dim=1)
            captions = F.normalize(self.reads(captions), dim=1)
            return self.logit_scale.exp() * pictures @ captions.T

    model = Clip()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2
    )
    goal = torch.arange(32)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in first(250, 32):
            logits = model(x, names[y] + 0.2 * torch.randn(32, 12))
            loss = (F.cross_entropy(logits, goal) + F.cross_entropy(logits.T, goal)) / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, math.log(100))
            monitor.log(loss=loss, logit_scale=model.logit_scale)
    images, labels = digits()
    assert right(model(images[-1000:], names), labels[-1000:]) > 0.85


@healthy
def knowledge_graph_translated_by_margin(watch):
    """TransE: entities back to norm 1 before each step, a random head or tail against each fact."""
    torch.manual_seed(14)
    entities, relations = 53, 3
    town, country = torch.arange(40), torch.arange(40, 50)
    lies_in = [town, torch.zeros(40), 40 + town // 4], [country, torch.ones(10), 50 + country % 3]
    capital = [country, torch.full((10,), 2), (country - 40) * 4]
    facts = torch.cat([torch.stack(each, 1).long() for each in (*lies_in, capital)])

    class TransE(nn.Module):
        def __init__(self):
            super().__init__()
            self.entity, self.relation = nn.Embedding(entities, 24), nn.Embedding(relations, 24)
            for each in (self.entity, self.relation):
                nn.init.uniform_(each.weight, -6 / 24**0.5, 6 / 24**0.5)

        def forward(self, fact):
            h, r, t = fact.unbind(1)
            return (self.entity(h) + self.relation(r) - self.entity(t)).norm(dim=1)

    model = TransE()
    with torch.no_grad():
        model.relation.weight.copy_(F.normalize(model.relation.weight, dim=1))
    losses = []
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(150):
            for batch in facts[torch.randperm(len(facts))].split(20):
                with torch.no_grad():
                    model.entity.weight.copy_(F.normalize(model.entity.weight, dim=1))
                corrupt = batch.clone()
                corrupt[torch.arange(len(batch)), 2 * torch.randint(2, (len(batch),))] = (
                    torch.randint(entities, (len(batch),))
                )
                loss = F.relu(0.5 + model(batch) - model(corrupt)).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
                monitor.log(loss=loss)
    assert sum(losses[-50:]) < 0.35 * sum(losses[:10]) * 5


@healthy
def blobs_segmented_by_dice_in_bfloat16(watch):
    """Autocast on the CPU; the blob fills a twentieth of the picture."""
    torch.manual_seed(15)
    axis = torch.arange(24.0)

    def scans(count):
        centre = 5 + 14 * torch.rand(count, 2, 1)
        near = ((axis - centre[:, 0]) ** 2)[:, None] + ((axis - centre[:, 1]) ** 2)[..., None]
        masks = (near < 9).float()[:, None]
        return masks * 0.8 + 0.5 * torch.randn(count, 1, 24, 24), masks

    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.InstanceNorm2d(8, affine=True), nn.LeakyReLU(0.01),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2), nn.InstanceNorm2d(8, affine=True),
        nn.LeakyReLU(0.01), nn.Conv2d(8, 1, 1),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    with watch(model, optimizer, every=15) as monitor:
        for _ in range(150):
            x, masks = scans(8)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                output = model(x)
            found = output.float().sigmoid()
            both = (found * masks).sum((1, 2, 3))
            loss = 1 - ((2 * both + 1) / (found.sum((1, 2, 3)) + masks.sum((1, 2, 3)) + 1)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    assert loss < 0.35


@healthy
def word_language_model_example_at_a_rate_of_20(watch):
    """PyTorch's: plain SGD at 20, clipped at 0.25, a quarter of the rate when validation rises."""
    torch.manual_seed(16)
    follows = torch.softmax(2.5 * torch.randn(20, 20), 1)
    text = [0]
    for row in torch.multinomial(follows, 9000, replacement=True).T:
        text.append(row[text[-1]].item())
    text = torch.tensor(text)
    train, test = text[:8000].view(8, -1).T, text[8000:9000].view(8, -1).T

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.drop = nn.Embedding(20, 32), nn.Dropout(0.2)
            self.rnn, self.decoder = nn.LSTM(32, 32), nn.Linear(32, 20)
            self.decoder.weight = self.encoder.weight
            nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
            nn.init.zeros_(self.decoder.bias)

        def forward(self, x, state=None):
            output, state = self.rnn(self.drop(self.encoder(x)), state)
            return self.decoder(self.drop(output)).flatten(0, 1), state

    model, best = Model(), math.inf
    optimizer = torch.optim.SGD(model.parameters(), lr=20)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.25, patience=0)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(8):
            state = None
            model.train()
            for at in range(0, len(train) - 1, 35):
                x, y = train[at : at + 35][: len(train) - 1 - at], train[at + 1 : at + 36]
                state = state and tuple(each.detach() for each in state)
                optimizer.zero_grad()
                output, state = model(x, state)
                loss = F.cross_entropy(output, y.flatten())
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 0.25)
                optimizer.step()
                monitor.log(loss=loss)
            model.eval()
            with torch.no_grad():
                validation = F.cross_entropy(model(test[:-1])[0], test[1:].flatten()).item()
            scheduler.step(validation)
            best = min(best, validation)
            monitor.log(**{"loss/validation": validation})
    assert best < 2.0


@healthy
def large_batches_of_64_accumulated_micro_batches(watch):
    """Five hundred and twelve samples a step, few steps, each of them recorded."""
    torch.manual_seed(17)
    model = nn.Sequential(
        nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with watch(model, optimizer, every=1) as monitor:
        for _ in range(50):
            total = 0.0
            for x, y in first(64, 8):
                loss = F.cross_entropy(model(x), y) / 64
                loss.backward()
                total += loss.item()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=total)
    assert accuracy_of(model) > 0.8


@healthy
def gradual_unfreezing_from_the_head_down(watch):
    """As ULMFiT: a group more at each stage, its rate 2.6 times smaller; 0 to 4 are known."""
    torch.manual_seed(18)
    images, labels = digits()
    model = nn.Sequential(
        nn.Linear(784, 96), nn.ReLU(), nn.Linear(96, 64), nn.ReLU(), nn.Linear(64, 5)
    )
    before = torch.optim.Adam(model.parameters(), lr=2e-3)
    low = torch.where(labels < 5)[0]
    for _ in range(100):
        rows = low[torch.randint(len(low), (64,))]
        before.zero_grad()
        F.cross_entropy(model(images[rows]), labels[rows]).backward()
        before.step()
    model[4] = nn.Linear(64, 5)
    model.requires_grad_(False)
    model[4].requires_grad_(True)
    high = torch.where(labels >= 5)[0]
    train, test = high[:1000], high[-1000:]
    optimizer = torch.optim.Adam(model[4].parameters(), lr=5e-3)
    with watch(model, optimizer, every=10) as monitor:
        for stage in range(3):
            if stage:
                layer = model[4 - 2 * stage].requires_grad_(True)
                optimizer.add_param_group(
                    {"params": [*layer.parameters()], "lr": 5e-3 / 2.6**stage}
                )
            for _ in range(60):
                rows = train[torch.randint(1000, (32,))]
                output = model(images[rows])
                loss = F.cross_entropy(output, labels[rows] - 5)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=output, target=labels[rows] - 5)
            with torch.no_grad():
                found = right(model(images[test]), labels[test] - 5)
            monitor.log(**{"accuracy/validation": found})
    assert found > 0.85


class Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale):
        return (x / scale).round().clamp(-8, 7) * scale

    @staticmethod
    def backward(ctx, grad):
        return grad, None


class QuantConv(nn.Conv2d):
    def forward(self, x):
        scale = self.weight.detach().abs().max() / 7
        return self._conv_forward(x, Rounded.apply(self.weight, scale), self.bias)


@healthy
def four_bit_weights_with_late_frozen_statistics(watch):
    """A trained net goes on with rounded weights; BatchNorm freezes at two thirds."""
    torch.manual_seed(19)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)), QuantConv(1, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(),
        QuantConv(8, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(),
        nn.Linear(576, 10),
    )  # fmt: skip
    before = torch.optim.Adam(model.parameters(), lr=3e-3)
    for x, y in first(200, 48):
        before.zero_grad()
        F.cross_entropy(model(x), y).backward()
        before.step()
    optimizer = torch.optim.SGD(model.parameters(), lr=2e-3, momentum=0.9)
    with watch(model, optimizer, every=15) as monitor:
        for step, (x, y) in enumerate(first(180, 48)):
            if step == 120:
                for module in model:
                    if isinstance(module, nn.BatchNorm2d):
                        module.eval()
            output = model(x)
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)
    assert accuracy_of(model) > 0.92


@healthy
def residual_blocks_left_out_at_random(watch):
    """Stochastic depth: a block that is left out has no gradient in this step."""
    torch.manual_seed(20)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head = nn.Linear(784, 64), nn.Linear(64, 10)
            self.blocks = nn.ModuleList(
                nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
                for _ in range(6)
            )

        def forward(self, x):
            x = self.stem(x)
            for at, block in enumerate(self.blocks):
                alive = 1 - 0.5 * (at + 1) / 6
                if not self.training:
                    x = x + alive * block(x)
                elif torch.rand(()) < alive:
                    x = x + block(x)
            return self.head(x)

    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in first(200):
            output = model(x)
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)
    assert accuracy_of(model) > 0.88


@healthy
def two_fifths_of_the_labels_are_wrong(watch):
    """Generalised cross entropy withstands them: half of the labels agree at best."""
    torch.manual_seed(21)
    images, labels = digits()
    noisy = torch.where(torch.rand(8000) < 0.4, torch.randint(10, (8000,)), labels[:8000])
    model = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    with watch(model, optimizer, every=25) as monitor:
        for rows in torch.randperm(8000).repeat(3)[: 300 * 64].split(64):
            output = model(images[rows])
            chance = output.softmax(1).gather(1, noisy[rows, None])
            loss = ((1 - chance**0.7) / 0.7).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=noisy[rows])
    assert accuracy_of(model) > 0.85


@healthy
def daily_returns_explained_by_a_twentieth(watch):
    """A factor model in finance: the loss falls from 1 to its floor of 0.95, and no further."""
    torch.manual_seed(22)
    truth = torch.tensor([0.15, -0.12, 0.1, 0.05, 0, 0, 0, 0])
    x = torch.randn(8000, 8)
    y = x @ truth + (1 - truth.square().sum()).sqrt() * torch.randn(8000)
    model = nn.Linear(8, 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = torch.optim.ASGD(model.parameters(), lr=0.02, t0=100)
    with watch(model, optimizer, every=20) as monitor:
        for rows in torch.randperm(7000).repeat(3).split(100):
            loss = F.mse_loss(model(x[rows]).squeeze(1), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
        with torch.no_grad():
            validation = F.mse_loss(model(x[7000:]).squeeze(1), y[7000:])
        monitor.log(**{"loss/validation": validation})
    assert F.cosine_similarity(model.weight[0], truth, dim=0) > 0.95


@healthy
def good_model_is_moved_to_a_new_scanner(watch):
    """Fine-tuning at 2e-4 from a loss that is small already, on slightly darker, noisier digits."""
    torch.manual_seed(23)
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10))
    before = torch.optim.Adam(model.parameters(), lr=2e-3)
    for x, y in first(350):
        before.zero_grad()
        F.cross_entropy(model(x), y).backward()
        before.step()
    images, labels = digits()
    scanned = 0.8 * images + 0.1 * torch.randn(10000, 784)

    @torch.no_grad()
    def validate():
        model.eval()
        output = model(scanned[-1000:])
        model.train()
        return F.cross_entropy(output, labels[-1000:]).item()

    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, weight_decay=0.01)
    with watch(model, optimizer, every=20) as monitor:
        monitor.log(**{"loss/validation": validate()})
        start = validate()
        for step in range(1, 241):
            rows = torch.randint(8000, (32,))
            output = model(scanned[rows])
            loss = F.cross_entropy(output, labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=labels[rows])
            if step % 40 == 0:
                monitor.log(**{"loss/validation": validate()})
    assert validate() < start


@healthy
def nine_tenths_of_the_weights_are_pruned_in_steps(watch):
    """Zhu and Gupta's: 30, 60, 80, 90 % by magnitude, some training after each."""
    torch.manual_seed(24)
    model = nn.Sequential(
        nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 10)
    )
    pairs = [(model[0], "weight"), (model[2], "weight")]
    for module, name in pairs:
        prune.identity(module, name)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    with watch(model, optimizer, every=20) as monitor:
        for step, (x, y) in enumerate(first(400)):
            if step in (80, 140, 200, 260):
                kept = {80: 0.7, 140: 4 / 7, 200: 0.5, 260: 0.5}[step]
                for module, name in pairs:
                    prune.l1_unstructured(module, name, amount=1 - kept)
            output = model(x)
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)
    assert (model[0].weight == 0).float().mean() > 0.85
    assert accuracy_of(model) > 0.88


@healthy
def sines_learnt_to_learn_by_maml(watch):
    """Ten points, one inner step, and the slope of what it leads to, through detached slopes."""
    torch.manual_seed(25)
    model = nn.Sequential(
        nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    def task():
        size, phase = 0.5 + 2 * torch.rand(()), 0.5 * torch.rand(())
        x = 4 * torch.rand(20, 1) - 2
        y = size * torch.sin(x + phase)
        return x[:10], y[:10], x[10:], y[10:]

    losses = []
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(250):
            optimizer.zero_grad()
            total = 0.0
            for _ in range(4):
                x, y, test_x, test_y = task()
                fast = dict(model.named_parameters())
                loss = F.mse_loss(torch.func.functional_call(model, fast, x), y)
                slopes = torch.autograd.grad(loss, list(fast.values()))
                fast = {
                    name: param - 0.02 * slope
                    for (name, param), slope in zip(fast.items(), slopes, strict=True)
                }
                loss = F.mse_loss(torch.func.functional_call(model, fast, test_x), test_y) / 4
                loss.backward()
                total += loss.item()
            optimizer.step()
            losses.append(total)
            monitor.log(loss=total)
    assert sum(losses[-50:]) < 0.5 * sum(losses[:50])


@healthy
def energies_and_forces_in_double_precision(watch):
    """A neural potential: forces are the gradient by the places, weighted 100 to 1, clipped."""
    torch.manual_seed(26)
    model = nn.Sequential(
        nn.Linear(3, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1)
    )
    model = model.double()
    places = (2 * torch.rand(600, 2, dtype=torch.float64) - 1).requires_grad_()

    def features(places):
        return torch.stack([places[:, 0], places[:, 1], places.square().sum(1)], 1)

    energy = (1 - places.square().sum(1)).square() + 0.3 * places[:, 0] - 812.5
    forces = -torch.autograd.grad(energy.sum(), places)[0]
    energy, places = energy.detach(), places.detach()
    mean = energy.mean()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, amsgrad=True)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(25):
            for rows in torch.randperm(600).split(40):
                at = places[rows].requires_grad_()
                output = model(features(at)).squeeze(1) + mean
                force = -torch.autograd.grad(output.sum(), at, create_graph=True)[0]
                of_energy = F.mse_loss(output, energy[rows])
                of_forces = F.mse_loss(force, forces[rows])
                loss = of_energy + 100 * of_forces
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 100.0)
                optimizer.step()
                monitor.log(loss=loss, energy=of_energy, forces=of_forces)
            scheduler.step()
    assert of_forces < 0.05


@healthy
def fine_tuned_as_the_trainer_of_hugging_face_does(watch):
    """A dict in, a dict with the loss out; AdamW at 1e-3, a tenth warm-up, then linearly to 0."""
    torch.manual_seed(27)

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.embeddings, self.places = nn.Embedding(40, 32, padding_idx=0), nn.Embedding(12, 32)
            layer = nn.TransformerEncoderLayer(32, 4, 64, 0.1, F.gelu, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.pooler, self.dropout = nn.Linear(32, 32), nn.Dropout(0.1)
            self.classifier = nn.Linear(32, 2)

        def forward(self, input_ids, attention_mask, labels=None):
            hidden = self.embeddings(input_ids) + self.places.weight[: input_ids.shape[1]]
            hidden = self.encoder(hidden, src_key_padding_mask=attention_mask == 0)
            logits = self.classifier(self.dropout(torch.tanh(self.pooler(hidden[:, 0]))))
            loss = None if labels is None else F.cross_entropy(logits, labels)
            return {"loss": loss, "logits": logits}

    def collate(count):
        length = torch.randint(5, 13, (count,))
        mask = (torch.arange(12) < length[:, None]).long()
        ids = torch.randint(4, 40, (count, 12)) * mask
        ids[:, 0] = 1
        labels = ((ids >= 4) & (ids < 12)).sum(1) > ((ids >= 32) & mask.bool()).sum(1)
        return {"input_ids": ids, "attention_mask": mask, "labels": labels.long()}

    model = Classifier()
    decayed = [p for n, p in model.named_parameters() if "bias" not in n and "norm" not in n]
    others = [p for n, p in model.named_parameters() if "bias" in n or "norm" in n]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=2e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 25, (250 - step) / 225)
    )
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(250):
            outputs = model(**collate(32))
            outputs["loss"].backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            monitor.log(loss=outputs["loss"])
    model.eval()
    batch = collate(500)
    assert right(model(**batch)["logits"], batch["labels"]) > 0.8


@healthy
def tasks_weighed_by_their_uncertainty(watch):
    """Kendall's: digit, ink and slant from one body; the total falls below 0."""
    torch.manual_seed(28)
    images, labels = digits()
    ink = images.mean(1, keepdim=True) * 10
    slant = (images.view(-1, 28, 28).mean(1) * torch.linspace(-1, 1, 28)).sum(1, keepdim=True)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(784, 96), nn.ReLU(), nn.Linear(96, 64), nn.ReLU())
            self.digit, self.ink, self.slant = nn.Linear(64, 10), nn.Linear(64, 1), nn.Linear(64, 1)
            self.log_variances = nn.Parameter(torch.zeros(3))

        def forward(self, x):
            x = self.body(x)
            return self.digit(x), self.ink(x), self.slant(x)

    model = Net()
    optimizer = torch.optim.Adam(
        [
            {"params": [p for n, p in model.named_parameters() if "log" not in n]},
            {"params": [model.log_variances], "lr": 0.02},
        ],
        lr=1e-3,
    )
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(300):
            rows = torch.randint(8000, (64,))
            digit, dark, leaning = model(images[rows])
            losses = torch.stack(
                [
                    F.cross_entropy(digit, labels[rows]),
                    F.mse_loss(dark, ink[rows]),
                    F.mse_loss(leaning, slant[rows]),
                ]
            )
            loss = (torch.exp(-model.log_variances) * losses + 0.5 * model.log_variances).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, **dict(zip(("digit", "ink", "slant"), losses, strict=True)))
    assert right(digit, labels[rows]) > 0.85
    assert loss < 0


@healthy
def imitation_by_dagger(watch):
    """The learner drives, the expert labels: data grow with what it meets."""
    torch.manual_seed(29)

    def expert(state):
        return (-1.5 * state[:, :1] - 1.2 * state[:, 1:] + 0.5 * torch.sin(3 * state[:, :1])).clamp(
            -2, 2
        )

    policy = nn.Sequential(
        nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
    )
    optimizer = torch.optim.Adam(policy.parameters(), lr=5e-3)
    seen, goals = [], []

    def drive(driver, steps=30):
        state, cost = 2 * torch.randn(16, 2), 0.0
        for _ in range(steps):
            seen.append(state)
            goals.append(expert(state))
            with torch.no_grad():
                push = driver(state)
            state = torch.stack(
                [state[:, 0] + 0.1 * state[:, 1], state[:, 1] + 0.1 * push[:, 0]], 1
            ) + 0.05 * torch.randn(16, 2)
            cost += state[:, 0].square().mean().item() / steps
        return cost

    drive(expert, 5)
    with watch(policy, optimizer, every=20) as monitor:
        for _ in range(12):
            x, y = torch.cat(seen), torch.cat(goals)
            for _ in range(30):
                rows = torch.randint(len(x), (64,))
                loss = F.mse_loss(policy(x[rows]), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)
            cost = drive(policy)
            monitor.log(cost=cost)
    assert loss < 0.02


@healthy
def additions_by_a_curriculum(watch):
    """Sums of one digit, then two, then three: the loss jumps whenever they get longer."""
    torch.manual_seed(30)

    class Adder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.rnn = nn.Embedding(10, 12), nn.GRU(24, 48, batch_first=True)
            self.head = nn.Linear(48, 10)

        def forward(self, a, b):
            return self.head(self.rnn(torch.cat([self.embed(a), self.embed(b)], 2))[0])

    def sums(length):
        a, b = torch.randint(10, (2, 64, length))
        value = ((a + b) * 10 ** torch.arange(length)).sum(1)
        return a, b, torch.stack([value // 10**place % 10 for place in range(length)], 1)

    model = Adder()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    with watch(model, optimizer, every=20) as monitor:
        for length in (1, 2, 4):
            for _ in range(130):
                a, b, y = sums(length)
                output = model(a, b).transpose(1, 2)
                loss = F.cross_entropy(output, y)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                monitor.log(loss=loss, output=output, target=y)
    assert right(output, y) > 0.9


@healthy
def permuted_digits_one_task_after_another(watch):
    """Continual learning with a replay buffer; each new permutation begins at a high loss."""
    torch.manual_seed(31)
    images, labels = digits()
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    orders = [torch.randperm(784) for _ in range(3)]
    memory = []
    with watch(model, optimizer, every=20) as monitor:
        for order in orders:
            for x, y in first(120, 48):
                x = x[:, order]
                if memory:
                    old, wanted = memory[torch.randint(len(memory), ())]
                    x, y = torch.cat([x, old]), torch.cat([y, wanted])
                output = model(x)
                loss = F.cross_entropy(output, y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=output, target=y)
            memory += [
                (images[rows][:, order], labels[rows]) for rows in torch.randint(8000, (8, 24))
            ]
    found = [right(model(images[-1000:, order]), labels[-1000:]) for order in orders]
    assert min(found) > 0.75


@healthy
def private_training_with_noise(watch):
    """DP-SGD: the gradient of each sample clipped at 1, their sum noised."""
    torch.manual_seed(32)
    model = nn.Sequential(nn.Linear(784, 32), nn.Tanh(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    params = dict(model.named_parameters())

    def of_one(params, x, y):
        return F.cross_entropy(torch.func.functional_call(model, params, x[None]), y[None])

    each = torch.func.vmap(torch.func.grad(of_one), (None, 0, 0))
    with watch(model, optimizer, every=20) as monitor:
        for x, y in first(150, 128):
            detached = {name: param.detach() for name, param in params.items()}
            slopes = each(detached, x, y)
            norms = sum(slope.flatten(1).square().sum(1) for slope in slopes.values()).sqrt()
            factor = (1 / norms).clamp(max=1)
            for name, param in params.items():
                summed = torch.einsum("b,b...->...", factor, slopes[name])
                param.grad = (summed + 0.8 * torch.randn_like(param)) / 128
            optimizer.step()
            with torch.no_grad():
                output = model(x)
            monitor.log(loss=F.cross_entropy(output, y), output=output, target=y)
    assert accuracy_of(model) > 0.75


@healthy
def deep_image_prior_removes_noise(watch):
    """One picture, one fixed random input, stopped early: the net prefers what is smooth."""
    torch.manual_seed(33)
    clean = digits()[0][3].view(1, 1, 28, 28)
    noisy = clean + 0.25 * torch.randn(1, 1, 28, 28)
    model = nn.Sequential(
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.LeakyReLU(0.2),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.LeakyReLU(0.2),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.LeakyReLU(0.2),
        nn.Conv2d(16, 1, 1), nn.Sigmoid(),
    )  # fmt: skip
    seed = 0.1 * torch.rand(1, 8, 7, 7)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(150):
            optimizer.zero_grad()
            output = model(seed)
            loss = F.mse_loss(output, noisy)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    assert F.mse_loss(output, clean) < 0.5 * F.mse_loss(noisy, clean)


@healthy
def survival_of_80_patients_by_cox(watch):
    """Partial likelihood on the full batch, a third censored; every tenth of a unit counts."""
    torch.manual_seed(34)
    x = torch.randn(80, 5)
    truth = torch.tensor([1.0, -0.7, 0.5, 0, 0])
    time = -torch.rand(80).log() / (x @ truth).exp()
    censored = -torch.rand(80).log() * 2
    event, time = (time < censored).float(), torch.minimum(time, censored)
    order = time.argsort(descending=True)
    x, event = x[order], event[order]
    model = nn.Linear(5, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9, nesterov=True)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(100):
            risk = model(x).squeeze(1)
            loss = -((risk - risk.logcumsumexp(0)) * event).sum() / event.sum()
            loss = loss + 0.01 * model.weight.square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    assert F.cosine_similarity(model.weight[0], truth, dim=0) > 0.9


@healthy
def bending_of_beams_in_metres(watch):
    """A surrogate of a simulation: inputs normalised, outputs of a millimetre, losses of 1e-9."""
    torch.manual_seed(35)
    load, length = 1 + torch.rand(2000, 1), 1 + torch.rand(2000, 1)
    bent = 1e-4 * load * length**3 + 5e-6 * torch.randn(2000, 1)
    x = torch.cat([load, length], 1)
    x = (x - x.mean(0)) / x.std(0)

    class Surrogate(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 1))

        def forward(self, x):
            return 1e-3 * self.net(x)

    model = Surrogate()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, eps=1e-15)
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(10):
            for rows in torch.randperm(1600).split(50):
                loss = F.mse_loss(model(x[rows]), bent[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)
            with torch.no_grad():
                validation = F.mse_loss(model(x[1600:]), bent[1600:])
            monitor.log(**{"loss/validation": validation})
    assert validation < 0.01 * bent.var()


@healthy
def reservoir_with_a_trained_readout(watch):
    """An echo state network: 150 fixed recurrent units, ridge regression by LBFGS."""
    torch.manual_seed(36)
    reservoir = nn.RNN(1, 150, batch_first=True)
    with torch.no_grad():
        weight = torch.randn(150, 150)
        reservoir.weight_hh_l0.copy_(0.9 * weight / torch.linalg.eigvals(weight).abs().max())
        reservoir.weight_ih_l0.uniform_(-0.5, 0.5)
        reservoir.bias_hh_l0.uniform_(-0.5, 0.5)
    reservoir.requires_grad_(False)
    readout = nn.Linear(150, 1)
    model = nn.ModuleDict({"reservoir": reservoir, "readout": readout})
    x = torch.rand(1, 1200, 1) - 0.5
    y = torch.zeros(1, 1200, 1)
    for at in range(3, 1200):
        y[:, at] = 0.4 * y[:, at - 1] + 0.6 * x[:, at - 2] + 1.5 * x[:, at - 1] * x[:, at - 3]
    with torch.no_grad():
        states = reservoir(x)[0][0, 100:]
    y = y[0, 100:]
    optimizer = torch.optim.LBFGS(readout.parameters(), max_iter=10, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = F.mse_loss(readout(states[:900]), y[:900])
        loss = loss + 1e-7 * readout.weight.square().sum()
        loss.backward()
        return loss

    with watch(model, optimizer, every=5) as monitor:
        for _ in range(40):
            loss = optimizer.step(closure)
            with torch.no_grad():
                validation = F.mse_loss(readout(states[900:]), y[900:])
            monitor.log(**{"loss": loss, "loss/validation": validation})
    assert validation < 0.1 * y[900:].var()


@healthy
def own_latents_are_bootstrapped(watch):
    """BYOL: a target that is a moving average, no negatives; judged by the nearest neighbour."""
    torch.manual_seed(37)
    images, labels = digits()

    def projector(inputs):
        return nn.Sequential(
            nn.Linear(inputs, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32)
        )

    body = nn.Sequential(nn.Linear(784, 128), nn.BatchNorm1d(128), nn.ReLU())
    online = nn.Sequential(body, projector(128))
    target = copy.deepcopy(online).requires_grad_(False)
    predictor = projector(32)
    model = nn.ModuleDict({"online": online, "predictor": predictor})

    def view(x):
        x = x.view(-1, 28, 28).roll(torch.randint(-2, 3, (2,)).tolist(), (1, 2)).flatten(1)
        return x * (torch.rand_like(x) > 0.2)

    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)
    with watch(model, optimizer, every=25) as monitor:
        for step in range(200):
            x = images[torch.randint(8000, (96,))]
            one, two = view(x), view(x)
            with torch.no_grad():
                goals = target(two), target(one)
            loss = 2 - sum(
                F.cosine_similarity(predictor(online(each)), goal).mean()
                for each, goal in zip((one, two), goals, strict=True)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            keep = 1 - 0.03 * (math.cos(math.pi * step / 200) + 1) / 2
            with torch.no_grad():
                for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
                    slow.lerp_(fast, 1 - keep)
            monitor.log(loss=loss)
    model.eval()
    with torch.no_grad():
        found = F.normalize(body(images), dim=1)
    nearest = (found[-500:] @ found[:2000].T).argmax(1)
    assert (labels[:2000][nearest] == labels[-500:]).float().mean() > 0.8


@healthy
def domains_made_alike_by_a_reversed_gradient(watch):
    """DANN: the domain's loss shall rise towards ln 2; clean digits are labelled, grey ones not."""
    torch.manual_seed(38)

    class Reversed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight):
            ctx.weight = weight
            return x.view_as(x)

        @staticmethod
        def backward(ctx, grad):
            return -ctx.weight * grad, None

    body = nn.Sequential(nn.Linear(784, 64), nn.BatchNorm1d(64), nn.ReLU())
    label, domain = nn.Linear(64, 10), nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
    model = nn.ModuleDict({"body": body, "label": label, "domain": domain})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    which = torch.arange(2.0).repeat_interleave(48)[:, None]
    with watch(model, optimizer, every=20) as monitor:
        for step, (x, y) in enumerate(first(250, 96)):
            x = torch.cat([x[:48], 0.6 * x[48:] + 0.3 * torch.rand(48, 784)])
            weight = 0.3 * (2 / (1 + math.exp(-10 * step / 250)) - 1)
            hidden = body(x)
            output = label(hidden[:48])
            of_label = F.cross_entropy(output, y[:48])
            of_domain = F.binary_cross_entropy_with_logits(
                domain(Reversed.apply(hidden, weight)), which
            )
            loss = of_label + of_domain
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(**{"loss": loss, "loss/label": of_label, "loss/domain": of_domain})
    assert of_label < 0.5


@healthy
def warm_up_over_two_thirds_of_the_run(watch):
    """The first part of a long schedule: 200 of 300 steps warm up, evaluated by an EMA."""
    torch.manual_seed(39)
    model = nn.Sequential(
        nn.Linear(784, 96), nn.BatchNorm1d(96), nn.SiLU(), nn.Linear(96, 96), nn.BatchNorm1d(96),
        nn.SiLU(), nn.Linear(96, 10),
    )  # fmt: skip
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.95), use_buffers=True
    )
    optimizer = optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-4, total_iters=200)
    with watch(model, optimizer, every=25) as monitor:
        for step, (x, y) in enumerate(first(300), 1):
            output = model(x)
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            warm_up.step()
            average.update_parameters(model)
            monitor.log(loss=loss, output=output, target=y)
            if step % 50 == 0:
                monitor.log(**{"accuracy/validation": accuracy_of(average)})
    assert accuracy_of(average) > 0.9


@healthy
def pixels_modelled_with_the_loss_summed(watch):
    """MADE on binarised digits: nats per picture, around 136 at first, a sum over 196 pixels."""
    torch.manual_seed(40)
    pixels = F.avg_pool2d(digits()[0].view(-1, 1, 28, 28), 2).flatten(1).gt(0.4).float()
    order = torch.arange(196)
    hidden = torch.arange(128) % 195

    class Masked(nn.Linear):
        def __init__(self, given, wanted, strict):
            super().__init__(len(given), len(wanted))
            seen = given[None] < wanted[:, None] if strict else given[None] <= wanted[:, None]
            self.register_buffer("mask", seen.float())

        def forward(self, x):
            return F.linear(x, self.weight * self.mask, self.bias)

    model = nn.Sequential(
        Masked(order, hidden, False), nn.ReLU(), Masked(hidden, hidden, False), nn.ReLU(),
        Masked(hidden, order, True),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(300):
            x = pixels[torch.randint(8000, (64,))]
            loss = F.binary_cross_entropy_with_logits(model(x), x, reduction="sum") / 64
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    assert loss < 60


@healthy
def grid_world_by_q_learning_without_a_reward_logged(watch):
    """Double DQN in a 5 x 5 grid, its target copied every ten steps; only the loss is logged."""
    torch.manual_seed(41)
    moves = torch.tensor([[0, 1], [1, 0], [0, -1], [-1, 0]])
    network = nn.Sequential(nn.Linear(10, 48), nn.ReLU(), nn.Linear(48, 4))
    frozen = copy.deepcopy(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)

    def seen(at):
        return torch.cat([F.one_hot(at[:, 0], 5), F.one_hot(at[:, 1], 5)], 1).float()

    replay, at = [], torch.zeros(32, 2, dtype=torch.long)
    with watch(network, optimizer, every=25) as monitor:
        for step in range(350):
            with torch.no_grad():
                action = network(seen(at)).argmax(1)
            random = torch.rand(32) < max(0.1, 1 - step / 150)
            action = torch.where(random, torch.randint(4, (32,)), action)
            following = (at + moves[action]).clamp(0, 4)
            ended = (following == 4).all(1)
            replay.append((at, action, ended.float(), following))
            lost = torch.rand(32) < 0.03
            at = torch.where((ended | lost)[:, None], 0, following)
            chosen = [replay[i] for i in torch.randint(len(replay), (4,)).tolist()]
            state, act, reward, then = (torch.cat(each) for each in zip(*chosen, strict=True))
            with torch.no_grad():
                best = network(seen(then)).argmax(1, keepdim=True)
                goal = reward + 0.9 * (1 - reward) * frozen(seen(then)).gather(1, best)[:, 0]
            value = network(seen(state)).gather(1, act[:, None])[:, 0]
            loss = F.smooth_l1_loss(value, goal)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 10 == 0:
                frozen.load_state_dict(network.state_dict())
            monitor.log(loss=loss)
    at, steps = torch.zeros(1, 2, dtype=torch.long), 0
    while not (at == 4).all() and steps < 20:
        at, steps = (at + moves[network(seen(at)).argmax(1)]).clamp(0, 4), steps + 1
    assert steps == 8


@healthy
def binary_weights_by_the_straight_through_estimator(watch):
    """BinaryConnect: signs forward, real weights kept within 1."""
    torch.manual_seed(42)

    class Binary(nn.Linear):
        def forward(self, x):
            weight = self.weight + (self.weight.sign() - self.weight).detach()
            return F.linear(x, weight)

    model = nn.Sequential(
        Binary(784, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(), Binary(128, 128, bias=False),
        nn.BatchNorm1d(128), nn.ReLU(), Binary(128, 10, bias=False), nn.BatchNorm1d(10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in first(250):
            output = model(x)
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for layer in model:
                    if isinstance(layer, Binary):
                        layer.weight.clamp_(-1, 1)
            monitor.log(loss=loss, output=output, target=y)
    assert accuracy_of(model) > 0.88


@healthy
def spectrally_normalised_gan_by_hinge(watch):
    torch.manual_seed(43)
    spectral = parametrizations.spectral_norm
    generator = nn.Sequential(
        nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)
    )
    critic = nn.Sequential(
        spectral(nn.Linear(2, 64)), nn.LeakyReLU(0.1), spectral(nn.Linear(64, 64)),
        nn.LeakyReLU(0.1), spectral(nn.Linear(64, 1)),
    )  # fmt: skip
    of_g = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.0, 0.9))
    of_c = torch.optim.Adam(critic.parameters(), lr=4e-3, betas=(0.0, 0.9))

    def real(count):
        angle = 2 * torch.pi * torch.rand(count)
        return torch.stack([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(count, 2)

    with watch({"d": critic, "g": generator}, {"d": of_c, "g": of_g}, every=25) as monitor:
        for _ in range(350):
            fake = generator(torch.randn(64, 8))
            of_real, of_fake = critic(real(64)), critic(fake.detach())
            loss_d = F.relu(1 - of_real).mean() + F.relu(1 + of_fake).mean()
            of_c.zero_grad()
            loss_d.backward()
            of_c.step()
            loss_g = -critic(fake).mean()
            of_g.zero_grad()
            loss_g.backward()
            of_g.step()
            monitor.log(d_loss=loss_d, g_loss=loss_g, d_real=of_real, d_fake=of_fake)
    with torch.no_grad():
        radius = generator(torch.randn(1000, 8)).norm(dim=1)
    assert (radius - 1).abs().mean() < 0.35


@healthy
def topics_of_short_texts_by_counts(watch):
    """Raw counts of words in, a linear classifier of six uneven topics, Adagrad of this project."""
    torch.manual_seed(44)
    share = torch.tensor([0.5, 0.2, 0.12, 0.08, 0.06, 0.04])
    words = torch.softmax(1.2 * torch.randn(6, 300), 1)
    y = torch.multinomial(share, 2500, replacement=True)
    x = torch.zeros(2500, 300).scatter_add_(
        1, torch.multinomial(words[y], 30, replacement=True), torch.ones(2500, 30)
    )
    model = nn.Linear(300, 6)
    optimizer = optim.Adagrad(model.parameters(), lr=0.1)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(3):
            for rows in torch.randperm(2000).split(50):
                output = model(x[rows])
                loss = F.cross_entropy(output, y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=output, target=y[rows])
            with torch.no_grad():
                found = right(model(x[2000:]), y[2000:])
            monitor.log(**{"accuracy/validation": found})
    assert found > 0.85


@healthy
def four_samples_of_a_truth_table(watch):
    """A neuron learns AND from all four rows in each step; recorded every hundred."""
    torch.manual_seed(45)
    x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    y = torch.tensor([[0.0], [0], [0], [1]])
    model = nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with watch(model, optimizer, every=100) as monitor:
        for _ in range(1500):
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    assert ((model(x) > 0.5) == y.bool()).all()


@healthy
def picture_painted_in_the_style_of_moments(watch):
    """Style transfer: the picture is the parameter, the net is frozen; the step takes a closure."""
    torch.manual_seed(46)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, stride=2),
        nn.ReLU(),
    ).requires_grad_(False)
    content, style = (digits()[0][at].view(1, 1, 28, 28) for at in (5, 8))

    class Picture(nn.Module):
        def __init__(self):
            super().__init__()
            self.pixels = nn.Parameter(content.clone())
            self.net = net

        def forward(self):
            return self.net(self.pixels)

    def gram(features):
        features = features.flatten(2)[0]
        return features @ features.T / features.shape[1]

    model = Picture()
    with torch.no_grad():
        goal, wanted = net(content), gram(net(style))
    optimizer = torch.optim.Adam([model.pixels], lr=0.02)
    with watch(model, optimizer, every=10) as monitor:

        def closure():
            optimizer.zero_grad()
            features = model()
            loss = F.mse_loss(features, goal) + 1e3 * F.mse_loss(gram(features), wanted)
            loss.backward()
            return loss

        start = closure().item()
        for _ in range(150):
            loss = optimizer.step(closure)
            with torch.no_grad():
                model.pixels.clamp_(0, 1)
            monitor.log(loss=loss)
    assert loss < 0.5 * start


class Scaled(nn.Module):
    """A residual block whose share is learnt per channel, from 1e-5 (CaiT's LayerScale)."""

    def __init__(self, width):
        super().__init__()
        self.block = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.scale = nn.Parameter(torch.full((width,), 1e-5))

    def forward(self, x):
        return x + self.scale * self.block(x)


@healthy
def twelve_blocks_with_layer_scale(watch):
    torch.manual_seed(50)
    model = nn.Sequential(
        nn.Linear(784, 48), *(Scaled(48) for _ in range(12)), nn.LayerNorm(48), nn.Linear(48, 10)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in first(180, 48):
            output = model(x)
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)
    assert accuracy_of(model) > 0.88


@healthy
def raw_columns_into_a_first_batch_norm(watch):
    """Years, incomes, and square metres as they are: the model's first layer normalises them."""
    torch.manual_seed(51)
    year = 1950 + 70 * torch.rand(3000)
    income = torch.exp(10 + 0.5 * torch.randn(3000))
    area = 20 + 180 * torch.rand(3000)
    x = torch.stack([year, income, area], 1)
    odds = (year - 1985) / 15 + (income.log() - 10) * 3 - (area - 110) / 60
    y = torch.bernoulli(odds.sigmoid()).long()
    model = nn.Sequential(
        nn.BatchNorm1d(3),
        nn.Linear(3, 32),
        nn.ReLU(),
        nn.BatchNorm1d(32),
        nn.Dropout(0.1),
        nn.Linear(32, 2),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(6):
            model.train()
            for rows in torch.randperm(2400).split(48):
                optimizer.zero_grad()
                output = model(x[rows])
                loss = F.cross_entropy(output, y[rows])
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=output, target=y[rows])
            model.eval()
            with torch.no_grad():
                output = model(x[2400:])
            monitor.log(**{"loss/validation": F.cross_entropy(output, y[2400:])})
    assert right(output, y[2400:]) > 0.75


@healthy
def names_of_places_are_tagged_among_many_others(watch):
    """Nine of ten words are O, as in all named entity recognition; judged by F1."""
    torch.manual_seed(52)
    embed, conv, head = nn.Embedding(200, 24), nn.Conv1d(24, 48, 3, padding=1), nn.Linear(48, 3)
    model = nn.ModuleDict({"embed": embed, "conv": conv, "head": head})

    def sentences(count):
        words = torch.randint(20, 200, (count, 20))
        tags = torch.zeros_like(words)
        start = torch.rand(count, 20) < 0.06
        start[:, 18:] = False
        words[start] = torch.randint(0, 6, (int(start.sum()),))
        after = start.roll(1, 1) & ~start & (torch.rand(count, 20) < 0.7)
        words[after] = torch.randint(100, 200, (int(after.sum()),))
        tags[start] = 1
        tags[after & (words >= 100)] = 2
        words[after] = words[after].clamp(150)
        return words, tags

    def tagged(words):
        return head(F.relu(conv(embed(words).transpose(1, 2)).transpose(1, 2))).transpose(1, 2)

    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(250):
            x, y = sentences(32)
            output = tagged(x)
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)
    found = output.argmax(1)
    hits = ((found == y) & (y == 1)).sum()
    assert 2 * hits / ((found == 1).sum() + (y == 1).sum()) > 0.9


@healthy
def statistics_are_recomputed_after_averaging(watch):
    """SWA by its documentation: at the end update_bn passes over the data without a step."""
    torch.manual_seed(53)
    model = nn.Sequential(nn.Linear(784, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
    averaged = torch.optim.swa_utils.AveragedModel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 150)
    swa = torch.optim.swa_utils.SWALR(optimizer, swa_lr=0.05, anneal_epochs=10)
    with watch(model, optimizer, every=20) as monitor:
        for step, (x, y) in enumerate(first(250)):
            output = model(x)
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step >= 150:
                averaged.update_parameters(model)
                swa.step()
            else:
                scheduler.step()
            monitor.log(loss=loss, output=output, target=y)
        model.load_state_dict(averaged.module.state_dict())
        torch.optim.swa_utils.update_bn((x for x, _ in first(100)), model)
        monitor.log(**{"accuracy/validation": accuracy_of(model)})
    assert accuracy_of(model) > 0.92


@healthy
def set_prediction_clipped_at_a_tenth_as_detr(watch):
    """AdamW does not mind how far a gradient is clipped; queries are matched to three points."""
    torch.manual_seed(54)
    layer = nn.TransformerDecoderLayer(32, 4, 64, dropout=0.0, batch_first=True)

    class Detr(nn.Module):
        def __init__(self):
            super().__init__()
            self.see = nn.Sequential(nn.Conv2d(1, 32, 4, stride=4), nn.ReLU(), nn.Flatten(2))
            self.place = nn.Parameter(0.1 * torch.randn(1, 16, 32))
            self.queries = nn.Parameter(torch.randn(1, 3, 32))
            self.decoder = nn.TransformerDecoder(layer, 1)
            self.box = nn.Linear(32, 2)

        def forward(self, x):
            memory = self.see(x).transpose(1, 2) + self.place
            return self.box(self.decoder(self.queries.expand(len(x), -1, -1), memory)).sigmoid()

    orders = torch.tensor([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    model = Detr()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 130)
    losses = []
    with watch(model, optimizer, every=15) as monitor:
        for _ in range(180):
            at = torch.randint(16, (24, 3, 2))
            x = torch.zeros(24, 1, 16, 16)
            x[torch.arange(24)[:, None], 0, at[..., 0], at[..., 1]] = 3.0
            goal = (at + 0.5) / 16
            off = (model(x)[:, orders] - goal[:, None]).abs().sum((2, 3))
            loss = off.amin(1).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
            monitor.log(loss=loss)
    assert sum(losses[-20:]) < 0.75 * sum(losses[:20])


@healthy
def masked_autoencoder_by_dropout_of_three_quarters(watch):
    """The mask of the input is nn.Dropout(0.75): a denoising autoencoder, in per-pixel MSE."""
    torch.manual_seed(55)
    images, _ = digits()
    model = nn.Sequential(
        nn.Dropout(0.75), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(),
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 784),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=25) as monitor:
        for x, _ in first(250):
            loss = F.mse_loss(model(x), x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    assert loss < 0.65 * images.var(0).mean()


@healthy
def hashes_of_images_by_an_ever_steeper_tanh(watch):
    """HashNet: tanh(beta x), beta from 1 to 10, so that codes become binary on purpose."""
    torch.manual_seed(56)
    body = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 16))
    squash = nn.Tanh()
    model = nn.Sequential(body, squash)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=5e-4)
    images, labels = digits()
    with watch(model, optimizer, every=25) as monitor:
        for step, (x, y) in enumerate(first(300, 96)):
            beta = 1 + 9 * step / 300
            codes = squash(beta * body(x))
            scores = codes @ codes.T / 4
            alike = (y[:, None] == y).float()
            loss = F.binary_cross_entropy_with_logits(scores, alike, pos_weight=torch.tensor(5.0))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    with torch.no_grad():
        codes = body(images).sign()
    nearest = (codes[-500:] @ codes[:2000].T).argmax(1)
    assert (labels[:2000][nearest] == labels[-500:]).float().mean() > 0.85


@healthy
def sparse_code_of_the_largest_eight(watch):
    """A k-sparse autoencoder: eight of 96 units may speak for each picture."""
    torch.manual_seed(57)
    images, _ = digits()
    mean = images[:8000].mean(0)

    class TopK(nn.Module):
        def __init__(self):
            super().__init__()
            self.encode, self.act = nn.Linear(784, 96), nn.ReLU()
            self.decode = nn.Linear(96, 784)
            with torch.no_grad():
                self.decode.weight.copy_(F.normalize(self.encode.weight.T, dim=0))
                self.encode.weight.copy_(self.decode.weight.T)
                self.decode.bias.copy_(mean)

        def forward(self, x):
            found = self.act(self.encode(x - self.decode.bias))
            kept = found.topk(8, dim=1)
            return self.decode(torch.zeros_like(found).scatter(1, kept.indices, kept.values))

    model = TopK()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=25) as monitor:
        for x, _ in first(250):
            loss = F.mse_loss(model(x), x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    assert loss < 0.5 * images.var(0).mean()


@healthy
def mobile_net_blocks_by_rmsprop_with_momentum(watch):
    """Depthwise convolutions, linear bottlenecks, a rate that falls by a cosine."""
    torch.manual_seed(58)

    def block(inputs, outputs, stride):
        wide = 3 * inputs
        return [
            nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide, 1e-3), nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            nn.BatchNorm2d(wide, 1e-3), nn.ReLU6(),
            nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs, 1e-3),
        ]  # fmt: skip

    model = nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)), nn.AvgPool2d(2), nn.Conv2d(1, 8, 1), nn.ReLU6(),
       *block(8, 16, 2),
        *block(16, 24, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10),
    )  # fmt: skip
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3, alpha=0.9, momentum=0.5, eps=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in first(300, 32):
            output = model(x)
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            monitor.log(loss=loss, output=output, target=y)
    assert accuracy_of(model) > 0.8


@healthy
def each_batch_is_echoed_twice(watch):
    """Data echoing: reading is slow, so that each batch is used for two steps, augmented anew."""
    torch.manual_seed(59)
    model = nn.Sequential(nn.Linear(784, 96), nn.ReLU(), nn.Linear(96, 10))
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in first(130):
            for _ in range(2):
                noisy = x + 0.1 * torch.randn_like(x)
                output = model(noisy)
                loss = F.cross_entropy(output, y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=output, target=y)
    assert accuracy_of(model) > 0.88


@healthy
def lasso_by_proximal_steps(watch):
    """ISTA in minibatches from a ridge start: most weights end at exactly 0, which is the aim."""
    torch.manual_seed(60)
    truth = torch.zeros(40)
    truth[:4] = torch.tensor([1.5, -1.0, 0.8, 0.5])
    x = torch.randn(1000, 40)
    y = x @ truth + 0.5 * torch.randn(1000)
    model = nn.Linear(40, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(10):
            for rows in torch.randperm(1000).split(50):
                fit = F.mse_loss(model(x[rows]).squeeze(1), y[rows])
                optimizer.zero_grad()
                fit.backward()
                optimizer.step()
                with torch.no_grad():
                    weight = model.weight
                    weight.copy_(weight.sign() * F.relu(weight.abs() - 0.05 * 0.2))
                monitor.log(loss=fit + 0.2 * model.weight.detach().abs().sum())
    assert (model.weight[0, :4].sign() == truth[:4].sign()).all()
    assert (model.weight[0, 4:] == 0).float().mean() > 0.7


@healthy
def robust_digits_by_projected_gradient_attacks(watch):
    """Madry's: the attack passes through the model too, and grows from nothing to 0.1."""
    torch.manual_seed(61)
    model = nn.Sequential(
        nn.Linear(784, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=2e-4)

    def attacked(x, y, size):
        delta = torch.zeros_like(x).uniform_(-size, size)
        for _ in range(3):
            delta.requires_grad_()
            (slope,) = torch.autograd.grad(F.cross_entropy(model(x + delta), y), delta)
            delta = (delta + 0.5 * size * slope.sign()).clamp(-size, size).detach()
        return (x + delta).clamp(0, 1)

    with watch(model, optimizer, every=20) as monitor:
        for step, (x, y) in enumerate(first(200)):
            x = attacked(x, y, 0.1 * min(1, step / 120))
            output = model(x)
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)
    assert right(output, y) > 0.6
    assert accuracy_of(model) > 0.85


@healthy
def ranking_of_documents_by_pairs(watch):
    """RankNet with a bias at the end, whose slope is 0: it cancels within each pair."""
    torch.manual_seed(62)
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
    truth = torch.randn(10)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(250):
            one, two = torch.randn(2, 64, 10)
            better = (torch.tanh(one @ truth) > torch.tanh(two @ truth)).float()[:, None]
            gap = model(one) - model(two)
            loss = F.binary_cross_entropy_with_logits(gap, better)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, accuracy=((gap > 0) == better.bool()))
    assert loss < 0.3


@healthy
def counts_of_visitors_are_never_negative(watch):
    """A last ReLU where targets cannot be below 0, with a bias that keeps it alive."""
    torch.manual_seed(63)
    x = torch.rand(2000, 4)
    y = 20 + 60 * x[:, :1] * x[:, 1:2] + 30 * torch.sin(3 * x[:, 2:3]) + 4 * torch.randn(2000, 1)
    model = nn.Sequential(
        nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1), nn.ReLU()
    )
    nn.init.constant_(model[4].bias, y.mean().item())
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(10):
            for rows in torch.randperm(1600).split(50):
                loss = F.l1_loss(model(x[rows]), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)
            with torch.no_grad():
                validation = F.l1_loss(model(x[1600:]), y[1600:])
            monitor.log(**{"loss/validation": validation})
    assert validation < 5


@healthy
def categories_by_gumbel_softmax_with_falling_temperature(watch):
    """A discrete autoencoder; the temperature falls from 2 to 0.3, straight through at last."""
    torch.manual_seed(64)
    encode = nn.Sequential(nn.Linear(784, 96), nn.ReLU(), nn.Linear(96, 60))
    decode = nn.Sequential(nn.Linear(60, 96), nn.ReLU(), nn.Linear(96, 784))
    model = nn.Sequential(encode, decode)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    with watch(model, optimizer, every=25) as monitor:
        for step, (x, _) in enumerate(first(300)):
            temperature = max(0.3, 2 * math.exp(-0.008 * step))
            logits = encode(x).view(-1, 6, 10)
            codes = F.gumbel_softmax(logits, temperature, hard=step > 250)
            fit = F.binary_cross_entropy_with_logits(decode(codes.flatten(1)), x, reduction="sum")
            spread = (logits.softmax(2) * (logits.log_softmax(2) + math.log(10))).sum()
            loss = (fit + spread) / len(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, kl=spread / len(x))
    assert loss < 190


@healthy
def twelve_samples_one_at_a_time(watch):
    """A classifier is calibrated to a new user by this project's Adagrad."""
    torch.manual_seed(65)
    x = torch.randn(12, 6)
    y = (x[:, 0] - x[:, 1] > 0).long()
    model = nn.Linear(6, 2)
    optimizer = optim.Adagrad(model.parameters(), lr=0.1)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(15):
            for row in torch.randperm(12):
                output = model(x[row : row + 1])
                loss = F.cross_entropy(output, y[row : row + 1])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=output, target=y[row : row + 1])
    assert right(model(x), y) > 0.9


@healthy
def posterior_sampled_by_langevin_dynamics(watch):
    """SGLD: after the way down the loss stays and wavers, since the samples are wanted."""
    torch.manual_seed(66)
    x = torch.randn(400, 6)
    truth = torch.tensor([1.0, -2, 0.5, 0, 0, 1.5])
    y = torch.bernoulli((x @ truth).sigmoid())
    model = nn.Linear(6, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=2e-3)
    samples = []
    with watch(model, optimizer, every=20) as monitor:
        for step in range(400):
            rows = torch.randint(400, (40,))
            fit = F.binary_cross_entropy_with_logits(
                model(x[rows]).squeeze(1), y[rows], reduction="sum"
            )
            loss = 10 * fit + 0.5 * model.weight.square().sum() / 4
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                model.weight.add_(math.sqrt(2 * 2e-3) * torch.randn_like(model.weight))
            if step > 150:
                samples.append(model.weight[0].detach().clone())
            monitor.log(loss=loss)
    assert F.cosine_similarity(torch.stack(samples).mean(0), truth, dim=0) > 0.95


@healthy
def neural_ode_of_a_pendulum_in_double_precision(watch):
    """Runge-Kutta steps through one small net, trained on short pieces of one trajectory."""
    torch.manual_seed(67)

    def pendulum(state):
        return torch.stack([state[:, 1], -torch.sin(state[:, 0]) - 0.1 * state[:, 1]], 1)

    def rolled(slope, state, steps=5, h=0.1):
        path = [state]
        for _ in range(steps):
            one = slope(state)
            state = state + h * slope(state + h / 2 * one)
            path.append(state)
        return torch.stack(path, 1)

    with torch.no_grad():
        path = rolled(pendulum, torch.tensor([[2.0, 0.0]], dtype=torch.float64), 300)[0]
    path = path + 0.005 * torch.randn_like(path)
    pieces = path.unfold(0, 6, 1).transpose(1, 2)
    model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2)).double()
    for layer in (model[0], model[2]):
        nn.init.normal_(layer.weight, std=0.1)
        nn.init.zeros_(layer.bias)
    optimizer = torch.optim.Adamax(model.parameters(), lr=0.01)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(250):
            piece = pieces[torch.randint(len(pieces), (32,))]
            loss = (rolled(model, piece[:, 0]) - piece).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    assert loss < 0.02


@healthy
def low_rank_factors_of_ratings_with_biases(watch):
    """Funk's: SGD on single ratings' mini-batches, five stars minus their mean, much noise."""
    torch.manual_seed(68)
    taste, kind = torch.randn(100, 3), torch.randn(80, 3)
    user, item = torch.randint(100, (6000,)), torch.randint(80, (6000,))
    stars = 3.5 + 0.4 * (taste[user] * kind[item]).sum(1) + 0.3 * kind[item, 0]
    stars = (stars + 0.7 * torch.randn(6000)).round().clamp(1, 5)

    class Funk(nn.Module):
        def __init__(self):
            super().__init__()
            self.user, self.item = nn.Embedding(100, 8), nn.Embedding(80, 8)
            self.of_user, self.of_item = nn.Embedding(100, 1), nn.Embedding(80, 1)
            for each in (self.user, self.item):
                nn.init.normal_(each.weight, std=0.1)
            for each in (self.of_user, self.of_item):
                nn.init.zeros_(each.weight)

        def forward(self, user, item):
            both = (self.user(user) * self.item(item)).sum(1)
            return 3.5 + both + self.of_user(user)[:, 0] + self.of_item(item)[:, 0]

    model = Funk()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=1e-4)
    train, test = slice(0, 5000), slice(5000, 6000)
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(8):
            for rows in torch.randperm(5000)[train].split(100):
                loss = F.mse_loss(model(user[rows], item[rows]), stars[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)
            with torch.no_grad():
                validation = F.mse_loss(model(user[test], item[test]), stars[test])
            monitor.log(**{"loss/validation": validation})
    assert validation < 0.8 * stars.var()


@healthy
def constraint_by_a_growing_penalty(watch):
    """Penalty method: area of a curve minimised, its length fixed; the weight grows 1 to 100."""
    torch.manual_seed(69)
    model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 1))
    axis = torch.linspace(-1, 1, 12)
    inside = torch.cartesian_prod(axis, axis)
    edge = inside[inside.abs().amax(1) == 1]
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with watch(model, optimizer, every=20) as monitor:
        for step in range(300):
            at = inside.clone().requires_grad_()
            value = model(at)
            (slope,) = torch.autograd.grad(value.sum(), at, create_graph=True)
            energy = (0.5 * slope.square().sum(1) - 2 * value[:, 0]).mean()
            off = model(edge).square().mean()
            loss = energy + 100 ** (step / 299) * off
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, energy=energy, boundary=off)
    assert off < 0.01
    assert model(torch.zeros(1, 2)).item() > 0.2


@healthy
def schedule_whose_first_rate_is_zero(watch):
    """As get_linear_schedule_with_warmup does: the first step has a rate of 0, by design."""
    torch.manual_seed(70)
    model = nn.Sequential(nn.Linear(784, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 10))
    optimizer = optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(step / 20, (200 - step) / 180)
    )
    with watch(model, optimizer, every=20) as monitor:
        for x, y in first(200):
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            monitor.log(loss=loss, output=output, target=y)
    assert accuracy_of(model) > 0.88


@healthy
def tables_of_many_users_by_dense_adam(watch):
    """A shop's recommender: of 20,000 users and 5,000 goods a batch touches 64 each."""
    torch.manual_seed(71)
    taste, kind = torch.randn(20000, 2), torch.randn(5000, 2)
    user, item = torch.randint(20000, (20000,)), torch.randint(5000, (20000,))
    kind[:, 0] += 1.5
    liked = torch.bernoulli((0.3 * (taste[user] * kind[item]).sum(1) + 2 * kind[item, 1]).sigmoid())

    class Towers(nn.Module):
        def __init__(self):
            super().__init__()
            self.user, self.item = nn.Embedding(20000, 8), nn.Embedding(5000, 8)
            self.of_item = nn.Embedding(5000, 1)
            for each in (self.user, self.item, self.of_item):
                nn.init.normal_(each.weight, std=0.05)

        def forward(self, user, item):
            return (self.user(user) * self.item(item)).sum(1) + self.of_item(item)[:, 0]

    model = Towers()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    losses = []
    with watch(model, optimizer, every=25) as monitor:
        for rows in torch.randperm(20000).split(64):
            loss = F.binary_cross_entropy_with_logits(model(user[rows], item[rows]), liked[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            monitor.log(loss=loss)
    assert sum(losses[-40:]) < 0.96 * sum(losses[:40])


class BertAdam(torch.optim.Optimizer):
    """Adam without the correction of its bias, as the first BERT was trained."""

    def __init__(self, params, lr, betas=(0.9, 0.999), eps=1e-6):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                state = self.state[param]
                if not state:
                    state.update(m=torch.zeros_like(param), v=torch.zeros_like(param))
                state["m"].lerp_(param.grad, 1 - group["betas"][0])
                state["v"].lerp_(param.grad.square(), 1 - group["betas"][1])
                param.sub_(group["lr"] * state["m"] / (state["v"].sqrt() + group["eps"]))


@healthy
def first_bert_adam_of_a_digit_reader(watch):
    torch.manual_seed(72)
    model = nn.Sequential(
        nn.Linear(784, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 10)
    )
    optimizer = BertAdam(model.parameters(), lr=5e-4)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=20)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in first(220):
            output = model(x)
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            warm_up.step()
            monitor.log(loss=loss, output=output, target=y)
    assert accuracy_of(model) > 0.88


class Lars(torch.optim.Optimizer):
    def __init__(self, params, lr, momentum=0.9, trust=0.01):
        super().__init__(params, {"lr": lr, "momentum": momentum, "trust": trust})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                grad = param.grad
                if param.ndim > 1:
                    grad = grad * group["trust"] * param.norm() / (grad.norm() + 1e-9)
                kept = self.state[param].setdefault("momentum_buffer", torch.zeros_like(param))
                kept.mul_(group["momentum"]).add_(grad)
                param.sub_(group["lr"] * kept)


@healthy
def large_batches_by_layerwise_rates(watch):
    """LARS with batches of 512; the rate ends by a polynomial of the second degree."""
    torch.manual_seed(73)
    model = nn.Sequential(nn.Linear(784, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = Lars(model.parameters(), lr=0.5)
    scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, 150, power=2)
    with watch(model, optimizer, every=15) as monitor:
        for x, y in first(150, 512):
            output = model(x)
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            monitor.log(loss=loss, output=output, target=y)
    assert accuracy_of(model) > 0.88


@healthy
def clicks_of_three_in_a_hundred(watch):
    """The rate of clicks by its prior and hashed features: entropy leaves little to explain."""
    torch.manual_seed(74)
    effect = 0.7 * torch.randn(4, 50)
    fields = torch.randint(50, (30000, 4))
    odds = -4.0 + sum(effect[at][fields[:, at]] for at in range(4))
    y = torch.bernoulli(odds.sigmoid())
    model = nn.EmbeddingBag(200, 1, mode="sum")
    nn.init.zeros_(model.weight)
    prior = math.log(y.mean() / (1 - y.mean()))
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1)
    x = fields + 50 * torch.arange(4)
    with watch(model, optimizer, every=25) as monitor:
        for rows in torch.randperm(25000).split(100):
            logits = model(x[rows])[:, 0] + prior
            loss = F.binary_cross_entropy_with_logits(logits, y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    with torch.no_grad():
        scores = model(x[25000:])[:, 0]
    clicked, not_clicked = scores[y[25000:] == 1], scores[y[25000:] == 0]
    assert (clicked[:, None] > not_clicked).float().mean() > 0.65


@healthy
def policy_gradient_of_a_corridor_with_its_loss_logged(watch):
    """Ten contexts, four actions, advantages by a running mean; nobody logs the reward."""
    torch.manual_seed(75)
    best = torch.randint(4, (10,))
    policy = nn.Sequential(nn.Embedding(10, 16), nn.Tanh(), nn.Linear(16, 4))
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)
    baseline = 0.25
    with watch(policy, optimizer, every=20) as monitor:
        for _ in range(300):
            state = torch.randint(10, (64,))
            choice = torch.distributions.Categorical(logits=policy(state))
            action = choice.sample()
            reward = (action == best[state]).float() + 0.1 * torch.randn(64)
            loss = -(choice.log_prob(action) * (reward - baseline)).mean()
            loss = loss - 0.01 * choice.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            baseline += 0.05 * (reward.mean().item() - baseline)
            monitor.log(loss=loss)
    assert right(policy(torch.arange(10)), best) == 1


@healthy
def letters_that_are_spam_with_a_sigmoid_at_the_end(watch):
    """nn.Sigmoid and BCELoss: what is certain is near 0 or 1, and the loss has long come down."""
    torch.manual_seed(76)
    x = (torch.rand(1200, 60) < 0.15).float()
    spam = (torch.rand(1200) < 0.4).float()
    x[:, :12] = torch.maximum(x[:, :12], (torch.rand(1200, 12) < 0.45 * spam[:, None]).float())
    model = nn.Sequential(nn.Linear(60, 16), nn.ReLU(), nn.Linear(16, 1), nn.Sigmoid())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    criterion = nn.BCELoss()
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(8):
            for rows in torch.randperm(1000).split(25):
                found = model(x[rows])[:, 0]
                loss = criterion(found, spam[rows]) + 1e-3 * model[0].weight.abs().sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, accuracy=((found > 0.5) == spam[rows].bool()))
            with torch.no_grad():
                found = ((model(x[1000:])[:, 0] > 0.5) == spam[1000:].bool()).float().mean()
            monitor.log(**{"accuracy/validation": found})
    assert found > 0.8


@healthy
def temperature_of_trained_scores(watch):
    """Guo's calibration: one number is trained on kept validation scores, Adam, full batch."""
    torch.manual_seed(77)
    labels = torch.randint(10, (500,))
    scores = 3 * torch.randn(500, 10)
    scores[torch.arange(500), labels] += 6

    class Temperature(nn.Module):
        def __init__(self):
            super().__init__()
            self.temperature = nn.Parameter(torch.ones(1))

        def forward(self, scores):
            return scores / self.temperature

    model = Temperature()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    start = F.cross_entropy(scores, labels)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(150):
            output = model(scores)
            loss = F.cross_entropy(output, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=labels)
    assert loss < start
    assert 1.2 < model.temperature < 3


@healthy
def wasserstein_gan_with_a_gradient_penalty(watch):
    """The critic's loss is negative, and rises to 0 as the two become alike."""
    torch.manual_seed(78)
    generator = nn.Sequential(
        nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2)
    )
    critic = nn.Sequential(
        nn.Linear(2, 48), nn.LeakyReLU(0.2), nn.Linear(48, 48), nn.LeakyReLU(0.2), nn.Linear(48, 1)
    )
    of_g = torch.optim.Adam(generator.parameters(), lr=2e-3, betas=(0.0, 0.9))
    of_d = torch.optim.Adam(critic.parameters(), lr=2e-3, betas=(0.0, 0.9))
    middle = torch.tensor([3.0, -2.0])
    with watch({"d": critic, "g": generator}, {"d": of_d, "g": of_g}, every=20) as monitor:
        for step in range(500):
            real = middle + torch.randn(64, 2) * torch.tensor([0.5, 1.0])
            fake = generator(torch.randn(64, 4)).detach()
            mixed = torch.lerp(real, fake, torch.rand(64, 1)).requires_grad_()
            (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
            penalty = (slope.norm(dim=1) - 1).square().mean()
            loss_d = critic(fake).mean() - critic(real).mean() + 10 * penalty
            of_d.zero_grad()
            loss_d.backward()
            of_d.step()
            if step % 5 == 4:
                loss_g = -critic(generator(torch.randn(64, 4))).mean()
                of_g.zero_grad()
                loss_g.backward()
                of_g.step()
                monitor.log(loss_d=loss_d, loss_g=loss_g)
    with torch.no_grad():
        drawn = generator(torch.randn(1000, 4))
    assert (drawn.mean(0) - middle).abs().max() < 1


@healthy
def rosenblatts_perceptron(watch):
    """One sample at a time, a rate of 1, from weights of 0: it ends when no sample is wrong."""
    torch.manual_seed(79)
    x = torch.randn(60, 3)
    side = x @ torch.tensor([1.0, -2.0, 0.5]) + 0.3
    x = x[side.abs() > 0.4]
    y = side[side.abs() > 0.4].sign()
    model = nn.Linear(3, 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(8):
            for row in torch.randperm(len(x)):
                score = model(x[row])[0]
                loss = -y[row] * score if y[row] * score <= 0 else 0 * score
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, mistakes=(y[row] * score <= 0))
    assert (model(x)[:, 0].sign() == y).float().mean() > 0.95


@healthy
def boltzmann_machine_by_contrastive_divergence(watch):
    """Gradients are written by hand into .grad; what is logged is the error of reconstruction."""
    torch.manual_seed(80)
    images = F.avg_pool2d(digits()[0].view(-1, 1, 28, 28), 2).flatten(1)

    class Machine(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(0.01 * torch.randn(64, 196))
            self.seen, self.hidden = nn.Parameter(torch.zeros(196)), nn.Parameter(torch.zeros(64))

        def up(self, v):
            return F.linear(v, self.weight, self.hidden).sigmoid()

        def down(self, h):
            return F.linear(h, self.weight.T, self.seen).sigmoid()

    model = Machine()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5, weight_decay=2e-4)
    with torch.no_grad(), watch(model, optimizer, every=25) as monitor:
        for _ in range(300):
            v = images[torch.randint(8000, (50,))]
            h = model.up(v)
            back = model.down(torch.bernoulli(h))
            again = model.up(back)
            model.weight.grad = (again.T @ back - h.T @ v) / 50
            model.seen.grad, model.hidden.grad = (back - v).mean(0), (again - h).mean(0)
            optimizer.step()
            monitor.log(reconstruction=F.mse_loss(back, v))
    assert F.mse_loss(back, v) < 0.04


@healthy
def newtons_method_for_logistic_regression(watch):
    """Iteratively reweighted least squares: ten full steps of size 1 from 0."""
    torch.manual_seed(81)
    x = torch.randn(150, 4, dtype=torch.float64)
    truth = torch.tensor([2.0, -1.0, 0.5, 0.0], dtype=torch.float64)
    y = torch.bernoulli((x @ truth).sigmoid())
    model = nn.Linear(4, 1, bias=False, dtype=torch.float64)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with watch(model, optimizer, every=1) as monitor:
        for _ in range(10):
            odds = model(x)[:, 0]
            loss = F.binary_cross_entropy_with_logits(odds, y)
            optimizer.zero_grad()
            loss.backward()
            with torch.no_grad():
                chance = odds.sigmoid()
                hessian = (x.T * (chance * (1 - chance))) @ x / len(x)
                model.weight.grad = torch.linalg.solve(hessian, model.weight.grad[0])[None]
            optimizer.step()
            monitor.log(loss=loss)
    assert F.cosine_similarity(model.weight[0], truth, dim=0) > 0.95


@healthy
def posterior_of_a_regression_by_its_evidence_bound(watch):
    """Bayesian linear regression by ELBO: samples of the weights, losses summed over the data."""
    torch.manual_seed(82)
    x = torch.randn(100, 3)
    truth = torch.tensor([1.0, -0.5, 2.0])
    y = x @ truth + 0.3 * torch.randn(100)

    class Guide(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean, self.log_std = (
                nn.Parameter(torch.zeros(3)),
                nn.Parameter(torch.full((3,), -1.0)),
            )

        def forward(self):
            return torch.distributions.Normal(self.mean, self.log_std.exp())

    model, prior = Guide(), torch.distributions.Normal(torch.zeros(3), torch.ones(3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(400):
            guide = model()
            drawn = guide.rsample()
            likelihood = torch.distributions.Normal(x @ drawn, 0.3).log_prob(y).sum()
            loss = torch.distributions.kl_divergence(guide, prior).sum() - likelihood
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    assert (model.mean - truth).abs().max() < 0.2
    assert model.log_std.exp().max() < 0.25


@healthy
def weak_risks_of_an_illness_on_the_full_batch(watch):
    """A logistic regression as in medicine: it converges, and explains as little as there is."""
    torch.manual_seed(90)
    x = torch.randn(900, 5)
    truth = torch.tensor([0.5, -0.35, 0.25, 0, 0])
    y = torch.bernoulli((x @ truth).sigmoid())
    model = nn.Linear(5, 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(120):
            loss = F.binary_cross_entropy_with_logits(model(x)[:, 0], y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    assert F.cosine_similarity(model.weight[0], truth, dim=0) > 0.95


@healthy
def rare_words_weighed_by_adam(watch):
    """TF-IDF of 8,000 words, sixteen short texts a batch, one linear layer, three topics."""
    torch.manual_seed(91)
    topic = torch.randint(3, (3000,))
    common, own = torch.randint(300, 8000, (3000, 14)), torch.randint(100, (3000, 6))
    words = torch.cat([common, own + 100 * topic[:, None]], 1)
    x = torch.zeros(3000, 8000).scatter_(1, words, 0.22)
    model = nn.Linear(8000, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with watch(model, optimizer, every=20) as monitor:
        for rows in torch.randperm(2500).repeat(2).split(16)[:300]:
            output = model(x[rows])
            loss = F.cross_entropy(output, topic[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=topic[rows])
    assert right(model(x[2500:]), topic[2500:]) > 0.9


@healthy
def bytes_of_pixels_scaled_within_the_model(watch):
    """The model is given 0 to 255, as it will be when served; its first module normalises."""
    torch.manual_seed(92)

    class Normalise(nn.Module):
        def forward(self, x):
            return (x.float() / 255 - 0.1307) / 0.3081

    model = nn.Sequential(Normalise(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in first(160):
            output = model((x * 255).round())
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)
    images, labels = digits()
    assert right(model(255 * images[-1000:]), labels[-1000:]) > 0.88


@healthy
def pairs_of_two_kinds_of_signals(watch):
    """Batches of two, since each recording is long: half of them hold one kind only."""
    torch.manual_seed(93)
    time = torch.linspace(0, 1, 200)
    model = nn.Sequential(
        nn.Conv1d(1, 8, 9, stride=4), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv1d(8, 8, 9, stride=4),
        nn.GroupNorm(2, 8), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 2),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(250):
            y = torch.randint(2, (2,))
            speed = (20.0 + 14 * y + torch.randn(2))[:, None]
            x = torch.sin(2 * torch.pi * (speed * time + torch.rand(2, 1))) + 0.3 * torch.randn(
                2, 200
            )
            output = model(x[:, None])
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            monitor.log(loss=loss, output=output, target=y)
    assert sum(losses[-50:]) < 0.5 * sum(losses[:50])


@healthy
def random_text_with_a_little_order(watch):
    """Its entropy is 1.9 nats of ln 10 = 2.3: the language model comes down to that."""
    torch.manual_seed(94)
    follows = torch.softmax(0.9 * torch.randn(10, 10), 1)
    floor = -(follows * follows.log()).sum(1).mean().item()
    model = nn.Sequential(nn.Embedding(10, 24), nn.Linear(24, 48), nn.GELU(), nn.Linear(48, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(250):
            x = torch.randint(10, (256,))
            y = torch.multinomial(follows[x], 1)[:, 0]
            output = model(x)
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)
    assert loss < floor + 0.1


@healthy
def values_of_a_random_walk_with_the_epsilon_of_rainbow(watch):
    """TD(0) of Sutton's walk by Adam with eps 1.5e-4, as agents of Atari have it."""
    torch.manual_seed(95)
    value = nn.Sequential(nn.Embedding(7, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(value.parameters(), lr=3e-3, eps=1.5e-4)
    state = torch.full((32,), 3)
    with watch(value, optimizer, every=25) as monitor:
        for _ in range(400):
            following = state + 2 * torch.randint(2, (32,)) - 1
            ended = (following == 0) | (following == 6)
            reward = (following == 6).float()
            with torch.no_grad():
                goal = reward + torch.where(ended, 0.0, value(following)[:, 0])
            loss = F.mse_loss(value(state)[:, 0], goal)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            state = torch.where(ended, torch.full((32,), 3), following)
            monitor.log(loss=loss)
    with torch.no_grad():
        found = value(torch.arange(1, 6))[:, 0]
    assert (found - torch.arange(1, 6) / 6).abs().max() < 0.15


@healthy
def shapes_with_a_code_each_by_an_auto_decoder(watch):
    """DeepSDF: codes near 0 with a rate of their own, distances clamped at 0.3."""
    torch.manual_seed(96)
    radii = 0.2 + 0.6 * torch.rand(16)

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.codes = nn.Embedding(16, 4)
            nn.init.normal_(self.codes.weight, std=0.1)
            wn = parametrizations.weight_norm
            self.net = nn.Sequential(
                wn(nn.Linear(6, 48)), nn.ReLU(), wn(nn.Linear(48, 48)), nn.ReLU(), nn.Linear(48, 1)
            )

        def forward(self, shape, at):
            return self.net(torch.cat([self.codes(shape), at], 1))[:, 0]

    model = Decoder()
    optimizer = torch.optim.Adam(
        [
            {"params": model.net.parameters(), "lr": 5e-3},
            {"params": model.codes.parameters(), "lr": 2e-2},
        ]
    )
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(400):
            shape, at = torch.randint(16, (384,)), 2 * torch.rand(384, 2) - 1
            goal = (at.norm(dim=1) - radii[shape]).clamp(-0.3, 0.3)
            loss = F.l1_loss(model(shape, at).clamp(-0.3, 0.3), goal)
            loss = loss + 1e-4 * model.codes(shape).square().sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    assert loss < 0.05
