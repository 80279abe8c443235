"""First scripts of practitioners, mainstream all of them, written without a look at the rules."""

import copy
import math
import random
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split

from tests.tensorboard.trainings import digits

from . import healthy


def small_digits(count=3000):
    """As 14 x 14 pictures."""
    images, labels = digits()
    pictures = F.avg_pool2d(images[:count].reshape(-1, 1, 28, 28), 2)
    return pictures, labels[:count]


def split(x, y, test=600, batch_size=64):
    train = TensorDataset(x[:-test], y[:-test])
    return (
        DataLoader(train, batch_size=batch_size, shuffle=True),
        DataLoader(TensorDataset(x[-test:], y[-test:]), batch_size=200),
    )


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    total, correct, count = 0.0, 0, 0
    for x, y in loader:
        output = model(x)
        total += F.cross_entropy(output, y, reduction="sum").item()
        correct += (output.argmax(1) == y).sum().item()
        count += len(y)
    return total / count, correct / count


@healthy
def sixty_minute_blitz_on_coloured_shapes(watch):
    """The tutorial's CNN, SGD at 0.01 with momentum, images scaled to -1 to 1, epochs."""
    torch.manual_seed(0)
    count = 2000
    labels = torch.randint(4, (count,))
    grid = torch.arange(16.0)
    centre = torch.rand(count, 2, 1, 1) * 6 + 5
    dy, dx = (grid[:, None] - centre[:, 0]).abs(), (grid[None] - centre[:, 1]).abs()
    kinds = [dx**2 + dy**2 < 16, (dx < 4) & (dy < 4), dx + dy < 5, (dx < 1.5) | (dy < 1.5)]
    mask = torch.stack(kinds, 1)[torch.arange(count), labels][:, None].float()
    colour, behind = torch.rand(count, 3, 1, 1), 0.3 * torch.rand(count, 3, 16, 16)
    images = (mask * (0.4 + 0.6 * colour) + behind).clamp(0, 1)
    images = (images - 0.5) / 0.5
    train_loader, test_loader = split(images, labels, 400, 32)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 6, 3)
            self.pool = nn.MaxPool2d(2, 2)
            self.conv2 = nn.Conv2d(6, 16, 3)
            self.fc1 = nn.Linear(16 * 2 * 2, 32)
            self.fc2 = nn.Linear(32, 4)

        def forward(self, x):
            x = self.pool(F.relu(self.conv1(x)))
            x = self.pool(F.relu(self.conv2(x)))
            x = torch.flatten(x, 1)
            return self.fc2(F.relu(self.fc1(x)))

    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    with watch(net, optimizer, every=25) as monitor:
        for _ in range(8):
            net.train()
            for inputs, targets in train_loader:
                optimizer.zero_grad()
                outputs = net(inputs)
                loss = criterion(outputs, targets)
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss.item())
        test_loss, accuracy = evaluate(net, test_loader)
        monitor.log(**{"loss/test": test_loss, "accuracy/test": accuracy})
    assert accuracy > 0.8


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


@healthy
def resnet_with_decay_and_a_cosine_per_epoch(watch):
    torch.manual_seed(42)
    x, y = small_digits()
    train_loader, test_loader = split((x - 0.13) / 0.28, y, batch_size=100)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, 1, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        Block(8, 8, 1),
        Block(8, 16, 2),
        Block(16, 32, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    epochs = 5
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(epochs):
            model.train()
            for inputs, targets in train_loader:
                outputs = model(inputs)
                loss = F.cross_entropy(outputs, targets)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=outputs, target=targets)
            scheduler.step()
            val_loss, val_acc = evaluate(model, test_loader)
            monitor.log(val_loss=val_loss, val_accuracy=val_acc)
    assert val_acc > 0.93


def english(sentences, seed=0):
    draw = random.Random(seed)
    who = ["the king", "a fool", "my lady", "the old man", "our captain", "a merchant"]
    does = ["speaks of", "walks to", "dreams of", "hides from", "fights for"]
    what = ["the sea", "a crown", "his daughter", "the castle", "war", "peace and wine"]
    end = [".", ", alas!", " at night.", " again?"]
    return "\n".join(
        f"{draw.choice(who)} {draw.choice(does)} {draw.choice(what)}{draw.choice(end)}"
        for _ in range(sentences)
    )


class CausalAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(y.transpose(1, 2).reshape(b, t, c))


class Layer(nn.Module):
    def __init__(self, width, heads, dropout=0.1):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = CausalAttention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout)
        )

    def forward(self, x):
        x = x + self.attention(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class TinyGPT(nn.Module):
    def __init__(self, vocabulary, width=32, layers=2, context=32):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.drop = nn.Dropout(0.1)
        self.blocks = nn.Sequential(*[Layer(width, 4) for _ in range(layers)])
        self.ln_f = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.apply(self._init)

    def _init(self, module):
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, idx, targets=None):
        x = self.drop(self.wte(idx) + self.wpe.weight[: idx.shape[1]])
        logits = self.head(self.ln_f(self.blocks(x)))
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())


@healthy
def shakespeare_gpt_with_estimate_loss(watch):
    """Characters; the model gives back logits and loss, estimate_loss() every 50 steps."""
    torch.manual_seed(1337)
    text = english(600)
    chars = sorted(set(text))
    data = torch.tensor([chars.index(c) for c in text])
    train_data, val_data = data[: int(0.9 * len(data))], data[int(0.9 * len(data)) :]
    block, batch, max_iters, warm_up = 32, 16, 250, 25

    def get_batch(part):
        source = train_data if part == "train" else val_data
        ix = torch.randint(len(source) - block, (batch,))
        x = torch.stack([source[i : i + block] for i in ix])
        return x, torch.stack([source[i + 1 : i + block + 1] for i in ix])

    model = TinyGPT(len(chars))

    @torch.no_grad()
    def estimate_loss():
        model.eval()
        means = {
            part: torch.stack([model(*get_batch(part))[1] for _ in range(5)]).mean().item()
            for part in ("train", "val")
        }
        model.train()
        return means

    def lr_at(it):
        if it < warm_up:
            return (it + 1) / warm_up
        return 0.1 + 0.45 * (1 + math.cos(math.pi * (it - warm_up) / (max_iters - warm_up)))

    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.99), weight_decay=0.1)
    with watch(model, optimizer, every=10) as monitor:
        for it in range(max_iters):
            for group in optimizer.param_groups:
                group["lr"] = 3e-3 * lr_at(it)
            if it % 50 == 0:
                losses = estimate_loss()
                monitor.log(**{"eval/train": losses["train"], "eval/val": losses["val"]})
            x, y = get_batch("train")
            _, loss = model(x, y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            monitor.log(loss=loss)
        losses = estimate_loss()
        monitor.log(**{"eval/train": losses["train"], "eval/val": losses["val"]})
    assert losses["val"] < 1.6


@healthy
def lstm_language_model_clipped_at_a_quarter(watch):
    """Words, two layers, dropout 0.2, Adam, hidden state repackaged, clip 0.25, perplexity."""
    torch.manual_seed(7)
    words = english(900, seed=3).replace("\n", " <eos> ").split()
    vocabulary = sorted(set(words))
    ids = torch.tensor([vocabulary.index(w) for w in words])

    def batchify(data, bsz):
        rows = len(data) // bsz
        return data[: rows * bsz].view(bsz, -1).t().contiguous()

    cut = int(len(ids) * 0.85)
    train_data, val_data = batchify(ids[:cut], 16), batchify(ids[cut:], 8)

    class RNNModel(nn.Module):
        def __init__(self, ntoken):
            super().__init__()
            self.drop = nn.Dropout(0.2)
            self.encoder = nn.Embedding(ntoken, 24)
            self.rnn = nn.LSTM(24, 32, 2, dropout=0.2)
            self.decoder = nn.Linear(32, ntoken)
            nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
            nn.init.zeros_(self.decoder.bias)
            nn.init.uniform_(self.decoder.weight, -0.1, 0.1)

        def forward(self, x, hidden=None):
            output, hidden = self.rnn(self.drop(self.encoder(x)), hidden)
            return self.decoder(self.drop(output)), hidden

    model, bptt = RNNModel(len(vocabulary)), 15
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def run_validation():
        model.eval()
        total, hidden = 0.0, None
        with torch.no_grad():
            for i in range(0, len(val_data) - 1, bptt):
                n = min(bptt, len(val_data) - 1 - i)
                out, hidden = model(val_data[i : i + n], hidden)
                target = val_data[i + 1 : i + 1 + n].reshape(-1)
                total += n * F.cross_entropy(out.view(-1, len(vocabulary)), target).item()
        return total / (len(val_data) - 1)

    with watch(model, optimizer, every=10) as monitor:
        for _ in range(8):
            model.train()
            hidden = None
            for i in range(0, len(train_data) - 1, bptt):
                n = min(bptt, len(train_data) - 1 - i)
                data = train_data[i : i + n]
                target = train_data[i + 1 : i + 1 + n].reshape(-1)
                if hidden is not None:
                    hidden = tuple(h.detach() for h in hidden)
                optimizer.zero_grad()
                output, hidden = model(data, hidden)
                loss = F.cross_entropy(output.view(-1, len(vocabulary)), target)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
                optimizer.step()
                monitor.log(train_loss=loss, ppl=math.exp(loss.item()))
            val_loss = run_validation()
            monitor.log(val_loss=val_loss)
    assert val_loss < 1.4


@healthy
def gru_reads_reviews_of_many_lengths(watch):
    """Sentiment with packed sequences, an embedding with padding_idx, one logit, accuracy."""
    torch.manual_seed(11)
    random.seed(11)
    good, bad, others = range(1, 20), range(20, 39), range(40, 200)

    def review():
        label = random.random() < 0.5
        length = random.randint(6, 25)
        mood = good if label else bad
        return torch.tensor(
            [random.choice(mood if random.random() < 0.25 else others) for _ in range(length)]
        ), float(label)

    reviews = [review() for _ in range(1200)]

    def collate(batch):
        texts, labels = zip(*batch, strict=True)
        lengths = torch.tensor([len(t) for t in texts])
        return nn.utils.rnn.pad_sequence(texts, batch_first=True), lengths, torch.tensor(labels)

    train_set, valid_set = random_split(reviews, [1000, 200])
    train_loader = DataLoader(train_set, 32, shuffle=True, collate_fn=collate)
    valid_loader = DataLoader(valid_set, 200, collate_fn=collate)

    class Sentiment(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(200, 16, padding_idx=0)
            self.gru = nn.GRU(16, 16, batch_first=True, bidirectional=True)
            self.dropout = nn.Dropout(0.3)
            self.fc = nn.Linear(32, 1)

        def forward(self, text, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(
                self.embedding(text), lengths, batch_first=True, enforce_sorted=False
            )
            _, hidden = self.gru(packed)
            return self.fc(self.dropout(torch.cat([hidden[0], hidden[1]], 1))).squeeze(1)

    model = Sentiment()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    criterion = nn.BCEWithLogitsLoss()

    def binary_accuracy(preds, y):
        return (preds.sigmoid().round() == y).float().mean()

    with watch(model, optimizer, every=10) as monitor:
        for _ in range(6):
            model.train()
            for text, lengths, y in train_loader:
                optimizer.zero_grad()
                preds = model(text, lengths)
                loss = criterion(preds, y)
                acc = binary_accuracy(preds, y)
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, accuracy=acc)
            model.eval()
            with torch.no_grad():
                for text, lengths, y in valid_loader:
                    preds = model(text, lengths)
                    valid_acc = binary_accuracy(preds, y)
                    monitor.log(valid_loss=criterion(preds, y), valid_accuracy=valid_acc)
    assert valid_acc > 0.9


@healthy
def dates_are_rewritten_by_a_sequence_to_sequence_gru(watch):
    """Day, month, year as said into ISO; teacher forcing at 0.5; padding ignored."""
    torch.manual_seed(3)
    random.seed(3)
    months = "jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec"
    months = months.split(",")
    symbols = ["<pad>", "<sos>", *sorted(set("0123456789- " + "".join(months)))]
    index = {c: i for i, c in enumerate(symbols)}

    def example():
        d, m, y = random.randint(1, 28), random.randint(0, 11), random.randint(0, 29)
        said = f"{d} {months[m]} {y + 2000}"
        return (
            torch.tensor([index[c] for c in f"{said:<11}"]),
            torch.tensor([index[c] for c in f"{m + 1:02d}-{d:02d}"]),
        )

    pairs = [torch.stack(part) for part in zip(*[example() for _ in range(2200)], strict=True)]
    source, target = pairs

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(len(symbols), 16)
            self.gru = nn.GRU(16, 48, batch_first=True)

        def forward(self, x):
            return self.gru(self.embed(x))[1]

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(len(symbols), 16)
            self.gru = nn.GRU(16, 48, batch_first=True)
            self.out = nn.Linear(48, len(symbols))

        def forward(self, token, hidden):
            output, hidden = self.gru(self.embed(token), hidden)
            return self.out(output[:, 0]), hidden

    class Seq2Seq(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = Encoder(), Decoder()

        def forward(self, x, y, teacher=0.5):
            hidden = self.encoder(x)
            token = torch.full((len(x), 1), index["<sos>"])
            outputs = []
            for t in range(y.shape[1]):
                output, hidden = self.decoder(token, hidden)
                outputs.append(output)
                forced = random.random() < teacher
                token = y[:, t : t + 1] if forced else output.argmax(1, keepdim=True)
            return torch.stack(outputs, 1)

    model = Seq2Seq()
    criterion = nn.CrossEntropyLoss(ignore_index=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=8e-3)
    with watch(model, optimizer, every=15) as monitor:
        for step in range(300):
            rows = torch.randint(2000, (64,))
            output = model(source[rows], target[rows])
            loss = criterion(output.reshape(-1, len(symbols)), target[rows].reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1)
            optimizer.step()
            monitor.log(loss=loss)
            if step % 30 == 29:
                with torch.no_grad():
                    said = model(source[2000:], target[2000:], teacher=0)
                exact = (said.argmax(2) == target[2000:]).all(1).float().mean()
                monitor.log(exact_match=exact)
    assert exact > 0.6


@healthy
def convolutional_vae_by_mean_losses(watch):
    """Squared errors and divergence averaged; three curves are logged."""
    torch.manual_seed(9)
    x, y = small_digits(2000)
    loader = DataLoader(TensorDataset(x, y), batch_size=50, shuffle=True, drop_last=True)

    class VAE(nn.Module):
        def __init__(self, latent=8):
            super().__init__()
            self.encoder = nn.Sequential(
                nn.Conv2d(1, 8, 4, 2, 1),
                nn.LeakyReLU(0.1),
                nn.Conv2d(8, 16, 3, 2),
                nn.LeakyReLU(0.1),
                nn.Flatten(),
            )
            self.mu, self.logvar = nn.Linear(144, latent), nn.Linear(144, latent)
            self.decoder = nn.Sequential(
                nn.Linear(latent, 144),
                nn.LeakyReLU(0.1),
                nn.Unflatten(1, (16, 3, 3)),
                nn.ConvTranspose2d(16, 8, 3, 2),
                nn.LeakyReLU(0.1),
                nn.ConvTranspose2d(8, 1, 4, 2, 1),
                nn.Sigmoid(),
            )

        def forward(self, x):
            h = self.encoder(x)
            mu, logvar = self.mu(h), self.logvar(h)
            z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
            return self.decoder(z), mu, logvar

    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(8):
            epoch_loss = 0.0
            for images, _ in loader:
                recon, mu, logvar = model(images)
                recon_loss = F.mse_loss(recon, images, reduction="sum") / len(images)
                kld = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
                loss = recon_loss + 0.2 * kld
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                epoch_loss += loss.item() / len(loader)
                monitor.log(loss=loss, recon_loss=recon_loss, kld=kld)
    assert epoch_loss < 11


@healthy
def conditional_gan_of_three_digits(watch):
    """Embedded labels beside the noise, one Monitor for each of the two, as in PyTorch-GAN."""
    torch.manual_seed(21)
    x, y = small_digits(4000)
    x, y = x[y < 3] * 2 - 1, y[y < 3]

    class Generator(nn.Module):
        def __init__(self):
            super().__init__()
            self.label = nn.Embedding(3, 3)
            self.model = nn.Sequential(
                nn.Linear(19, 64),
                nn.LeakyReLU(0.2),
                nn.Linear(64, 128),
                nn.BatchNorm1d(128),
                nn.LeakyReLU(0.2),
                nn.Linear(128, 196),
                nn.Tanh(),
            )

        def forward(self, noise, labels):
            return self.model(torch.cat([self.label(labels), noise], 1)).view(-1, 1, 14, 14)

    class Discriminator(nn.Module):
        def __init__(self):
            super().__init__()
            self.label = nn.Embedding(3, 3)
            self.model = nn.Sequential(
                nn.Linear(199, 128),
                nn.LeakyReLU(0.2),
                nn.Dropout(0.3),
                nn.Linear(128, 64),
                nn.LeakyReLU(0.2),
                nn.Dropout(0.3),
                nn.Linear(64, 1),
            )

        def forward(self, images, labels):
            return self.model(torch.cat([images.flatten(1), self.label(labels)], 1))

    generator, discriminator = Generator(), Discriminator()
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    bce = nn.BCEWithLogitsLoss()
    with (
        watch(generator, optimizer_g, every=25) as monitor_g,
        watch(discriminator, optimizer_d, every=25) as monitor_d,
    ):
        for _ in range(600):
            rows = torch.randint(len(x), (48,))
            real, labels = x[rows], y[rows]
            valid, fake = torch.ones(48, 1), torch.zeros(48, 1)
            optimizer_g.zero_grad()
            wanted = torch.randint(3, (48,))
            made = generator(torch.randn(48, 16), wanted)
            g_loss = bce(discriminator(made, wanted), valid)
            g_loss.backward()
            optimizer_g.step()
            monitor_g.log(g_loss=g_loss)
            optimizer_d.zero_grad()
            real_loss = bce(discriminator(real, labels), valid)
            fake_loss = bce(discriminator(made.detach(), wanted), fake)
            d_loss = (real_loss + fake_loss) / 2
            d_loss.backward()
            optimizer_d.step()
            monitor_d.log(d_loss=d_loss)
    generator.eval()
    wanted = torch.arange(3).repeat_interleave(50)
    with torch.no_grad():
        made = generator(torch.randn(150, 16), wanted)
    means = torch.stack([x[y == c].mean(0) for c in range(3)]).flatten(1)
    nearest = torch.cdist(made.flatten(1), means).argmin(1)
    assert (nearest == wanted).float().mean() > 0.8


@healthy
def wgan_gp_of_eight_gaussians(watch):
    """Five steps of the critic for one of the generator; one loop, both are logged together."""
    torch.manual_seed(5)

    def sample(n):
        angle = torch.randint(8, (n,)) * (2 * math.pi / 8)
        return torch.stack([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(n, 2)

    netG = nn.Sequential(
        nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)
    )
    netD = nn.Sequential(
        nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
    )
    optG = torch.optim.Adam(netG.parameters(), lr=1e-3, betas=(0.5, 0.9))
    optD = torch.optim.Adam(netD.parameters(), lr=1e-3, betas=(0.5, 0.9))

    def gradient_penalty(real, fake):
        mix = torch.rand(len(real), 1)
        middle = (mix * real + (1 - mix) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(netD(middle).sum(), middle, create_graph=True)
        return ((slope.norm(2, dim=1) - 1) ** 2).mean()

    with watch(netD, optD, every=50) as monD, watch(netG, optG, every=20) as monG:
        for _ in range(200):
            for _ in range(5):
                real = sample(128)
                fake = netG(torch.randn(128, 2)).detach()
                wasserstein = netD(real).mean() - netD(fake).mean()
                lossD = -wasserstein + 0.1 * gradient_penalty(real, fake)
                optD.zero_grad()
                lossD.backward()
                optD.step()
                monD.log(critic_loss=lossD, wasserstein=wasserstein)
            lossG = -netD(netG(torch.randn(128, 2))).mean()
            optG.zero_grad()
            lossG.backward()
            optG.step()
            monG.log(generator_loss=lossG)
    with torch.no_grad():
        radius = netG(torch.randn(500, 2)).norm(dim=1)
    assert 0.8 < radius.median() < 1.15


class FrozenLake:
    """Four by four, not slippery; four holes, and a reward of 1 at the goal."""

    holes, goal = {5, 7, 11, 12}, 15

    def reset(self):
        self.at, self.t = 0, 0
        return self.at

    def step(self, action):
        row, column = divmod(self.at, 4)
        moves = {0: (0, -1), 1: (1, 0), 2: (0, 1), 3: (-1, 0)}[action]
        row, column = min(max(row + moves[0], 0), 3), min(max(column + moves[1], 0), 3)
        self.at, self.t = row * 4 + column, self.t + 1
        done = self.at in self.holes or self.at == self.goal
        return self.at, float(self.at == self.goal), done or self.t >= 30


@healthy
def q_network_on_the_frozen_lake(watch):
    """A step after each move from replay; the reward of each episode is logged as it ends."""
    torch.manual_seed(2)
    random.seed(2)
    env, memory = FrozenLake(), []
    q_net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    target_net = copy.deepcopy(q_net)
    optimizer = torch.optim.Adam(q_net.parameters(), lr=2e-3)
    eye, epsilon, rewards = torch.eye(16), 1.0, []
    with watch(q_net, optimizer, every=50) as monitor:
        for episode in range(220):
            state, done, total = env.reset(), False, 0.0
            while not done:
                if random.random() < epsilon:
                    action = random.randrange(4)
                else:
                    with torch.no_grad():
                        action = int(q_net(eye[state]).argmax())
                new, reward, done = env.step(action)
                memory.append((state, action, reward, new, float(done)))
                state, total = new, total + reward
                if len(memory) < 64:
                    continue
                s, a, r, n, d = map(torch.tensor, zip(*random.sample(memory, 64), strict=True))
                q = q_net(eye[s]).gather(1, a[:, None])[:, 0]
                with torch.no_grad():
                    best = target_net(eye[n]).max(1).values
                loss = F.mse_loss(q, r + 0.95 * best * (1 - d))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)
            rewards.append(total)
            monitor.log(reward=total)
            epsilon = max(0.05, epsilon * 0.98)
            if episode % 5 == 0:
                target_net.load_state_dict(q_net.state_dict())
    assert sum(rewards[-30:]) > 18


class ActorCritic(nn.Module):
    def __init__(self, inputs, actions):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inputs, 32), nn.Tanh())
        self.actor, self.critic = nn.Linear(32, actions), nn.Linear(32, 1)

    def forward(self, x):
        h = self.body(x)
        return torch.distributions.Categorical(logits=self.actor(h)), self.critic(h)[..., 0]


class Chase:
    """Sixteen points on a line shall step to a flag; -distance is the reward."""

    def __init__(self, n=16):
        self.n = n
        self.reset()

    def reset(self):
        self.at, self.flag = torch.rand(self.n) * 2 - 1, torch.rand(self.n) * 2 - 1
        return self.see()

    def see(self):
        return torch.stack([self.at, self.flag], 1)

    def step(self, action):
        self.at = (self.at + 0.2 * (action - 1)).clamp(-1.5, 1.5)
        return self.see(), -(self.at - self.flag).abs()


def advantage_actor_critic(watch, with_reward):
    torch.manual_seed(17)
    env, model = Chase(), ActorCritic(2, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=7e-3)
    history = []
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(300):
            obs = env.reset()
            log_probs, values, rewards, entropies = [], [], [], []
            for _ in range(8):
                dist, value = model(obs)
                action = dist.sample()
                obs, reward = env.step(action)
                log_probs.append(dist.log_prob(action))
                values.append(value)
                rewards.append(reward)
                entropies.append(dist.entropy())
            ret, returns = torch.zeros(env.n), []
            for reward in reversed(rewards):
                ret = reward + 0.9 * ret
                returns.insert(0, ret)
            returns, values = torch.stack(returns), torch.stack(values)
            advantage = returns - values
            policy_loss = -(torch.stack(log_probs) * advantage.detach()).mean()
            value_loss = advantage.pow(2).mean()
            entropy = torch.stack(entropies).mean()
            loss = policy_loss + 0.5 * value_loss - 0.01 * entropy
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            history.append(torch.stack(rewards).sum(0).mean().item())
            if with_reward:
                monitor.log(loss=loss, entropy=entropy, reward=history[-1])
            else:
                monitor.log(policy_loss=policy_loss, value_loss=value_loss, entropy=entropy)
    assert sum(history[-20:]) / 20 > 0.6 * sum(history[:10]) / 10


@healthy
def a2c_follows_a_flag_with_its_reward_logged(watch):
    advantage_actor_critic(watch, with_reward=True)


@healthy
def a2c_follows_a_flag_with_two_losses_logged(watch):
    advantage_actor_critic(watch, with_reward=False)


class LoRALinear(nn.Module):
    def __init__(self, base, r=4, alpha=8):
        super().__init__()
        self.base = base
        for p in base.parameters():
            p.requires_grad = False
        self.lora_A = nn.Parameter(torch.empty(r, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, r))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.scaling = alpha / r

    def forward(self, x):
        return self.base(x) + (x @ self.lora_A.T @ self.lora_B.T) * self.scaling


@healthy
def lora_turns_a_digit_reader_to_lying_digits(watch):
    """All linear layers of a trained MLP are wrapped; the filter passes trainable ones alone."""
    torch.manual_seed(4)
    x, y = small_digits()
    x = x.flatten(1)
    model = nn.Sequential(
        nn.Linear(196, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    pretraining = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(150):
        rows = torch.randint(2400, (64,))
        pretraining.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        pretraining.step()
    for p in model.parameters():
        p.requires_grad = False
    for name, module in list(model.named_children()):
        if isinstance(module, nn.Linear):
            setattr(model, name, LoRALinear(module))
    lying = x.view(-1, 14, 14).transpose(1, 2).flatten(1)
    optimizer = torch.optim.AdamW(
        filter(lambda p: p.requires_grad, model.parameters()), lr=1e-2, weight_decay=0.0
    )
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(250):
            rows = torch.randint(2400, (64,))
            logits = model(lying[rows])
            loss = F.cross_entropy(logits, y[rows])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss, output=logits, target=y[rows])
    with torch.no_grad():
        accuracy = (model(lying[2400:]).argmax(1) == y[2400:]).float().mean()
    assert accuracy > 0.8


@healthy
def top_one_experts_with_a_balancing_loss(watch):
    """Switch: four experts, capacity unlimited, aux loss times 0.01; task and aux logged."""
    torch.manual_seed(8)
    x = torch.randn(4000, 8)
    kind = (x[:, 0] > 0).long() * 2 + (x[:, 1] > 0).long()
    slopes = torch.randn(4, 8)
    y = (x * slopes[kind]).sum(1, keepdim=True) + 0.05 * torch.randn(4000, 1)
    y = y / y.std()

    class MoE(nn.Module):
        def __init__(self, n=4):
            super().__init__()
            self.gate = nn.Linear(8, n)
            self.experts = nn.ModuleList(
                nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 1)) for _ in range(n)
            )

        def forward(self, x):
            probs = self.gate(x).softmax(-1)
            weight, chosen = probs.max(-1)
            out = torch.zeros(len(x), 1)
            for i, expert in enumerate(self.experts):
                rows = (chosen == i).nonzero()[:, 0]
                if len(rows):
                    out = out.index_add(0, rows, expert(x[rows]) * weight[rows, None])
            share = F.one_hot(chosen, len(self.experts)).float().mean(0)
            return out, len(self.experts) * (share * probs.mean(0)).sum()

    model = MoE()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    loader = DataLoader(TensorDataset(x[:3600], y[:3600]), 120, shuffle=True)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(12):
            for a, b in loader:
                out, aux = model(a)
                task = F.mse_loss(out, b)
                loss = task + 0.01 * aux
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, task=task, aux=aux)
    with torch.no_grad():
        assert F.mse_loss(model(x[3600:])[0], y[3600:]) < 0.3


@healthy
def sparse_tables_of_a_recommender_beside_dense_layers(watch):
    """SparseAdam for the embeddings, Adam for the rest: two optimizers, a Monitor for each."""
    torch.manual_seed(12)
    users, items = 150, 100
    taste, kind = torch.randn(users, 3), torch.randn(items, 3)
    u, i = torch.randint(users, (12000,)), torch.randint(items, (12000,))
    clicked = torch.bernoulli((2 * (taste[u] * kind[i]).sum(1)).sigmoid())

    class TwoTables(nn.Module):
        def __init__(self):
            super().__init__()
            self.user = nn.Embedding(users, 8, sparse=True)
            self.item = nn.Embedding(items, 8, sparse=True)
            self.mlp = nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 1))

        def forward(self, u, i):
            a, b = self.user(u), self.item(i)
            return self.mlp(torch.cat([a, b, a * b], 1))[:, 0]

    model = TwoTables()
    sparse = torch.optim.SparseAdam([*model.user.parameters(), *model.item.parameters()], lr=0.02)
    dense = torch.optim.Adam(model.mlp.parameters(), lr=5e-3)
    with (
        watch(nn.ModuleList([model.user, model.item]), sparse, every=20) as tables,
        watch(model.mlp, dense, every=20) as layers,
    ):
        for _ in range(6):
            for rows in torch.randperm(11000).split(200):
                sparse.zero_grad()
                dense.zero_grad()
                loss = F.binary_cross_entropy_with_logits(model(u[rows], i[rows]), clicked[rows])
                loss.backward()
                sparse.step()
                dense.step()
                tables.log(loss=loss.item())
                layers.log(loss=loss.item())
        with torch.no_grad():
            found = (model(u[11000:], i[11000:]) > 0).float() == clicked[11000:]
        layers.log(**{"accuracy/test": found.float().mean().item()})
    assert found.float().mean() > 0.7


@healthy
def lbfgs_fits_a_noisy_wave(watch):
    """A small tanh network, strong Wolfe, 20 inner iterations, 25 steps, all data."""
    torch.manual_seed(6)
    x = torch.linspace(-3, 3, 120)[:, None]
    y = torch.sin(2 * x) + 0.3 * x + 0.1 * torch.randn_like(x)
    net = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 1))
    optimizer = torch.optim.LBFGS(net.parameters(), lr=1, line_search_fn="strong_wolfe")
    criterion = nn.MSELoss()
    with watch(net, optimizer, every=2) as monitor:
        for _ in range(25):

            def closure():
                optimizer.zero_grad()
                loss = criterion(net(x), y)
                loss.backward()
                return loss

            loss = optimizer.step(closure)
            monitor.log(loss=loss)
    assert loss < 0.02


@healthy
def pictures_and_captions_meet_as_in_clip(watch):
    """InfoNCE in both directions, a learnt temperature; the caption holds the digit and its ink."""
    torch.manual_seed(14)
    x, y = small_digits()
    ink = (x.mean((1, 2, 3)) * 20).long().clamp(0, 5)
    captions = torch.stack([y, 10 + ink], 1)
    loader = DataLoader(TensorDataset(x[:2500], captions[:2500]), 32, shuffle=True, drop_last=True)

    class Clip(nn.Module):
        def __init__(self):
            super().__init__()
            self.image = nn.Sequential(
                nn.Conv2d(1, 16, 3, 2, 1),
                nn.ReLU(),
                nn.Conv2d(16, 32, 3, 2, 1),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(512, 32),
            )
            self.text = nn.Sequential(nn.EmbeddingBag(16, 32), nn.ReLU(), nn.Linear(32, 32))
            self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

        def forward(self, image, text):
            image = F.normalize(self.image(image), dim=-1)
            text = F.normalize(self.text(text), dim=-1)
            return self.logit_scale.exp() * image @ text.t()

    model = Clip()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(5):
            for images, texts in loader:
                logits = model(images, texts)
                target = torch.arange(len(logits))
                loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target)) / 2
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                with torch.no_grad():
                    model.logit_scale.clamp_(max=math.log(100))
                monitor.log(loss=loss)
    with torch.no_grad():
        prompts = torch.stack([torch.arange(10), torch.full((10,), 12)], 1)
        read = model(x[2500:], prompts).argmax(1)
    assert (read == y[2500:]).float().mean() > 0.8


@healthy
def unet_finds_cells_in_a_tenth_of_the_picture(watch):
    """Cross entropy of two classes plus Dice; output and target are logged with background."""
    torch.manual_seed(15)
    count, size = 500, 24
    grid = torch.arange(float(size))
    centre, radius = torch.rand(count, 2, 2, 1, 1) * 18 + 3, 1.5 + 1.8 * torch.rand(count, 2, 1, 1)
    away = (grid[:, None] - centre[:, :, 0]) ** 2 + (grid[None] - centre[:, :, 1]) ** 2
    masks = (away < radius**2).any(1).long()
    images = masks[:, None] * 0.8 + 0.4 * torch.randn(count, 1, size, size)
    train_loader = DataLoader(TensorDataset(images[:440], masks[:440]), 16, shuffle=True)

    def double(i, o):
        return nn.Sequential(
            nn.Conv2d(i, o, 3, padding=1, bias=False),
            nn.BatchNorm2d(o),
            nn.ReLU(inplace=True),
            nn.Conv2d(o, o, 3, padding=1, bias=False),
            nn.BatchNorm2d(o),
            nn.ReLU(inplace=True),
        )

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.inc, self.down, self.bottom = double(1, 8), double(8, 16), double(16, 16)
            self.up1, self.up2 = double(32, 8), double(16, 8)
            self.pool = nn.MaxPool2d(2)
            self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.outc = nn.Conv2d(8, 2, 1)

        def forward(self, x):
            a = self.inc(x)
            b = self.down(self.pool(a))
            c = self.bottom(self.pool(b))
            d = self.up1(torch.cat([b, self.upsample(c)], 1))
            return self.outc(self.up2(torch.cat([a, self.upsample(d)], 1)))

    def dice(probs, mask):
        both = (probs * mask).sum((1, 2))
        return ((2 * both + 1) / (probs.sum((1, 2)) + mask.sum((1, 2)) + 1)).mean()

    model = UNet()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, weight_decay=1e-8, momentum=0.9)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(4):
            model.train()
            for image, mask in train_loader:
                pred = model(image)
                loss = F.cross_entropy(pred, mask) + 1 - dice(pred.softmax(1)[:, 1], mask)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                monitor.log(loss=loss, output=pred, target=mask)
            model.eval()
            with torch.no_grad():
                score = dice(model(images[440:]).argmax(1), masks[440:])
            monitor.log(**{"dice/validation": score})
    assert score > 0.8


@healthy
def one_shot_detector_on_a_grid_of_cells(watch):
    """YOLO: objectness in each of 16 cells, box by MSE where there is an object, class by CE."""
    torch.manual_seed(16)
    x, y = small_digits()
    count = 1500
    canvas, cell = torch.zeros(count, 1, 32, 32), torch.zeros(count, dtype=torch.long)
    place = torch.randint(0, 19, (count, 2))
    offset = torch.zeros(count, 2)
    for n, (r, c) in enumerate(place.tolist()):
        canvas[n, :, r : r + 14, c : c + 14] = x[n]
        cell[n] = ((r + 7) // 8) * 4 + (c + 7) // 8
        offset[n] = torch.tensor([(r + 7) % 8 / 8, (c + 7) % 8 / 8])
    canvas = (canvas - 0.03) / 0.15

    def conv(i, o):
        return nn.Sequential(
            nn.Conv2d(i, o, 3, 2, 1, bias=False), nn.BatchNorm2d(o), nn.LeakyReLU(0.1)
        )

    model = nn.Sequential(conv(1, 16), conv(16, 32), conv(32, 64), nn.Conv2d(64, 13, 3, 1, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3, weight_decay=5e-4)
    loader = DataLoader(
        TensorDataset(canvas[:1300], cell[:1300], offset[:1300], y[:1300]), 32, shuffle=True
    )
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [5, 7], gamma=0.3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(8):
            for image, where, box, label in loader:
                out = model(image).flatten(2)
                rows = torch.arange(len(out))
                there = F.one_hot(where, 16).float()
                objectness = F.binary_cross_entropy_with_logits(out[:, 0], there)
                mine = out[rows, :, where]
                box_loss = F.mse_loss(mine[:, 1:3].sigmoid(), box)
                class_loss = F.cross_entropy(mine[:, 3:], label)
                loss = 5 * objectness + 5 * box_loss + class_loss
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(
                    loss=loss, obj_loss=objectness, box_loss=box_loss, class_loss=class_loss
                )
            scheduler.step()
    model.eval()
    with torch.no_grad():
        out = model(canvas[1300:]).flatten(2)
    found = out[:, 0].argmax(1)
    assert (found == cell[1300:count]).float().mean() > 0.7


@healthy
def deep_autoencoder_with_adam_and_a_step_schedule(watch):
    """196 to 8 and back, ELU, MSE; validation after each epoch."""
    torch.manual_seed(18)
    x, _ = small_digits()
    x = x.flatten(1)
    sizes = [196, 96, 32, 8]
    layers = []
    for i, o in pairwise(sizes + sizes[-2::-1]):
        layers += [nn.Linear(i, o), nn.ELU()]
    model = nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-5)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(10):
            running = 0.0
            loader = DataLoader(x[:2700], batch_size=90, shuffle=True)
            for batch in loader:
                reconstructed = model(batch)
                loss = F.mse_loss(reconstructed, batch)
                monitor.log(**{"loss/train": loss})
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                running += loss.item()
            scheduler.step()
            with torch.no_grad():
                val = F.mse_loss(model(x[2700:]), x[2700:])
            monitor.log(**{"loss/val": val})
    assert val < 0.03


@healthy
def ratings_factorised_by_sgd_with_decay(watch):
    """nn.Embedding of users and films, biases, weight decay, RMSE on held-out ratings."""
    torch.manual_seed(19)
    users, films, k = 150, 100, 4
    p, q = torch.randn(users, k) * 0.6, torch.randn(films, k) * 0.6
    u, f = torch.randint(users, (9000,)), torch.randint(films, (9000,))
    rating = (3.5 + (p[u] * q[f]).sum(1) + 0.3 * torch.randn(9000)).clamp(1, 5)

    class MF(nn.Module):
        def __init__(self):
            super().__init__()
            self.P, self.Q = nn.Embedding(users, 8), nn.Embedding(films, 8)
            self.bu, self.bi = nn.Embedding(users, 1), nn.Embedding(films, 1)
            self.mean = nn.Parameter(torch.tensor(3.0))
            for table in (self.P, self.Q):
                nn.init.normal_(table.weight, std=0.1)
            nn.init.zeros_(self.bu.weight)
            nn.init.zeros_(self.bi.weight)

        def forward(self, u, i):
            return (self.P(u) * self.Q(i)).sum(1) + self.bu(u)[:, 0] + self.bi(i)[:, 0] + self.mean

    model = MF()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=1e-4)
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(6):
            for rows in torch.randperm(8000).split(128):
                loss = F.mse_loss(model(u[rows], f[rows]), rating[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(mse=loss)
            with torch.no_grad():
                rmse = F.mse_loss(model(u[8000:], f[8000:]), rating[8000:]).sqrt()
            monitor.log(test_rmse=rmse)
    assert rmse < 0.6


@healthy
def siamese_network_with_a_contrastive_margin(watch):
    """Hadsell's loss on pairs, half of them alike; one network is passed twice."""
    torch.manual_seed(20)
    x, y = small_digits()
    by_digit = [torch.nonzero(y[:2500] == c)[:, 0] for c in range(10)]

    class Siamese(nn.Module):
        def __init__(self):
            super().__init__()
            self.cnn = nn.Sequential(
                nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(288, 64)
            )
            self.fc = nn.Sequential(nn.ReLU(), nn.Linear(64, 8))

        def forward_once(self, x):
            return self.fc(self.cnn(x))

        def forward(self, a, b):
            return self.forward_once(a), self.forward_once(b)

    def pairs(n):
        same = torch.rand(n) < 0.5
        first = torch.randint(2500, (n,))
        second = [
            random.choice(by_digit[d if s else (d + random.randint(1, 9)) % 10].tolist())
            for d, s in zip(y[first].tolist(), same.tolist(), strict=True)
        ]
        return x[first], x[second], same.float()

    random.seed(20)
    net = Siamese()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    with watch(net, optimizer, every=20) as monitor:
        for _ in range(300):
            a, b, same = pairs(48)
            out1, out2 = net(a, b)
            distance = F.pairwise_distance(out1, out2)
            loss = (same * distance**2 + (1 - same) * F.relu(2.0 - distance) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(contrastive_loss=loss)
    a, b, same = pairs(500)
    with torch.no_grad():
        close = F.pairwise_distance(*net(a, b)) < 1
    assert (close == same.bool()).float().mean() > 0.85


@healthy
def genres_of_films_of_which_several_hold(watch):
    """Multi-label by train_step() and valid_step(), BCE with logits, rare labels, micro F1."""
    torch.manual_seed(22)
    topics = torch.randn(12, 60)
    has = torch.bernoulli(torch.full((2000, 12), 0.15))
    text = has @ topics + 0.5 * torch.randn(2000, 60)
    text = (text - text[:1600].mean(0)) / text[:1600].std(0)
    model = nn.Sequential(nn.Linear(60, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 12))
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def train_step(x, y):
        model.train()
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    @torch.no_grad()
    def valid_step(x, y):
        model.eval()
        out = model(x)
        hit = ((out > 0) & (y > 0)).sum()
        return criterion(out, y).item(), (2 * hit / ((out > 0).sum() + y.sum())).item()

    with watch(model, optimizer, every=20) as monitor:
        for _ in range(10):
            for rows in torch.randperm(1600).split(64):
                monitor.log(train_loss=train_step(text[rows], has[rows]))
            val_loss, f1 = valid_step(text[1600:], has[1600:])
            monitor.log(val_loss=val_loss, val_f1=f1)
    assert f1 > 0.85


@healthy
def house_prices_standardised_with_early_stopping(watch):
    """Features and price by StandardScaler's formula; stops when validation does not improve."""
    torch.manual_seed(23)
    n = 1200
    rooms, age, area = (
        torch.randint(1, 7, (n,)).float(),
        50 * torch.rand(n),
        30 + 150 * torch.rand(n),
    )
    income, far = torch.randn(n).exp() * 3, 20 * torch.rand(n)
    price = area * 1500 * (1 + 0.1 * income) * (1 - far / 40) + rooms * 8000 - age * 500
    price = price + 15000 * torch.randn(n)
    features = torch.stack([rooms, age, area, income, far], 1)
    x = (features - features[:900].mean(0)) / features[:900].std(0)
    y = ((price - price[:900].mean()) / price[:900].std())[:, None]
    loader = DataLoader(TensorDataset(x[:900], y[:900]), batch_size=32, shuffle=True)
    model = nn.Sequential(
        nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss_fn = nn.MSELoss()
    best, patience, bad = math.inf, 5, 0
    with watch(model, optimizer, every=25) as monitor:
        for epoch in range(30):
            model.train()
            train_loss = 0.0
            for xb, yb in loader:
                optimizer.zero_grad()
                loss = loss_fn(model(xb), yb)
                loss.backward()
                optimizer.step()
                train_loss += loss.item() * len(xb) / 900
            model.eval()
            with torch.no_grad():
                val_loss = loss_fn(model(x[900:]), y[900:]).item()
            monitor.log(epoch=epoch, train_loss=train_loss, val_loss=val_loss)
            if val_loss < best:
                best, bad, state = val_loss, 0, copy.deepcopy(model.state_dict())
            else:
                bad += 1
                if bad == patience:
                    break
    model.load_state_dict(state)
    assert best < 0.25


@healthy
def power_consumption_by_causal_convolutions(watch):
    """Twelve hours ahead from 48, dilated Conv1d, Huber, ReduceLROnPlateau on validation."""
    torch.manual_seed(24)
    t = torch.arange(2200.0)
    load = 2 + torch.sin(2 * torch.pi * t / 24) + 0.4 * torch.sin(2 * torch.pi * t / 12 + 1)
    load = load + 0.3 * ((t // 24) % 7 < 5) + 0.1 * torch.randn(2200)
    load = (load - load[:1600].mean()) / load[:1600].std()
    windows = load.unfold(0, 60, 1)
    train, valid = windows[:1540], windows[1600:]

    class TCN(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.ModuleList(
                nn.Conv1d(1 if d == 1 else 16, 16, 3, dilation=d) for d in (1, 2, 4, 8)
            )
            self.head = nn.Linear(16, 12)

        def forward(self, x):
            x = x[:, None]
            for conv in self.convs:
                y = F.relu(conv(F.pad(x, (2 * conv.dilation[0], 0))))
                x = y + x if x.shape == y.shape else y
            return self.head(x[:, :, -1])

    model = TCN()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    loader = DataLoader(train, batch_size=64, shuffle=True)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(9):
            for batch in loader:
                past, future = batch[:, :48], batch[:, 48:]
                loss = F.huber_loss(model(past), future)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(huber=loss)
            with torch.no_grad():
                forecast = model(valid[:, :48])
            val = F.huber_loss(forecast, valid[:, 48:])
            mae = (forecast - valid[:, 48:]).abs().mean()
            scheduler.step(val)
            monitor.log(huber_val=val, mae_val=mae)
    assert val < 0.04


@healthy
def fine_tuning_a_digit_net_to_tell_odd_from_even(watch):
    """The head replaced, all layers trained at 5e-4 and the head at 3e-3, linear warm-up."""
    torch.manual_seed(25)
    x, y = small_digits()
    body = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(576, 64), nn.ReLU()
    )
    model = nn.Sequential(body, nn.Linear(64, 10))
    pretraining = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(120):
        rows = torch.randint(1500, (64,))
        pretraining.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        pretraining.step()
    model[1] = nn.Linear(64, 2)
    train_loader, test_loader = split(x, y % 2, 600, 32)
    optimizer = torch.optim.AdamW(
        [
            {"params": model[0].parameters(), "lr": 5e-4},
            {"params": model[1].parameters(), "lr": 3e-3},
        ],
        weight_decay=0.01,
    )
    epochs = 3
    total = epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / 20, (total - s) / (total - 20))
    )
    with watch(model, optimizer, every=15) as monitor:
        for _ in range(epochs):
            model.train()
            for xb, yb in train_loader:
                logits = model(xb)
                loss = F.cross_entropy(logits, yb)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
                monitor.log(loss=loss, output=logits, target=yb)
            loss_, accuracy = evaluate(model, test_loader)
            monitor.log(**{"loss/valid": loss_, "accuracy/valid": accuracy})
    assert accuracy > 0.8


@healthy
def student_learns_from_soft_targets_at_temperature_four(watch):
    """KLDivLoss batchmean times T squared, alpha 0.7, the teacher in evaluation mode."""
    torch.manual_seed(26)
    x, y = small_digits()
    x = x.flatten(1)
    train_loader, test_loader = split(x, y)
    teacher = nn.Sequential(nn.Linear(196, 200), nn.ReLU(), nn.Dropout(0.3), nn.Linear(200, 10))
    teaching = torch.optim.Adam(teacher.parameters(), lr=3e-3)
    for _ in range(4):
        for xb, yb in train_loader:
            teaching.zero_grad()
            F.cross_entropy(teacher(xb), yb).backward()
            teaching.step()
    teacher.eval()
    student = nn.Sequential(nn.Linear(196, 24), nn.ReLU(), nn.Linear(24, 10))
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9)
    T, alpha = 4.0, 0.7
    kl = nn.KLDivLoss(reduction="batchmean")
    with watch(student, optimizer, every=15) as monitor:
        for _ in range(6):
            for xb, yb in train_loader:
                with torch.no_grad():
                    teacher_logits = teacher(xb)
                logits = student(xb)
                soft = kl(F.log_softmax(logits / T, 1), F.softmax(teacher_logits / T, 1)) * T * T
                hard = F.cross_entropy(logits, yb)
                loss = alpha * soft + (1 - alpha) * hard
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=logits, target=yb)
    assert evaluate(student, test_loader)[1] > 0.87


@healthy
def augmented_and_smoothed_with_a_disabled_scaler(watch):
    """Shifts, erasing, label smoothing 0.1, OneCycle, autocast and GradScaler switched off."""
    torch.manual_seed(27)
    x, y = small_digits()
    x = (x - 0.13) / 0.28
    train_loader, test_loader = split(x, y)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.SiLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(128, 10),
    )
    use_amp, epochs = False, 5
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1e-2, epochs=epochs, steps_per_epoch=len(train_loader)
    )
    scaler = torch.amp.GradScaler("cuda", enabled=use_amp)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)

    def augment(images):
        dy, dx = torch.randint(-2, 3, (2,)).tolist()
        images = images.roll((dy, dx), (2, 3))
        r, c = torch.randint(0, 11, (2,)).tolist()
        images[:, :, r : r + 3, c : c + 3] = 0
        return images

    with watch(model, optimizer, every=20) as monitor:
        for _ in range(epochs):
            model.train()
            for inputs, targets in train_loader:
                optimizer.zero_grad()
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=use_amp):
                    outputs = model(augment(inputs))
                    loss = criterion(outputs, targets)
                scaler.scale(loss).backward()
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), 2.0)
                scaler.step(optimizer)
                scaler.update()
                scheduler.step()
                monitor.log(loss=loss, output=outputs, target=targets)
        test_loss, accuracy = evaluate(model, test_loader)
        monitor.log(**{"test/loss": test_loss, "test/accuracy": accuracy})
    assert accuracy > 0.85


@healthy
def spiral_in_1500_steps_of_a_tiny_net(watch):
    """Plain SGD on the full batch of three arms, as in CS231n, recorded every 50."""
    torch.manual_seed(28)
    r = torch.linspace(0, 1, 80).repeat(3)
    y = torch.arange(3).repeat_interleave(80)
    angle = 4 * y + 4 * r + 0.15 * torch.randn(240)
    x = torch.stack([r * angle.sin(), r * angle.cos()], 1)
    model = nn.Sequential(nn.Linear(2, 60), nn.ReLU(), nn.Linear(60, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.8, weight_decay=1e-4)
    with watch(model, optimizer, every=50) as monitor:
        for _ in range(1500):
            scores = model(x)
            loss = F.cross_entropy(scores, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=scores, target=y)
    assert (scores.argmax(1) == y).float().mean() > 0.95


@healthy
def majority_of_bits_by_an_elman_network_in_1000_steps(watch):
    """nn.RNN, Adam at 1e-3, fresh data in each step, every=50."""
    torch.manual_seed(29)
    rnn, fc = nn.RNN(1, 16, batch_first=True), nn.Linear(16, 1)
    model = nn.ModuleList([rnn, fc])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    accuracies = []
    with watch(model, optimizer, every=50) as monitor:
        for _ in range(1000):
            bits = torch.randint(2, (32, 11, 1)).float()
            many = (bits.mean(1) > 0.5).float()
            out = fc(rnn(bits)[0][:, -1])
            loss = F.binary_cross_entropy_with_logits(out, many)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            accuracies.append(((out > 0) == many.bool()).float().mean().item())
            monitor.log(loss=loss, acc=accuracies[-1])
    assert sum(accuracies[-50:]) / 50 > 0.9


@healthy
def quick_look_of_thirty_steps(watch):
    """A notebook's first run: one layer more than logistic regression, every=5."""
    torch.manual_seed(30)
    x, y = small_digits(2600)
    x = x.flatten(1)
    loader = DataLoader(TensorDataset(x[:1920], y[:1920]), batch_size=64, shuffle=True)
    model = nn.Sequential(nn.Linear(196, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    with watch(model, optimizer, every=5) as monitor:
        for batch_x, batch_y in loader:
            optimizer.zero_grad()
            logits = model(batch_x)
            loss = F.cross_entropy(logits, batch_y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            monitor.log(loss=loss.item(), output=logits, target=batch_y)
        with torch.no_grad():
            logits = model(x[1920:])
        accuracy = (logits.argmax(1) == y[1920:]).float().mean().item()
        monitor.log(test_loss=F.cross_entropy(logits, y[1920:]), test_accuracy=accuracy)
    assert losses[-1] < 2.1
    assert accuracy > 0.4


@healthy
def polynomial_of_pytorchs_tutorial_in_forty_steps(watch):
    """Linear regression on x, x^2, x^3 that are standardised; loss logged before the step."""
    torch.manual_seed(31)
    t = torch.linspace(-math.pi, math.pi, 500)
    x = torch.stack([t, t**2, t**3], 1)
    x = (x - x.mean(0)) / x.std(0)
    y = t.sin()[:, None]
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    with watch(model, optimizer, every=5) as monitor:
        for _ in range(40):
            loss = F.mse_loss(model(x), y)
            monitor.log(loss=loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert loss < 0.05


@healthy
def text_classifier_of_a_transformer_encoder(watch):
    """nn.TransformerEncoder with a padding mask, mean pooling, Adam 1e-3, per epoch validation."""
    torch.manual_seed(32)
    random.seed(32)

    def sample():
        label = random.randrange(3)
        words = [random.randint(31, 120) for _ in range(random.randint(6, 14))]
        for _ in range(3):
            words[random.randrange(len(words))] = label * 10 + random.randint(1, 10)
        return words + [0] * (14 - len(words)), label

    tokens, labels = map(torch.tensor, zip(*[sample() for _ in range(1300)], strict=True))
    train_loader, test_loader = split(tokens, labels, 300, 50)

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(121, 24, padding_idx=0)
            self.position = nn.Parameter(0.02 * torch.randn(14, 24))
            layer = nn.TransformerEncoderLayer(24, 4, 48, 0.1, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
            self.classify = nn.Linear(24, 3)

        def forward(self, x):
            pad = x == 0
            h = self.encoder(self.embedding(x) + self.position, src_key_padding_mask=pad)
            h = h.masked_fill(pad[..., None], 0).sum(1) / (~pad).sum(1, keepdim=True)
            return self.classify(h)

    model = Classifier()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    with watch(model, optimizer, every=15) as monitor:
        for _ in range(8):
            model.train()
            for x, y in train_loader:
                optimizer.zero_grad()
                out = model(x)
                loss = F.cross_entropy(out, y)
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=out, target=y)
            val_loss, val_acc = evaluate(model, test_loader)
            monitor.log(**{"val/loss": val_loss, "val/accuracy": val_acc})
    assert val_acc > 0.85


@healthy
def text_messages_by_a_small_lstm_until_it_converges(watch):
    """BCELoss and a sigmoid, validation after each of ten epochs, the last ones hardly better."""
    torch.manual_seed(33)
    random.seed(33)

    def message():
        spam = random.random() < 0.3
        words = [random.randint(30, 149) for _ in range(12)]
        for _ in range(2):
            words[random.randrange(12)] = random.randint(1, 15) if spam else random.randint(12, 29)
        return words, float(spam)

    x, y = map(torch.tensor, zip(*[message() for _ in range(1500)], strict=True))
    train = DataLoader(TensorDataset(x[:1200], y[:1200]), batch_size=64, shuffle=True)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(150, 12)
            self.lstm = nn.LSTM(12, 12, batch_first=True)
            self.dropout = nn.Dropout(0.2)
            self.fc = nn.Linear(12, 1)

        def forward(self, x):
            out, _ = self.lstm(self.embedding(x))
            return torch.sigmoid(self.fc(self.dropout(out[:, -1])))[:, 0]

    model = Net()
    criterion = nn.BCELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=1e-4)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(10):
            model.train()
            for a, b in train:
                optimizer.zero_grad()
                out = model(a)
                loss = criterion(out, b)
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)
            model.eval()
            with torch.no_grad():
                out = model(x[1200:])
            right = ((out > 0.5) == y[1200:].bool()).float().mean()
            monitor.log(**{"loss/validation": criterion(out, y[1200:]), "acc/validation": right})
    assert right > 0.85


@healthy
def proximal_policy_on_a_moving_target(watch):
    """PPO: four epochs of minibatches on each rollout, clip 0.2, return of each rollout logged."""
    torch.manual_seed(34)
    env, model = Chase(32), ActorCritic(2, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, eps=1e-5)
    returns_seen = []
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(40):
            obs, steps = env.reset(), []
            with torch.no_grad():
                for _ in range(8):
                    dist, value = model(obs)
                    action = dist.sample()
                    new, reward = env.step(action)
                    steps.append((obs, action, dist.log_prob(action), value, reward))
                    obs = new
            obs, action, old, value, reward = map(torch.stack, zip(*steps, strict=True))
            ret, returns = torch.zeros(32), torch.zeros(8, 32)
            for t in reversed(range(8)):
                returns[t] = ret = reward[t] + 0.9 * ret
            advantage = returns - value
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
            returns_seen.append(reward.sum(0).mean().item())
            monitor.log(episode_return=returns_seen[-1])
            flat = [part.flatten(0, 1) for part in (obs, action, old, returns, advantage)]
            for _ in range(4):
                for rows in torch.randperm(256).split(64):
                    o, a, lp, r, adv = (part[rows] for part in flat)
                    dist, v = model(o)
                    ratio = (dist.log_prob(a) - lp).exp()
                    pg = -torch.min(ratio * adv, ratio.clamp(0.8, 1.2) * adv).mean()
                    vf = F.mse_loss(v, r)
                    loss = pg + 0.5 * vf - 0.01 * dist.entropy().mean()
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                    optimizer.step()
                    monitor.log(loss=loss, pg_loss=pg, v_loss=vf)
    assert sum(returns_seen[-5:]) / 5 > 0.6 * returns_seen[0]


@healthy
def graph_convolution_of_a_few_labelled_nodes(watch):
    """Kipf and Welling: full batch, 20 labels a class, dropout 0.5, decay 5e-4, 200 epochs."""
    torch.manual_seed(35)
    n = 400
    y = torch.randint(4, (n,))
    same = y[:, None] == y[None]
    A = torch.bernoulli(torch.where(same, 0.06, 0.008)).triu(1)
    A = A + A.t() + torch.eye(n)
    d = A.sum(1).rsqrt()
    A = d[:, None] * A * d[None]
    x = torch.bernoulli(0.03 + 0.05 * (torch.arange(120) % 4 == y[:, None]))
    x = x / x.sum(1, keepdim=True).clamp(min=1)
    train = torch.cat([torch.nonzero(y == c)[:20, 0] for c in range(4)])
    val, test = torch.arange(150, 250), torch.arange(250, n)

    class GCN(nn.Module):
        def __init__(self):
            super().__init__()
            self.gc1, self.gc2 = nn.Linear(120, 16), nn.Linear(16, 4)

        def forward(self, x, adj):
            x = F.relu(adj @ self.gc1(x))
            x = F.dropout(x, 0.5, self.training)
            return F.log_softmax(adj @ self.gc2(x), dim=1)

    model = GCN()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(200):
            model.train()
            optimizer.zero_grad()
            output = model(x, A)
            loss_train = F.nll_loss(output[train], y[train])
            loss_train.backward()
            optimizer.step()
            model.eval()
            with torch.no_grad():
                output = model(x, A)
            acc_val = (output[val].argmax(1) == y[val]).float().mean()
            monitor.log(
                loss_train=loss_train, loss_val=F.nll_loss(output[val], y[val]), acc_val=acc_val
            )
        acc_test = (output[test].argmax(1) == y[test]).float().mean()
        monitor.log(acc_test=acc_test)
    assert acc_test > 0.8


@healthy
def picture_as_a_function_with_fourier_features(watch):
    """An implicit representation: coordinates to grey values, full batch, Adam 1e-3, PSNR."""
    torch.manual_seed(36)
    grid = torch.stack(
        torch.meshgrid(torch.linspace(0, 1, 32), torch.linspace(0, 1, 32), indexing="ij"), -1
    ).view(-1, 2)
    grey = 0.5 + 0.3 * torch.sin(14 * grid[:, 0]) * torch.cos(9 * grid[:, 1])
    grey = torch.where((grid - 0.5).norm(dim=1) < 0.25, 0.9, grey)[:, None]
    angles = 2 * math.pi * grid @ (4 * torch.randn(2, 32))
    features = torch.cat([angles.sin(), angles.cos()], 1)
    net = nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1), nn.Sigmoid()
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    with watch(net, optimizer, every=25) as monitor:
        for _ in range(300):
            loss = F.mse_loss(net(features), grey)
            psnr = -10 * loss.detach().log10()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(mse=loss, psnr=psnr)
    assert psnr > 30


@healthy
def heat_equation_by_a_physics_informed_net(watch):
    """Residual, boundary and initial losses; derivatives by autograd; collocation resampled."""
    torch.manual_seed(37)
    net = nn.Sequential(nn.Linear(2, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.996)

    def slope(f, x):
        return torch.autograd.grad(f.sum(), x, create_graph=True)[0]

    with watch(net, optimizer, every=25) as monitor:
        for _ in range(400):
            x, t = torch.rand(100, 1, requires_grad=True), torch.rand(100, 1, requires_grad=True)
            u = net(torch.cat([x, t], 1))
            residual = slope(u, t) - 0.1 * slope(slope(u, x), x)
            loss_pde = residual.square().mean()
            edge = torch.randint(2, (40, 1)).float()
            loss_bc = net(torch.cat([edge, torch.rand(40, 1)], 1)).square().mean()
            start = torch.rand(40, 1)
            u0 = net(torch.cat([start, torch.zeros(40, 1)], 1))
            loss_ic = (u0 - torch.sin(math.pi * start)).square().mean()
            loss = loss_pde + 10 * loss_bc + 10 * loss_ic
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            monitor.log(loss=loss, pde=loss_pde, bc=loss_bc, ic=loss_ic)
    x = torch.linspace(0, 1, 50)[:, None]
    exact = torch.sin(math.pi * x) * math.exp(-0.1 * math.pi**2 * 0.5)
    with torch.no_grad():
        error = (net(torch.cat([x, torch.full_like(x, 0.5)], 1)) - exact).abs().mean()
    assert error < 0.08


@healthy
def triplets_of_faces_by_their_margin(watch):
    """nn.TripletMarginLoss on normalised embeddings: many triplets are satisfied in the end."""
    torch.manual_seed(38)
    people = torch.randn(30, 40)
    net = nn.Sequential(nn.Linear(40, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 16))
    triplet = nn.TripletMarginLoss(margin=0.3)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-5)

    def photo(who):
        return people[who] + 1.5 * torch.randn(len(who), 40)

    def embed(x):
        return F.normalize(net(x), dim=1)

    with watch(net, optimizer, every=20) as monitor:
        for _ in range(300):
            who = torch.randint(30, (64,))
            other = (who + torch.randint(1, 30, (64,))) % 30
            stacked = embed(torch.cat([photo(who), photo(who), photo(other)]))
            anchor, positive, negative = stacked.chunk(3)
            loss = triplet(anchor, positive, negative)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            violated = (anchor * (positive - negative)).sum(1) < 0
            monitor.log(loss=loss, violated=violated)
    assert violated.float().mean() < 0.1


@healthy
def loan_defaults_of_one_in_eight(watch):
    """Tabular, categorical embeddings, pos_weight, AdamW, one record an epoch by hand."""
    torch.manual_seed(39)
    n = 3000
    job, region = torch.randint(12, (n,)), torch.randint(6, (n,))
    numbers = torch.randn(n, 6)
    risk = torch.randn(12)[job] + 0.5 * torch.randn(6)[region] + numbers @ torch.randn(6) - 3.6
    y = torch.bernoulli(risk.sigmoid())

    class Tabular(nn.Module):
        def __init__(self):
            super().__init__()
            self.job, self.region = nn.Embedding(12, 4), nn.Embedding(6, 3)
            self.bn = nn.BatchNorm1d(6)
            self.layers = nn.Sequential(
                nn.Linear(13, 50),
                nn.ReLU(inplace=True),
                nn.BatchNorm1d(50),
                nn.Dropout(0.1),
                nn.Linear(50, 1),
            )

        def forward(self, job, region, numbers):
            parts = [self.job(job), self.region(region), self.bn(numbers)]
            return self.layers(torch.cat(parts, 1))[:, 0]

    model = Tabular()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    criterion = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0))
    valid_rows = slice(2600, n)
    loader = DataLoader(
        TensorDataset(job[:2600], region[:2600], numbers[:2600], y[:2600]),
        64,
        shuffle=True,
        drop_last=True,
    )
    with watch(model, optimizer, every=40) as monitor:
        for _ in range(7):
            model.train()
            total = 0.0
            for a, b, c, target in loader:
                loss = criterion(model(a, b, c), target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item()
            model.eval()
            with torch.no_grad():
                out = model(job[valid_rows], region[valid_rows], numbers[valid_rows])
            truth = y[valid_rows].bool()
            auc = (out[truth][:, None] > out[~truth][None]).float().mean()
            valid = criterion(out, truth.float())
            monitor.log(train_loss=total / len(loader), valid_loss=valid, auc=auc)
    assert auc > 0.85


@healthy
def diffusion_of_a_two_dimensional_spiral(watch):
    """DDPM with 50 steps; the noise is predicted; the loss is noisy and has a floor."""
    torch.manual_seed(40)
    angle = 1.5 * math.pi * (1 + 2 * torch.rand(2000))
    data = torch.stack([angle * angle.cos(), angle * angle.sin()], 1) / 8
    T = 50
    betas = torch.linspace(1e-3, 0.15, T)
    alphas_bar = (1 - betas).cumprod(0)

    class Denoiser(nn.Module):
        def __init__(self):
            super().__init__()
            self.time = nn.Embedding(T, 32)
            self.into = nn.Linear(2, 96)
            self.net = nn.Sequential(
                nn.Linear(128, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 2)
            )

        def forward(self, x, t):
            return self.net(torch.cat([self.into(x), self.time(t)], 1))

    model = Denoiser()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses = []
    with watch(model, optimizer, every=40) as monitor:
        for _ in range(40):
            for x0 in DataLoader(data, batch_size=100, shuffle=True):
                t = torch.randint(T, (len(x0),))
                noise = torch.randn_like(x0)
                a = alphas_bar[t][:, None]
                loss = F.mse_loss(model(a.sqrt() * x0 + (1 - a).sqrt() * noise, t), noise)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
                monitor.log(loss=loss)
    assert sum(losses[-50:]) / 50 < 0.45


@healthy
def digits_by_accumulating_four_small_batches(watch):
    """loss / 4, a step after every fourth batch, loss logged in each micro-batch, StepLR."""
    torch.manual_seed(41)
    x, y = small_digits()
    train_loader, test_loader = split(x.flatten(1), y, batch_size=16)
    model = nn.Sequential(
        nn.Linear(196, 64), nn.LayerNorm(64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.3)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(5):
            model.train()
            for i, (a, b) in enumerate(train_loader):
                out = model(a)
                loss = F.cross_entropy(out, b)
                (loss / 4).backward()
                monitor.log(loss=loss, output=out, target=b)
                if (i + 1) % 4 == 0 or i + 1 == len(train_loader):
                    optimizer.step()
                    optimizer.zero_grad()
            scheduler.step()
            loss_, accuracy = evaluate(model, test_loader)
            monitor.log(**{"loss/validation": loss_, "accuracy/validation": accuracy})
    assert accuracy > 0.85


@healthy
def actor_and_critic_of_a_pendulum_like_ddpg(watch):
    """Two networks, two optimizers, soft targets, exploration noise; only losses are logged."""
    torch.manual_seed(42)
    random.seed(42)
    actor = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 1), nn.Tanh())
    critic = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 1))
    actor_target, critic_target = copy.deepcopy(actor), copy.deepcopy(critic)
    actor_opt = torch.optim.Adam(actor.parameters(), lr=1e-3)
    critic_opt = torch.optim.Adam(critic.parameters(), lr=3e-3)

    def dynamics(s, a):
        v = (s[:, 1:] + 0.2 * a).clamp(-1, 1)
        new = torch.cat([s[:, :1] + 0.2 * v, v], 1)
        return new, -(new[:, :1] ** 2) - 0.1 * v**2

    def cost():
        s, total = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.5, 0.5]]), 0.0
        with torch.no_grad():
            for _ in range(30):
                s, r = dynamics(s, actor(s))
                total -= r.mean().item()
        return total

    before, state, buffer = cost(), torch.rand(16, 2) * 2 - 1, []
    with (
        watch(critic, critic_opt, every=20) as critic_m,
        watch(actor, actor_opt, every=20) as actor_m,
    ):
        for step in range(350):
            if step % 20 == 0:
                state = torch.rand(16, 2) * 2 - 1
            with torch.no_grad():
                action = (actor(state) + 0.3 * torch.randn(16, 1)).clamp(-1, 1)
            new, reward = dynamics(state, action)
            buffer.append((state, action, reward, new))
            state = new
            s, a, r, n = map(
                torch.cat, zip(*random.sample(buffer, min(4, len(buffer))), strict=True)
            )
            with torch.no_grad():
                q_next = critic_target(torch.cat([n, actor_target(n)], 1))
            critic_loss = F.mse_loss(critic(torch.cat([s, a], 1)), r + 0.95 * q_next)
            critic_opt.zero_grad()
            critic_loss.backward()
            critic_opt.step()
            critic_m.log(critic_loss=critic_loss)
            actor_loss = -critic(torch.cat([s, actor(s)], 1)).mean()
            actor_opt.zero_grad()
            actor_loss.backward()
            actor_opt.step()
            actor_m.log(actor_loss=actor_loss)
            with torch.no_grad():
                for target, source in ((actor_target, actor), (critic_target, critic)):
                    for p, q in zip(target.parameters(), source.parameters(), strict=True):
                        p.lerp_(q, 0.02)
    assert cost() < 0.7 * before


@healthy
def validation_first_then_training_as_lightning_does(watch):
    """A sanity check before the first step; averages of epochs are logged, not of batches."""
    torch.manual_seed(43)
    x, y = small_digits()
    train_loader, val_loader = split((x - 0.13) / 0.28, y, batch_size=50)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(200, 10)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=16) as monitor:
        val_loss, val_acc = evaluate(model, val_loader)
        monitor.log(val_loss=val_loss, val_acc=val_acc)
        for _ in range(6):
            model.train()
            losses = []
            for inputs, targets in train_loader:
                loss = F.cross_entropy(model(inputs), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            val_loss, val_acc = evaluate(model, val_loader)
            train_loss = sum(losses) / len(losses)
            monitor.log(train_loss=train_loss, val_loss=val_loss, val_acc=val_acc)
    assert val_acc > 0.88


@healthy
def stock_of_words_by_continuous_bag_of_words(watch):
    """CBOW with a full softmax over 60 words, SGD of the tutorial, loss per batch."""
    torch.manual_seed(44)
    words = english(500, seed=9).replace("\n", " ").split()
    vocabulary = {w: i for i, w in enumerate(sorted(set(words)))}
    ids = torch.tensor([vocabulary[w] for w in words])
    windows = ids.unfold(0, 5, 1)
    context, middle = windows[:, [0, 1, 3, 4]], windows[:, 2]
    model = nn.Sequential(
        nn.Embedding(len(vocabulary), 16), nn.Flatten(), nn.Linear(64, len(vocabulary))
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(6):
            for rows in torch.randperm(len(middle)).split(64):
                logits = model(context[rows])
                loss = F.cross_entropy(logits, middle[rows])
                model.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
                monitor.log(loss=loss, output=logits, target=middle[rows])
    assert sum(losses[-20:]) / 20 < 1.2


def small_set(seed, n, noise=0.7):
    """Two overlapping classes of ten features."""
    torch.manual_seed(seed)
    y = torch.randint(2, (n,))
    x = torch.randn(n, 10)
    x[:, :3] += noise * (2 * y[:, None] - 1)
    return x, y


@healthy
def churn_of_customers_with_a_tiny_validation_set(watch):
    """Sixty samples of validation, whose loss wavers by itself; dropout and decay."""
    x, y = small_set(50, 1060)
    train = DataLoader(TensorDataset(x[:1000], y[:1000]), batch_size=50, shuffle=True)
    model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, weight_decay=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(12):
            model.train()
            for a, b in train:
                optimizer.zero_grad()
                out = model(a)
                loss = F.cross_entropy(out, b)
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=out, target=b)
            val_loss, val_acc = evaluate(model, [(x[1000:], y[1000:])])
            monitor.log(**{"loss/validation": val_loss, "accuracy/validation": val_acc})
    assert val_acc > 0.8


@healthy
def easy_digits_zero_and_one_down_to_a_loss_of_a_thousandth(watch):
    """A loss near 0 for both; validation may go from 0.002 to 0.004 and mean nothing."""
    torch.manual_seed(51)
    x, y = small_digits(6000)
    keep = y < 2
    x, y = x[keep].flatten(1), y[keep]
    train, test = split(x, y, 200, 32)
    model = nn.Sequential(nn.Linear(196, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(8):
            for a, b in train:
                out = model(a)
                loss = F.cross_entropy(out, b)
                monitor.log(train_loss=loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            val_loss, val_acc = evaluate(model, test)
            monitor.log(val_loss=val_loss, val_acc=val_acc)
    assert val_acc > 0.99


@healthy
def four_samples_a_step_by_plain_sgd(watch):
    """Losses of single batches jump between 0 and 2, their mean falls."""
    torch.manual_seed(52)
    x, y = small_digits(1600)
    loader = DataLoader(TensorDataset(x[:1500], y[:1500]), batch_size=4, shuffle=True)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(288, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    with watch(model, optimizer, every=50) as monitor:
        for _ in range(2):
            running = []
            for a, b in loader:
                optimizer.zero_grad()
                loss = F.cross_entropy(model(a), b)
                loss.backward()
                optimizer.step()
                running.append(loss.item())
                monitor.log(loss=loss)
    assert sum(running[-100:]) / 100 < 0.7


@healthy
def wine_quality_by_mean_absolute_error(watch):
    """L1 loss, SGD with momentum at 1e-2, targets 3 to 8 centred by the last bias at once."""
    torch.manual_seed(53)
    x = torch.randn(1500, 11)
    quality = (5.6 + x @ (0.25 * torch.randn(11)) + 0.5 * torch.randn(1500)).round().clamp(3, 8)
    model = nn.Sequential(nn.Linear(11, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
    loader = DataLoader(TensorDataset(x[:1200], quality[:1200, None]), 40, shuffle=True)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(10):
            for a, b in loader:
                loss = F.l1_loss(model(a), b)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(mae=loss)
            with torch.no_grad():
                test = F.l1_loss(model(x[1200:]), quality[1200:, None])
            monitor.log(**{"mae/test": test})
    assert test < 0.65


@healthy
def bert_like_fine_tuning_in_three_epochs_at_a_small_rate(watch):
    """An encoder pretrained on masked words, then sentiment: AdamW 5e-4, linear decay to 0."""
    torch.manual_seed(54)
    vocabulary, length = 60, 12
    mood = torch.randint(2, (1600,))
    x = torch.randint(21, vocabulary, (1600, length))
    for _ in range(3):
        at = torch.randint(length, (1600,))
        x[torch.arange(1600), at] = torch.randint(1, 11, (1600,)) + 10 * mood
    embedding, position = nn.Embedding(vocabulary, 32), nn.Parameter(0.02 * torch.randn(length, 32))
    layer = nn.TransformerEncoderLayer(32, 4, 64, 0.1, activation="gelu", batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    class Bert(nn.Module):
        def __init__(self, outputs):
            super().__init__()
            self.embedding, self.position, self.encoder = embedding, position, encoder
            self.head = nn.Linear(32, outputs)

        def forward(self, ids):
            return self.encoder(self.embedding(ids) + self.position)

    masked = Bert(vocabulary)
    pretraining = torch.optim.AdamW(masked.parameters(), lr=2e-3)
    for _ in range(150):
        batch = x[torch.randint(1300, (64,))]
        hide = torch.rand(batch.shape) < 0.2
        scores = masked.head(masked(batch.masked_fill(hide, 0)))
        pretraining.zero_grad()
        F.cross_entropy(scores[hide], batch[hide]).backward()
        pretraining.step()
    model = Bert(2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.01)
    loader = DataLoader(TensorDataset(x[:1300], mood[:1300]), 32, shuffle=True)
    total = 3 * len(loader)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(3):
            model.train()
            for a, b in loader:
                logits = model.head(model(a).mean(1))
                loss = F.cross_entropy(logits, b)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
                monitor.log(loss=loss, output=logits, target=b)
            model.eval()
            with torch.no_grad():
                logits = model.head(model(x[1300:]).mean(1))
            accuracy = (logits.argmax(1) == mood[1300:]).float().mean()
            monitor.log(eval_loss=F.cross_entropy(logits, mood[1300:]), eval_accuracy=accuracy)
    assert accuracy > 0.9


@healthy
def momentum_contrast_with_a_queue(watch):
    """MoCo: a key encoder that follows, 512 negatives in a queue; the loss rises as it fills."""
    torch.manual_seed(55)
    x, y = small_digits()

    def encoder():
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(784, 64),
            nn.BatchNorm1d(64),
            nn.ReLU(),
            nn.Linear(64, 32),
        )

    def augment(images):
        images = images.roll(torch.randint(-1, 2, (2,)).tolist(), (2, 3))
        return images * (torch.rand(images.shape) < 0.9) + 0.1 * torch.randn(images.shape)

    query = encoder()
    key = copy.deepcopy(query).requires_grad_(False)
    queue = F.normalize(torch.randn(512, 32), dim=1)
    optimizer = torch.optim.Adam(query.parameters(), lr=1e-3, weight_decay=1e-4)
    with watch(query, optimizer, every=20) as monitor:
        for step in range(300):
            batch = x[torch.randint(2500, (64,))]
            q = F.normalize(query(augment(batch)), dim=1)
            with torch.no_grad():
                for p, k in zip(query.parameters(), key.parameters(), strict=True):
                    k.lerp_(p, 0.05)
                k = F.normalize(key(augment(batch)), dim=1)
            logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.t()], 1) / 0.1
            loss = F.cross_entropy(logits, torch.zeros(64, dtype=torch.long))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            at = step * 64 % 512
            queue[at : at + 64] = k
            monitor.log(loss=loss)
    with torch.no_grad():
        z = F.normalize(query(x), dim=1)
    near = (z[2500:] @ z[:2500].t()).argmax(1)
    assert (y[near] == y[2500:]).float().mean() > 0.75


@healthy
def soft_actor_critic_of_a_one_step_bandit(watch):
    """Continuous actions, an entropy bonus, reward logged; three losses wander."""
    torch.manual_seed(56)
    policy = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2))
    q = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 1))
    policy_opt = torch.optim.Adam(policy.parameters(), lr=3e-3)
    q_opt = torch.optim.Adam(q.parameters(), lr=3e-3)
    rewards = []

    def act(s):
        mean, log_std = policy(s).chunk(2, 1)
        dist = torch.distributions.Normal(mean, log_std.clamp(-3, 1).exp())
        raw = dist.rsample()
        a = raw.tanh()
        return a, dist.log_prob(raw) - (1 - a**2 + 1e-6).log()

    with watch(policy, policy_opt, every=20) as monitor:
        for _ in range(400):
            s = torch.rand(64, 2) * 2 - 1
            with torch.no_grad():
                a, _ = act(s)
                r = -((a - 0.8 * s[:, :1] * s[:, 1:].sign()) ** 2) + 0.1 * torch.randn(64, 1)
            q_loss = F.mse_loss(q(torch.cat([s, a], 1)), r)
            q_opt.zero_grad()
            q_loss.backward()
            q_opt.step()
            a, logp = act(s)
            policy_loss = (0.02 * logp - q(torch.cat([s, a], 1))).mean()
            policy_opt.zero_grad()
            policy_loss.backward()
            policy_opt.step()
            rewards.append(r.mean().item())
            monitor.log(q_loss=q_loss, policy_loss=policy_loss, reward=r.mean())
    assert sum(rewards[-20:]) / 20 > -0.2


@healthy
def twenty_steps_of_a_large_batch(watch):
    """A smoke test: 20 steps, every=5, SGD at 0.1 with momentum, batches of 400."""
    torch.manual_seed(57)
    x, y = small_digits(4000)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with watch(model, optimizer, every=5) as monitor:
        for rows in [*torch.randperm(4000).split(400), *torch.randperm(4000).split(400)]:
            optimizer.zero_grad()
            out = model(x[rows])
            loss = F.cross_entropy(out, y[rows])
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=out, target=y[rows])
    assert loss < 0.8


@healthy
def prices_of_the_next_day_hardly_foreseen_by_an_lstm(watch):
    """Autoregressive returns with much noise: MSE falls by a fifth to its floor, in early steps."""
    torch.manual_seed(58)
    r = torch.zeros(3000)
    for t in range(1, 3000):
        r[t] = 0.5 * r[t - 1] + torch.randn(())
    r = r / r[:2400].std()
    windows = r.unfold(0, 11, 1)
    train, valid = windows[:2400], windows[2400:]

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.fc = nn.LSTM(1, 16, batch_first=True), nn.Linear(16, 1)

        def forward(self, x):
            return self.fc(self.lstm(x[..., None])[0][:, -1])[:, 0]

    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(5):
            for batch in DataLoader(train, batch_size=48, shuffle=True):
                optimizer.zero_grad()
                loss = F.mse_loss(model(batch[:, :-1]), batch[:, -1])
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)
            with torch.no_grad():
                val = F.mse_loss(model(valid[:, :-1]), valid[:, -1])
            monitor.log(val_loss=val)
    assert val < 0.88


@healthy
def small_vit_with_patches_of_seven(watch):
    """nn.TransformerEncoder, a class token, AdamW 2e-3 with 0.05, cosine, no warm-up, GELU."""
    torch.manual_seed(59)
    x, y = small_digits(3600)
    train, test = split((x - 0.13) / 0.28, y, 600, 32)

    class ViT(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch = nn.Conv2d(1, 32, 7, 7)
            self.cls = nn.Parameter(torch.zeros(1, 1, 32))
            self.pos = nn.Parameter(0.02 * torch.randn(1, 5, 32))
            layer = nn.TransformerEncoderLayer(
                32, 4, 64, 0.1, "gelu", batch_first=True, norm_first=True
            )
            self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
            self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 10)

        def forward(self, x):
            x = self.patch(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.pos
            return self.head(self.norm(self.encoder(x)[:, 0]))

    model = ViT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3 * len(train))
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(3):
            model.train()
            for a, b in train:
                out = model(a)
                loss = F.cross_entropy(out, b)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
                monitor.log(loss=loss, acc=(out.argmax(1) == b).float().mean() * 100)
            val_loss, val_acc = evaluate(model, test)
            monitor.log(val_loss=val_loss, val_acc=100 * val_acc)
    assert val_acc > 0.6
