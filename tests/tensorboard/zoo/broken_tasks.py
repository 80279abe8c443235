"""Trainings of many tasks, each with the mistake that its task invites."""

import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from tests.tensorboard.trainings import batches, digits, with_batchnorm

from . import broken


@broken(
    "vanishing gradients",
    "the gradient is 0",
    also=(
        "it does not learn",
        "layers that do not move",
        "learning rate too low",
        "the loss rises",
    ),
)
def generator_whose_discriminator_is_always_right(watch):
    """Goodfellow's first loss, log(1 - D(G(z))), is flat where D is sure."""
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    generator.append(nn.Linear(64, 2))
    discriminator = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    discriminator.append(nn.Linear(64, 1))
    of_generator = torch.optim.SGD(generator.parameters(), lr=0.05, momentum=0.5)
    of_discriminator = torch.optim.Adam(discriminator.parameters(), lr=5e-3)
    with watch(generator, of_generator, every=20) as monitor:
        for _ in range(200):
            angle = 2 * math.pi * torch.rand(64)
            real = 6 + torch.stack([angle.cos(), angle.sin()], 1)
            for _ in range(3):
                fake = generator(torch.randn(64, 8)).detach()
                on_real, on_fake = discriminator(real), discriminator(fake)
                judged = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
                of_discriminator.zero_grad()
                judged.backward()
                of_discriminator.step()
            of_generator.zero_grad()
            loss = -F.softplus(discriminator(generator(torch.randn(64, 8)))).mean()
            loss.backward()
            of_generator.step()
            monitor.log(loss=loss, discriminator=judged)


class VAE(nn.Module):
    def __init__(self, latent=8):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 128), nn.ReLU())
        self.mean, self.log_variance = nn.Linear(128, latent), nn.Linear(128, latent)
        self.decoder = nn.Sequential(nn.Linear(latent, 128), nn.ReLU(), nn.Linear(128, 784))

    def forward(self, x):
        hidden = self.encoder(x)
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        return self.decoder(z), mean, log_variance


@broken("it does not learn", also=("dead units",))
def vae_that_weighs_kl_by_1000(watch):
    """The posterior collapses: each image stays the mean one, which the last bias begins with."""
    torch.manual_seed(1)
    model = VAE()
    with torch.no_grad():
        model.decoder[-1].bias.copy_(digits()[0].mean(0).clamp(1e-3, 1 - 1e-3).logit())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        for x, _ in batches(200, seed=1):
            optimizer.zero_grad()
            logits, mean, log_variance = model(x)
            picture = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
            kl = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1).mean()
            loss = picture + 1000 * kl
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, reconstruction=picture, kl=kl)


@broken("not finite", "the input is not normalised", also=("exploding gradients", "the loss rises"))
def vae_of_gene_counts_without_log1p(watch):
    """Counts of thousands make a log variance of hundreds, and exp of it overflows."""
    torch.manual_seed(2)
    kinds = (torch.randn(6, 120) + 4.5).exp()
    counts = torch.poisson(kinds[torch.randint(6, (2000,))])
    encoder = nn.Sequential(nn.Linear(120, 64), nn.ReLU(), nn.Linear(64, 20))
    decoder = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 120), nn.LogSoftmax(1))
    model = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(150):
            x = counts[torch.randint(2000, (64,))]
            optimizer.zero_grad()
            mean, log_variance = encoder(x).chunk(2, 1)
            kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
            z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
            rate = decoder(z).exp() * x.sum(1, keepdim=True)
            loss = (
                F.poisson_nll_loss(rate, x, log_input=False, reduction="none").sum(1) + kl
            ).mean()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)


@broken("memory grows")
def hidden_states_of_an_lstm_kept_with_their_graphs(watch):
    """Collected "for the plot afterwards", and ``retain_graph`` since an error asked for it."""
    torch.manual_seed(3)
    model = nn.ModuleDict({"lstm": nn.LSTM(4, 96, batch_first=True), "head": nn.Linear(96, 4)})
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    states = []
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(100):
            x = torch.sin(torch.rand(32, 1, 4) * 6 + torch.arange(33.0)[:, None] / 3)
            optimizer.zero_grad()
            hidden, _ = model["lstm"](x[:, :-1])
            states.append(hidden)
            loss = F.mse_loss(model["head"](hidden), x[:, 1:])
            loss.backward(retain_graph=True)
            optimizer.step()
            monitor.log(loss=loss)


@broken("vanishing gradients", "it does not learn")
def lstm_with_a_forget_gate_that_is_shut(watch):
    """The class is the first symbol of 24, and a forget bias of -10 keeps none of it."""
    torch.manual_seed(4)
    embedding, lstm = nn.Embedding(12, 16), nn.LSTM(16, 48, batch_first=True)
    head = nn.Linear(48, 4)
    with torch.no_grad():
        lstm.bias_ih_l0[48:96] = -10
    model = nn.ModuleList([embedding, lstm, head])
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with watch(model, optimizer, every=15) as monitor:
        for _ in range(180):
            y = torch.randint(4, (32,))
            symbols = torch.randint(4, 12, (32, 24))
            symbols[:, 0] = y
            optimizer.zero_grad()
            output = head(lstm(embedding(symbols))[0][:, -1])
            loss = F.cross_entropy(output, y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken(
    "the first loss is far off",
    also=(
        "exploding gradients",
        "learning rate too high",
        "it does not learn",
        "the loss rises",
        "weights grow without end",
    ),
)
def contrastive_pairs_at_a_temperature_of_1e_minus_4(watch):
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(784, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 32))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    with watch(model, optimizer, every=20) as monitor:
        for x, _ in batches(150, size=48, seed=5):
            one, other = (x * (torch.rand_like(x) < 0.4) for _ in range(2))
            optimizer.zero_grad()
            a, b = F.normalize(model(torch.cat([one, other]))).chunk(2)
            logits = a @ b.T / 1e-4
            pairs = torch.arange(len(x))
            loss = (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=logits, target=pairs)


class Attention(nn.Module):
    """Without the division by the root of the width."""

    def __init__(self, width):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.softmax = nn.Softmax(-1)

    def forward(self, x):
        weights = self.softmax(self.query(x) @ self.key(x).mT)
        return x + weights @ self.value(x)


@broken(
    "vanishing gradients",
    "saturated activations",
    also=("the gradient is 0", "it does not learn"),
)
def attention_that_is_not_scaled_with_large_weights(watch):
    """Which symbol stands where the pointer of the first token points to."""
    torch.manual_seed(6)
    width, length = 64, 12
    symbols, places = nn.Embedding(8, width), nn.Embedding(length, width)
    attention, head = Attention(width), nn.Linear(width, 8)
    for linear in (attention.query, attention.key):
        nn.init.normal_(linear.weight, std=1.0)
    model = nn.ModuleList([symbols, places, attention, head])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(250):
            x, pointer = torch.randint(8, (64, length)), torch.randint(1, length, (64,))
            y = x[torch.arange(64), pointer]
            tokens = symbols(x) + places(torch.arange(length))
            tokens[:, 0] = places(pointer)
            optimizer.zero_grad()
            output = head(attention(tokens)[:, 0])
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken(
    "learning rate too high",
    also=("the loss rises", "exploding gradients", "it does not learn", "weights grow without end"),
)
def gpt_by_adamw_with_a_learning_rate_of_1(watch):
    torch.manual_seed(7)
    text = torch.tensor(list(b"the cat sat on the mat and the dog sat on the log; " * 40))
    text = text.unique(return_inverse=True)[1]
    classes, width, length = int(text.max()) + 1, 32, 24
    embedding, places = nn.Embedding(classes, width), nn.Embedding(length, width)
    layer = nn.TransformerEncoderLayer(width, 4, 64, batch_first=True, norm_first=True)
    blocks = nn.TransformerEncoder(layer, 2, nn.LayerNorm(width), enable_nested_tensor=False)
    model = nn.ModuleList([embedding, places, blocks, nn.Linear(width, classes)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, betas=(0.9, 0.95))
    mask = nn.Transformer.generate_square_subsequent_mask(length)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(120):
            starts = torch.randint(len(text) - length - 1, (16, 1))
            chosen = text[starts + torch.arange(length + 1)]
            optimizer.zero_grad()
            x = embedding(chosen[:, :-1]) + places(torch.arange(length))
            output = model[3](blocks(x, mask, is_causal=True)).mT
            loss = F.cross_entropy(output, chosen[:, 1:])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            monitor.log(loss=loss, output=output, target=chosen[:, 1:])


@broken(
    "learning rate too high",
    also=(
        "the loss rises",
        "exploding gradients",
        "weights grow without end",
        "not finite",
        "dead units",
        "it does not learn",
    ),
)
def dqn_whose_steps_outrun_its_own_targets(watch):
    """On a ring of 16 places, one of which pays; no target network."""
    torch.manual_seed(8)
    places = torch.randn(16, 8)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    model.append(nn.Linear(64, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    here, action = torch.randint(16, (2000,)), torch.randint(2, (2000,))
    there = (here + 2 * action - 1) % 16
    reward = (there == 0).float()
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(200):
            drawn = torch.randint(2000, (32,))
            with torch.no_grad():
                best = model(places[there[drawn]]).max(1).values
                goal = reward[drawn] + 0.99 * best
            optimizer.zero_grad()
            value = model(places[here[drawn]]).gather(1, action[drawn, None]).squeeze(1)
            loss = F.smooth_l1_loss(value, goal)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, value=value)


@broken("the loss rises", "it does not learn")
def policy_gradient_with_the_wrong_sign(watch):
    """The loss that is logged is the mean cost of what the policy did."""
    torch.manual_seed(9)
    model = nn.Sequential(nn.Linear(6, 48), nn.Tanh(), nn.Linear(48, 4))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    best_of = torch.randn(6, 4)
    baseline = torch.tensor(0.0)
    with watch(model, optimizer, every=15) as monitor:
        for _ in range(200):
            state = torch.randn(128, 6)
            policy = torch.distributions.Categorical(logits=model(state))
            action = policy.sample()
            reward = (state @ best_of).gather(1, action[:, None]).squeeze(1)
            baseline = 0.9 * baseline + 0.1 * reward.mean()
            optimizer.zero_grad()
            surrogate = (policy.log_prob(action) * (reward - baseline)).mean()
            surrogate.backward()
            optimizer.step()
            monitor.log(loss=-reward.mean(), entropy=policy.entropy())


@broken("weight decay too strong", also=("unusual options",))
def adamw_with_a_weight_decay_of_10(watch):
    torch.manual_seed(10)
    model = nn.Sequential(nn.Linear(784, 128), nn.GELU())
    for _ in range(3):
        model.extend([nn.Linear(128, 128), nn.GELU()])
    model.append(nn.Linear(128, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=10)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in batches(250, size=48, seed=10):
            optimizer.zero_grad()
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken("weights grow without end", also=("the loss rises", "exploding gradients"))
def penalty_of_the_weights_subtracted(watch):
    """The loss that is logged is cross entropy alone."""
    torch.manual_seed(11)
    model = with_batchnorm()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in batches(300, size=48, seed=11):
            optimizer.zero_grad()
            output = model(x)
            loss = F.cross_entropy(output, y)
            penalty = sum((p**2).sum() for p in model.parameters() if p.ndim > 1)
            (loss - 0.01 * penalty).backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken("weights grow without end", "learning rate too high")
def normalised_layers_with_steps_of_20_and_no_decay(watch):
    """Their scale does not matter to the loss, so each step makes them longer."""
    torch.manual_seed(12)
    model = nn.Sequential(
        nn.Linear(784, 64, bias=False),
        nn.LayerNorm(64, elementwise_affine=False),
        nn.ReLU(),
        nn.Linear(64, 64, bias=False),
        nn.LayerNorm(64, elementwise_affine=False),
        nn.ReLU(),
        nn.Linear(64, 10, bias=False),
        nn.LayerNorm(10, elementwise_affine=False),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=20.0, momentum=0.9)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in batches(250, seed=12):
            optimizer.zero_grad()
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken(
    "not finite",
    "the gradient is 0",
    also=("it does not learn", "layers that do not move", "no gradient came"),
)
def segmentation_whose_palette_makes_all_void(watch):
    """The masks hold 10, 20 and 30, the table knows 0, 1 and 2: the mean over no label is NaN."""
    torch.manual_seed(13)
    model = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 12, 3, padding=2, dilation=2),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 3, 1),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    things = torch.randint(3, (200, 4, 4)).repeat_interleave(4, 1).repeat_interleave(4, 2)
    images = F.one_hot(things, 3).movedim(3, 1) + 0.7 * torch.randn(200, 3, 16, 16)
    masks = 10 * (things + 1)
    train_id = torch.full((256,), 255)
    train_id[:3] = torch.arange(3)
    with watch(model, optimizer, every=10) as monitor:
        for rows in torch.arange(400).remainder(200).split(4):
            y = train_id[masks[rows]]
            optimizer.zero_grad()
            output = model(images[rows])
            loss = F.cross_entropy(output, y, ignore_index=255)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken("it does not learn", also=("vanishing gradients", "the gradient is 0", "dead units"))
def hardest_triplets_collapse_to_one_point(watch):
    """The loss stays at the margin."""
    torch.manual_seed(14)
    images, labels = digits()
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
    model.append(nn.Linear(64, 16))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(200):
            chosen = torch.randint(len(images), (64,))
            points, y = model(images[chosen]), labels[chosen]
            distance = ((points[:, None] - points[None]) ** 2).sum(-1)
            same = y[:, None] == y[None]
            farthest = distance.masked_fill(~same, 0).max(1).values
            nearest = distance.masked_fill(same, torch.inf).min(1).values
            optimizer.zero_grad()
            loss = F.relu(farthest - nearest + 0.2).mean()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)


@broken("learning rate too low", "it does not learn")
def distillation_at_20_degrees_without_their_square(watch):
    """Soft targets make gradients of 1/T^2, and the loss was not multiplied by T^2."""
    torch.manual_seed(15)
    images, labels = digits()
    teacher = nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))
    teaching = torch.optim.Adam(teacher.parameters(), lr=3e-3)
    for x, y in DataLoader(TensorDataset(images[:5000], labels[:5000]), batch_size=100):
        teaching.zero_grad()
        F.cross_entropy(teacher(x), y).backward()
        teaching.step()
    teacher.eval()
    student = nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9)
    with watch(student, optimizer, every=25) as monitor:
        for x, y in batches(250, seed=15):
            with torch.no_grad():
                soft = F.softmax(teacher(x) / 20, 1)
            optimizer.zero_grad()
            output = student(x)
            loss = F.kl_div(F.log_softmax(output / 20, 1), soft, reduction="batchmean")
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)
