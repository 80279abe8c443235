"""Sound trainings on text and sequences, by the recipes of their fields."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import lr_scheduler

from . import healthy


def text():
    """English from torch's own documentation, as indices of its characters."""
    documented = (nn.LSTM, nn.TransformerEncoderLayer, nn.Transformer, nn.CTCLoss, nn.Linear)
    letters = " ".join(" ".join(each.__doc__.split()) for each in documented).lower()
    letters = "".join(c for c in letters if c in "abcdefghijklmnopqrstuvwxyz .,()")
    alphabet = sorted(set(letters))
    return torch.tensor([alphabet.index(c) for c in letters]), len(alphabet)


def grammar(count, length, generator=None):
    """Sentences of a Markov chain over 24 words, each of which has three likely successors."""
    likely = torch.randint(24, (24, 3), generator=torch.Generator().manual_seed(5))
    words = torch.randint(24, (count, length), generator=generator)
    for before, now in pairwise(range(length)):
        follows = likely[words[:, before], torch.randint(3, (count,), generator=generator)]
        likes = torch.rand(count, generator=generator) < 0.95
        words[:, now] = torch.where(likes, follows, words[:, now])
    return words


@healthy
def character_lstm_with_its_state_carried_over(watch):
    """Backpropagation through time, truncated at 24 characters; clipped at 5."""

    class Model(nn.Module):
        def __init__(self, letters):
            super().__init__()
            self.embedding = nn.Embedding(letters, 24)
            self.lstm = nn.LSTM(24, 96, batch_first=True)
            self.dropout = nn.Dropout(0.1)
            self.head = nn.Linear(96, letters)

        def forward(self, x, state):
            x, state = self.lstm(self.embedding(x), state)
            return self.head(self.dropout(x)), state

    torch.manual_seed(0)
    letters, many = text()
    rows, length = 16, 24
    streams = letters[: len(letters) // rows * rows].reshape(rows, -1)
    model = Model(many)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(7):
            state = None
            for start in range(0, streams.shape[1] - length - 1, length):
                x = streams[:, start : start + length]
                y = streams[:, start + 1 : start + length + 1]
                output, state = model(x, state)
                state = tuple(each.detach() for each in state)
                loss = F.cross_entropy(output.transpose(1, 2), y)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 5.0)
                optimizer.step()
                monitor.log(
                    loss=loss, perplexity=loss.exp(), output=output.transpose(1, 2), target=y
                )
    assert loss < 2.0


@healthy
def gru_that_copies_by_rmsprop(watch):
    """Four symbols are read, and are to be said again in the four steps after."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(9, 64)
            self.head = nn.Linear(64, 8)

        def forward(self, symbols):
            x = F.one_hot(symbols, 9).float()
            blank = F.one_hot(torch.full_like(symbols, 8), 9).float()
            return self.head(self.gru(torch.cat([x, blank]))[0][len(symbols) :])

    torch.manual_seed(1)
    model = Model()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=3e-3)
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(400):
            symbols = torch.randint(8, (4, 64))
            output = model(symbols).permute(1, 2, 0)
            loss = F.cross_entropy(output, symbols.T)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_value_(model.parameters(), 1.0)
            optimizer.step()
            monitor.log(loss=loss, output=output, target=symbols.T)
    assert loss < 1.0


class Block(nn.Module):
    def __init__(self, width, heads=2):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x):
        many, length, _ = x.shape
        q, k, v = (
            each.reshape(many, length, self.heads, -1).transpose(1, 2)
            for each in self.qkv(self.norm1(x)).chunk(3, -1)
        )
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.projection(seen.transpose(1, 2).reshape(x.shape))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, words, length, width=32, depth=2):
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.Sequential(*[Block(width) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, words, bias=False)
        self.head.weight = self.words.weight
        for name, param in self.named_parameters():
            if param.dim() == 2:
                deep = name.endswith(("projection.weight", "mlp.2.weight"))
                nn.init.normal_(param, std=0.02 / (math.sqrt(2 * depth) if deep else 1))
            elif name.endswith("bias"):
                nn.init.zeros_(param)

    def forward(self, x):
        x = self.words(x) + self.positions(torch.arange(x.shape[1]))
        return self.head(self.norm(self.blocks(x)))


@healthy
def gpt_with_warm_up_and_cosine_clipped_at_one(watch):
    """As in nanoGPT: tied embeddings, no decay of vectors, beta2 0.95, the rate ends at a tenth."""
    torch.manual_seed(2)
    letters, many = text()
    train, validation = letters[: len(letters) * 9 // 10], letters[len(letters) * 9 // 10 :]
    length, steps, warm_up = 32, 300, 30
    model = GPT(many, length)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.1},
            {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
        ],
        lr=6e-3,
        betas=(0.9, 0.95),
    )

    def rate(step):
        if step < warm_up:
            return (step + 1) / warm_up
        done = (step - warm_up) / (steps - warm_up)
        return 0.1 + 0.45 * (1 + math.cos(math.pi * done))

    def batch(letters, size=16):
        starts = torch.randint(len(letters) - length - 1, (size,))
        rows = torch.stack([letters[start : start + length + 1] for start in starts])
        return rows[:, :-1], rows[:, 1:]

    scheduler = lr_scheduler.LambdaLR(optimizer, rate)
    with watch(model, optimizer, every=20) as monitor:
        for step in range(steps):
            x, y = batch(train)
            output = model(x).transpose(1, 2)
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            monitor.log(loss=loss, output=output, target=y, norm=norm)
            if step % 50 == 49:
                model.eval()
                with torch.no_grad():
                    x, y = batch(validation, 32)
                    held_out = F.cross_entropy(model(x).transpose(1, 2), y)
                model.train()
                monitor.log(**{"loss/validation": held_out})
    assert loss < 2.7


@healthy
def skip_gram_with_sparse_gradients(watch):
    """word2vec by negative sampling and SparseAdam."""

    class SkipGram(nn.Module):
        def __init__(self, words, width):
            super().__init__()
            self.center = nn.Embedding(words, width, sparse=True)
            self.context = nn.Embedding(words, width, sparse=True)
            nn.init.uniform_(self.center.weight, -0.5 / width, 0.5 / width)
            nn.init.zeros_(self.context.weight)

        def forward(self, center, context, negative):
            center = self.center(center)
            positive = (center * self.context(context)).sum(1)
            negative = (self.context(negative) @ center.unsqueeze(2)).squeeze(2)
            return -(F.logsigmoid(positive) + F.logsigmoid(-negative).sum(1)).mean()

    torch.manual_seed(3)
    topics, words, width = 10, 500, 32
    model = SkipGram(words, width)
    optimizer = torch.optim.SparseAdam(list(model.parameters()), lr=0.02)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(400):
            topic = torch.randint(topics, (128, 1))
            # Words of a topic stand beside each other; small ones are frequent, as in Zipf's law.
            rank = (torch.rand(128, 2) ** 2 * (words // topics)).long()
            center, context = (topic + topics * rank).unbind(1)
            negative = topics * (torch.rand(128, 5) ** 1.5 * (words // topics)).long()
            loss = model(center, context, negative + torch.randint(topics, (128, 5)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    assert loss < 2.8


@healthy
def glove_by_adagrad(watch):
    """Vectors whose products are the logarithms of how often words meet, weighted as in GloVe."""

    class GloVe(nn.Module):
        def __init__(self, words, width):
            super().__init__()
            self.word, self.context = nn.Embedding(words, width), nn.Embedding(words, width)
            self.word_bias, self.context_bias = nn.Embedding(words, 1), nn.Embedding(words, 1)
            for each in self.parameters():
                nn.init.uniform_(each, -0.5 / width, 0.5 / width)

        def forward(self, i, j):
            product = (self.word(i) * self.context(j)).sum(-1)
            return product + self.word_bias(i).squeeze(-1) + self.context_bias(j).squeeze(-1)

    torch.manual_seed(4)
    words = 200
    meaning = torch.randn(words, 6)
    frequency = torch.arange(1, words + 1).float().log().neg()
    rate = (5 + 0.5 * meaning @ meaning.T + frequency + frequency[:, None]).exp()
    counts = torch.poisson(rate.clamp(max=2000))
    pairs = counts.nonzero()
    model = GloVe(words, 16)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.05)
    first = None
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(20):
            for chosen in torch.randperm(len(pairs)).split(256):
                i, j = pairs[chosen].unbind(1)
                count = counts[i, j]
                weight = (count / 100).clamp(max=1) ** 0.75
                loss = (weight * (model(i, j) - count.log()) ** 2).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)
                first = first or loss.item()
    assert loss < first / 10


@healthy
def bag_of_words_by_the_tutorial(watch):
    """EmbeddingBag with offsets, SGD at a rate of 5 that falls to a tenth, clipped at 0.1."""

    class TextClassifier(nn.Module):
        def __init__(self, words, width, classes):
            super().__init__()
            self.embedding = nn.EmbeddingBag(words, width, sparse=False)
            self.fc = nn.Linear(width, classes)
            self.embedding.weight.data.uniform_(-0.5, 0.5)
            self.fc.weight.data.uniform_(-0.5, 0.5)
            self.fc.bias.data.zero_()

        def forward(self, text, offsets):
            return self.fc(self.embedding(text, offsets))

    torch.manual_seed(5)
    words, classes = 1000, 4
    typical = torch.randint(words, (classes, 60))

    def collate(labels):
        texts = []
        for label in labels:
            length = torch.randint(10, 50, ()).item()
            of_class = typical[label, torch.randint(60, (length,))]
            texts.append(
                torch.where(torch.rand(length) < 0.3, of_class, torch.randint(words, (length,)))
            )
        lengths = torch.tensor([0] + [len(each) for each in texts[:-1]])
        return torch.cat(texts), lengths.cumsum(0)

    model = TextClassifier(words, 32, classes)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=5.0)
    scheduler = lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
    with watch(model, optimizer, every=20) as monitor:
        for epoch in range(2):
            model.train()
            for _ in range(150):
                labels = torch.randint(classes, (64,))
                optimizer.zero_grad()
                output = model(*collate(labels))
                loss = criterion(output, labels)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)
                optimizer.step()
                monitor.log(loss=loss, output=output, target=labels)
            model.eval()
            with torch.no_grad():
                labels = torch.randint(classes, (300,))
                right = (model(*collate(labels)).argmax(1) == labels).float().mean()
            monitor.log(**{"accuracy/validation": right}, epoch=epoch)
            scheduler.step()
    assert right > 0.8


class LoRA(nn.Module):
    def __init__(self, linear, rank=4, alpha=8):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.a = nn.Linear(linear.in_features, rank, bias=False)
        self.b = nn.Linear(rank, linear.out_features, bias=False)
        nn.init.kaiming_uniform_(self.a.weight, a=math.sqrt(5))
        nn.init.zeros_(self.b.weight)
        self.scale = alpha / rank

    def forward(self, x):
        return self.linear(x) + self.scale * self.b(self.a(x))


@healthy
def low_rank_adapters_in_a_frozen_gpt(watch):
    """It was trained on one language; the other has the same grammar but a few words exchanged."""
    torch.manual_seed(6)
    model = GPT(24, 16)
    of_before = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(120):
        words = grammar(32, 17)
        of_before.zero_grad()
        F.cross_entropy(model(words[:, :-1]).transpose(1, 2), words[:, 1:]).backward()
        of_before.step()

    model.requires_grad_(False)
    for block in model.blocks:
        block.qkv = LoRA(block.qkv)
        block.mlp[0] = LoRA(block.mlp[0])
        block.mlp[2] = LoRA(block.mlp[2])
    adapters = [param for param in model.parameters() if param.requires_grad]
    optimizer = torch.optim.AdamW(adapters, lr=5e-3, weight_decay=0.0)
    exchanged = torch.arange(24)
    exchanged[:8] = exchanged[:8].roll(1)
    first = None
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(200):
            words = exchanged[grammar(32, 17)]
            output = model(words[:, :-1]).transpose(1, 2)
            loss = F.cross_entropy(output, words[:, 1:])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=words[:, 1:])
            first = first or loss.item()
    assert loss < 0.7 * first


@healthy
def connectionist_temporal_classification_of_drawn_out_sounds(watch):
    class Recogniser(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(8, 32, 3, padding=1)
            self.norm = nn.BatchNorm1d(32)
            self.relu = nn.ReLU()
            self.lstm = nn.LSTM(32, 24, bidirectional=True, batch_first=True)
            self.head = nn.Linear(48, 7)

        def forward(self, x):
            x = self.relu(self.norm(self.conv(x.transpose(1, 2)))).transpose(1, 2)
            return self.head(self.lstm(x)[0])

    torch.manual_seed(7)
    sounds = torch.randn(7, 8)

    def batch(size=32, symbols=4):
        targets = torch.randint(1, 7, (size, symbols))
        frames, lengths = torch.zeros(size, 28, 8), []
        for row, target in zip(frames, targets, strict=True):
            drawn_out = target.repeat_interleave(torch.randint(3, 7, (symbols,)))
            row[: len(drawn_out)] = sounds[drawn_out]
            lengths.append(len(drawn_out))
        return frames + 0.3 * torch.randn_like(frames), targets, torch.tensor(lengths)

    model = Recogniser()
    criterion = nn.CTCLoss(blank=0, zero_infinity=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(220):
            frames, targets, lengths = batch()
            scores = model(frames).log_softmax(2).transpose(0, 1)
            loss = criterion(scores, targets, lengths, torch.full((len(targets),), 4))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            monitor.log(loss=loss)
    assert loss < 0.5


@healthy
def encoder_and_decoder_with_attention_and_an_optimizer_each(watch):
    """A sentence is said again backwards; the right word is fed in two of three batches."""

    class Encoder(nn.Module):
        def __init__(self, words, width):
            super().__init__()
            self.embedding = nn.Embedding(words, width)
            self.gru = nn.GRU(width, width, batch_first=True)

        def forward(self, x):
            return self.gru(self.embedding(x))

    class Decoder(nn.Module):
        def __init__(self, words, width):
            super().__init__()
            self.embedding = nn.Embedding(words, width)
            self.query = nn.Linear(width, width)
            self.key = nn.Linear(width, width)
            self.energy = nn.Linear(width, 1)
            self.gru = nn.GRU(2 * width, width, batch_first=True)
            self.head = nn.Linear(width, words)

        def forward(self, word, state, memory):
            energy = self.energy(torch.tanh(self.query(state[0])[:, None] + self.key(memory)))
            context = (energy.softmax(1) * memory).sum(1, keepdim=True)
            x = torch.cat([self.embedding(word)[:, None], context], 2)
            x, state = self.gru(x, state)
            return self.head(x[:, 0]), state

    torch.manual_seed(8)
    start, length, width = 10, 6, 48
    encoder, decoder = Encoder(11, width), Decoder(11, width)
    of_encoder = torch.optim.Adam(encoder.parameters(), lr=4e-3)
    of_decoder = torch.optim.Adam(decoder.parameters(), lr=4e-3)
    models = {"encoder": encoder, "decoder": decoder}
    with watch(models, {"encoder": of_encoder, "decoder": of_decoder}, every=20) as monitor:
        for step in range(220):
            source = torch.randint(10, (64, length))
            target = source.flip(1)
            memory, state = encoder(source)
            word = torch.full((64,), start)
            loss, right = 0, 0
            for place in range(length):
                output, state = decoder(word, state, memory)
                loss = loss + F.cross_entropy(output, target[:, place]) / length
                said = output.argmax(1)
                right += (said == target[:, place]).float().mean().item() / length
                word = said if step % 3 == 2 else target[:, place]
            of_encoder.zero_grad()
            of_decoder.zero_grad()
            loss.backward()
            of_encoder.step()
            of_decoder.step()
            monitor.log(loss=loss, accuracy=right)
    assert loss < 1.5


@healthy
def mixture_of_experts_whose_load_is_balanced(watch):
    """The two best of four experts, with the loss of Switch Transformers that spreads the load."""

    class Mixture(nn.Module):
        def __init__(self, width, experts=4):
            super().__init__()
            self.gate = nn.Linear(width, experts, bias=False)
            self.experts = nn.ModuleList(
                nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, width))
                for _ in range(experts)
            )

        def forward(self, x):
            shares = self.gate(x).softmax(-1)
            best, chosen = shares.topk(2, dim=-1)
            best = best / best.sum(-1, keepdim=True)
            out = torch.zeros_like(x)
            for index, expert in enumerate(self.experts):
                row, place = (chosen == index).nonzero(as_tuple=True)
                out = out.index_add(0, row, expert(x[row]) * best[row, place, None])
            load = F.one_hot(chosen, len(self.experts)).float().mean((0, 1))
            self.balance = len(self.experts) * (load * shares.mean(0)).sum()
            return x + out

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(24, 32)
            self.norm = nn.LayerNorm(64)
            self.mixture = Mixture(64)
            self.head = nn.Linear(64, 24)

        def forward(self, before):
            return self.head(self.mixture(self.norm(self.words(before).flatten(1))))

    torch.manual_seed(9)
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.01)
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(350):
            words = grammar(128, 3)
            output = model(words[:, :2])
            of_words = F.cross_entropy(output, words[:, 2])
            loss = of_words + 0.01 * model.mixture.balance
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=words[:, 2])
            monitor.log(**{"loss/balance": model.mixture.balance})
    assert of_words < 2.2


@healthy
def masked_language_model_after_bert(watch):
    """15 % of the words are to be guessed; of these, 80 % are hidden and 10 % are replaced."""

    class Bert(nn.Module):
        def __init__(self, words, length, width=48):
            super().__init__()
            self.words = nn.Embedding(words + 1, width)
            self.positions = nn.Embedding(length, width)
            self.norm = nn.LayerNorm(width)
            layer = nn.TransformerEncoderLayer(
                width, 4, 96, dropout=0.1, activation="gelu", batch_first=True
            )
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Sequential(
                nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, words)
            )

        def forward(self, x):
            x = self.norm(self.words(x) + self.positions.weight)
            return self.head(self.encoder(x))

    torch.manual_seed(10)
    words, length, steps = 24, 16, 250
    model = Bert(words, length)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.01)
    scheduler = lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 30, (steps - step) / (steps - 30))
    )
    seen = []
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(steps):
            target = grammar(32, length)
            x, chosen, dice = target.clone(), torch.rand(32, length) < 0.15, torch.rand(32, length)
            x[chosen & (dice < 0.8)] = words
            replaced = chosen & (dice > 0.9)
            x[replaced] = torch.randint(words, (int(replaced.sum()),))
            target[~chosen] = -100
            output = model(x).transpose(1, 2)
            loss = F.cross_entropy(output, target)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            monitor.log(loss=loss, output=output, target=target)
            seen.append(loss.item())
    assert sum(seen[-30:]) / 30 < 2.5


@healthy
def transformer_that_translates_at_the_rate_of_noam(watch):
    """Pre-norm nn.Transformer, padded sentences, beta2 0.98 and the rate of Vaswani et al."""

    class Translator(nn.Module):
        def __init__(self, words, width=32):
            super().__init__()
            self.words = nn.Embedding(words, width, padding_idx=0)
            self.positions = nn.Parameter(torch.randn(12, width) * 0.1)
            self.transformer = nn.Transformer(
                width, 4, 1, 1, 64, dropout=0.0, batch_first=True, norm_first=True
            )
            self.head = nn.Linear(width, words)

        def forward(self, source, target):
            later = nn.Transformer.generate_square_subsequent_mask(target.shape[1]).isinf()
            x = self.transformer(
                self.words(source) + self.positions[: source.shape[1]],
                self.words(target) + self.positions[: target.shape[1]],
                tgt_mask=later,
                src_key_padding_mask=source == 0,
                memory_key_padding_mask=source == 0,
                tgt_key_padding_mask=target == 0,
            )
            return self.head(x)

    torch.manual_seed(11)
    words, begin = 20, 19
    dictionary = torch.cat([torch.zeros(1, dtype=torch.long), torch.randperm(18) + 1])
    model = Translator(words)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.4, betas=(0.9, 0.98), eps=1e-9)
    noam = partial(lambda warm_up, step: min((step + 1) ** -0.5, (step + 1) * warm_up**-1.5), 60)
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: 32**-0.5 * noam(step))
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(240):
            source = torch.randint(1, 19, (32, 7))
            source[torch.arange(7) >= torch.randint(4, 8, (32, 1))] = 0
            target = dictionary[source]
            given = torch.cat([torch.full((32, 1), begin), target[:, :-1]], 1)
            output = model(source, given).transpose(1, 2)
            loss = F.cross_entropy(output, target, ignore_index=0, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            monitor.log(loss=loss, output=output, target=target.masked_fill(target == 0, -100))
    assert loss < 1.5
