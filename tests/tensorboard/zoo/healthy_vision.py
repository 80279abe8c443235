"""Sound trainings on images, by the recipes of their fields."""

from __future__ import annotations

import math
from itertools import cycle, islice

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn, update_bn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.ops import sigmoid_focal_loss

from tests.tensorboard.trainings import digits

from . import healthy


def pictures(size=28, normalised=True, wanted=range(10)):
    """The digits as training and validation sets of (images, labels)."""
    images, labels = digits()
    images = images.reshape(-1, 1, 28, 28)
    if size != 28:
        images = F.interpolate(images, size=size, mode="bilinear", antialias=True)
    if normalised:
        images = (images - 0.1307) / 0.3081
    kept = torch.isin(labels, torch.tensor(list(wanted)))
    images, labels = images[kept], labels[kept]
    most = len(images) * 4 // 5
    return (images[:most], labels[:most]), (images[most:][:500], labels[most:][:500])


def loader(data, batch_size=64):
    return DataLoader(TensorDataset(*data), batch_size, shuffle=True, drop_last=True)


def endless(data, steps, batch_size=64):
    batches = loader(data, batch_size)
    return islice((batch for _ in cycle([0]) for batch in batches), steps)


@torch.no_grad()
def evaluate(model, data):
    model.eval()
    output = model(data[0])
    model.train()
    loss = F.cross_entropy(output, data[1]).item()
    return loss, (output.argmax(1) == data[1]).float().mean().item()


@healthy
def lenet_of_1998_with_tanh_over_two_epochs(watch):
    torch.manual_seed(0)
    (images, labels), validation = pictures()
    train = images[:4000], labels[:4000]
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.Tanh(),
        nn.Linear(120, 84),
        nn.Tanh(),
        nn.Linear(84, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(2):
            for x, y in loader(train, 32):
                optimizer.zero_grad()
                output = model(x)
                loss = F.cross_entropy(output, y)
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=output, target=y)
            loss, accuracy = evaluate(model, validation)
            monitor.log(**{"loss/validation": loss, "accuracy/validation": accuracy})
    assert accuracy > 0.85


class Residual(nn.Module):
    def __init__(self, into, out, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Identity()
        if stride != 1 or into != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x):
        out = self.relu(self.norm1(self.conv1(x)))
        return self.relu(self.norm2(self.conv2(out)) + self.shortcut(x))


def resnet(widths=(8, 16, 32), classes=10):
    return nn.Sequential(
        nn.Conv2d(1, widths[0], 3, padding=1, bias=False),
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(inplace=True),
        Residual(widths[0], widths[0]),
        Residual(widths[0], widths[1], 2),
        Residual(widths[1], widths[2], 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(widths[2], classes),
    )


@healthy
def resnet_by_super_convergence_with_one_cycle(watch):
    """Smith and Topin: a large peak of the rate, momentum cycled against it."""
    torch.manual_seed(1)
    train, validation = pictures(14)
    model, steps = resnet(), 200
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.02, momentum=0.95, nesterov=True, weight_decay=5e-4
    )
    scheduler = lr_scheduler.OneCycleLR(optimizer, max_lr=0.4, total_steps=steps)
    with watch(model, optimizer, every=10) as monitor:
        for step, (x, y) in enumerate(endless(train, steps, batch_size=32)):
            optimizer.zero_grad(set_to_none=True)
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            scheduler.step()
            monitor.log(loss=loss, output=output, target=y)
            if step % 50 == 49:
                loss, accuracy = evaluate(model, validation)
                monitor.log(**{"loss/validation": loss, "accuracy/validation": accuracy})
    assert accuracy > 0.85


@healthy
def group_norm_convnet_accumulating_micro_batches_of_eight(watch):
    torch.manual_seed(2)
    train, _ = pictures(14)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False),
        nn.GroupNorm(4, 16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
        nn.GroupNorm(4, 32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 16, 10),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    accumulate = 4
    seen = []
    with watch(model, optimizer, every=10) as monitor:
        for index, (x, y) in enumerate(endless(train, 100 * accumulate, batch_size=8), start=1):
            output = model(x)
            loss = F.cross_entropy(output, y)
            (loss / accumulate).backward()
            monitor.log(loss=loss, output=output, target=y)
            seen.append(loss.item())
            if index % accumulate == 0:
                nn.utils.clip_grad_norm_(model.parameters(), 5.0)
                optimizer.step()
                optimizer.zero_grad()
    assert sum(seen[-40:]) / 40 < 0.8


class Mixer(nn.Module):
    class Block(nn.Module):
        def __init__(self, tokens, width):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.tokens = nn.Sequential(nn.Linear(tokens, 32), nn.GELU(), nn.Linear(32, tokens))
            self.channels = nn.Sequential(
                nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
            )

        def forward(self, x):
            x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
            return x + self.channels(self.norm2(x))

    def __init__(self, width=48, depth=2):
        super().__init__()
        self.patches = nn.Conv2d(1, width, 7, stride=7)
        self.blocks = nn.Sequential(*[self.Block(16, width) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(x)).mean(1))


@healthy
def mlp_mixer_with_mixup(watch):
    torch.manual_seed(3)
    train, validation = pictures()
    model = Mixer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    mixing = torch.distributions.Beta(0.2, 0.2)
    with watch(model, optimizer, every=20) as monitor:
        for step, (x, y) in enumerate(endless(train, 300, batch_size=32)):
            share = mixing.sample()
            other = torch.randperm(len(x))
            output = model(share * x + (1 - share) * x[other])
            loss = share * F.cross_entropy(output, y) + (1 - share) * F.cross_entropy(
                output, y[other]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
            if step % 100 == 99:
                loss, accuracy = evaluate(model, validation)
                monitor.log(**{"loss/validation": loss, "accuracy/validation": accuracy})
    assert accuracy > 0.75


class VisionTransformer(nn.Module):
    def __init__(self, width=32, depth=2):
        super().__init__()
        self.patches = nn.Linear(16, width)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, 10, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, 4, 64, dropout=0.05, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = self.patches(F.unfold(x, 4, stride=4).transpose(1, 2))
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        return self.head(self.norm(self.encoder(x)[:, 0]))


@healthy
def vision_transformer_with_warm_up_and_label_smoothing(watch):
    torch.manual_seed(4)
    train, validation = pictures(12)
    model, steps, warm_up = VisionTransformer(), 250, 25
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.05)
    scheduler = lr_scheduler.SequentialLR(
        optimizer,
        [
            lr_scheduler.LinearLR(optimizer, 0.05, total_iters=warm_up),
            lr_scheduler.CosineAnnealingLR(optimizer, steps - warm_up),
        ],
        [warm_up],
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    with watch(model, optimizer, every=20) as monitor:
        for step, (x, y) in enumerate(endless(train, steps, batch_size=32)):
            output = model(x)
            loss = criterion(output, y)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            monitor.log(loss=loss, output=output, target=y)
            if step % 50 == 49:
                loss, accuracy = evaluate(model, validation)
                monitor.log(**{"loss/validation": loss, "accuracy/validation": accuracy})
    assert accuracy > 0.75


class UNet(nn.Module):
    def __init__(self, width=8, classes=3):
        super().__init__()
        self.down1 = self.block(3, width)
        self.down2 = self.block(width, 2 * width)
        self.bottom = self.block(2 * width, 2 * width)
        self.up2 = self.block(4 * width, width)
        self.up1 = self.block(2 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    @staticmethod
    def block(into, out):
        return nn.Sequential(
            nn.Conv2d(into, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
        )

    def forward(self, x):
        first = self.down1(x)
        second = self.down2(F.max_pool2d(first, 2))
        x = self.bottom(F.max_pool2d(second, 2))
        x = self.up2(torch.cat([F.interpolate(x, scale_factor=2), second], 1))
        return self.head(self.up1(torch.cat([F.interpolate(x, scale_factor=2), first], 1)))


def scenes(count, size=24):
    """Noisy coloured discs and squares, their masks with a border of 255, as Pascal VOC has."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    images = torch.randn(count, 3, size, size) * 0.4
    masks = torch.zeros(count, size, size, dtype=torch.long)
    for image, mask in zip(images, masks, strict=True):
        for kind in (1, 2):
            y, x = torch.randint(5, size - 5, (2,))
            radius = torch.randint(3, 6, ()).item()
            if kind == 1:
                distance = ((rows - y) ** 2 + (columns - x) ** 2).float().sqrt()
            else:
                distance = torch.maximum((rows - y).abs(), (columns - x).abs()).float()
            inside = distance < radius
            image[:, inside] += torch.rand(3, 1) + 0.3
            mask[inside] = kind
            mask[(distance - radius).abs() < 0.6] = 255
    return images, masks


@healthy
def unet_for_segmentation_with_borders_ignored(watch):
    torch.manual_seed(5)
    train, (images, masks) = scenes(300), scenes(50)
    model = UNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    scheduler = lr_scheduler.PolynomialLR(optimizer, total_iters=150, power=0.9)
    criterion = nn.CrossEntropyLoss(ignore_index=255)
    with watch(model, optimizer, every=10) as monitor:
        for step, (x, y) in enumerate(endless(train, 150, batch_size=12)):
            optimizer.zero_grad()
            output = model(x)
            loss = criterion(output, y)
            loss.backward()
            optimizer.step()
            scheduler.step()
            monitor.log(loss=loss, output=output, target=y)
            if step % 50 == 49:
                model.eval()
                with torch.no_grad():
                    output = model(images)
                model.train()
                valid = masks != 255
                right = (output.argmax(1) == masks)[valid].float().mean().item()
                monitor.log(
                    **{
                        "loss/validation": criterion(output, masks),
                        "accuracy/validation": right,
                    }
                )
    assert right > 0.9


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 12, 3, stride=2, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(12, 24, 3, stride=2, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(24, 24, 3, stride=2, padding=1),
            nn.LeakyReLU(0.1),
            nn.Flatten(),
        )
        self.classes = nn.Linear(24 * 25, 10)
        self.box = nn.Sequential(nn.Linear(24 * 25, 32), nn.LeakyReLU(0.1), nn.Linear(32, 4))

    def forward(self, x):
        x = self.features(x)
        return self.classes(x), self.box(x).sigmoid()


@healthy
def detector_of_a_moved_digit_with_a_head_for_its_box(watch):
    torch.manual_seed(6)
    (images, labels), _ = pictures(normalised=False)
    model, size = Detector(), 40
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(300):
            chosen = torch.randint(len(images), (32,))
            x, y = torch.zeros(32, 1, size, size), labels[chosen]
            boxes = torch.empty(32, 4)
            corners = torch.randint(0, size - 28, (32, 2))
            for canvas, box, image, (top, left) in zip(
                x, boxes, images[chosen], corners.tolist(), strict=True
            ):
                canvas[:, top : top + 28, left : left + 28] = image
                _, rows, columns = canvas.nonzero(as_tuple=True)
                edges = columns.min(), rows.min(), columns.max(), rows.max()
                box[:] = torch.stack(edges) / size
            scores, predicted = model(x)
            of_class = F.cross_entropy(scores, y)
            of_box = F.smooth_l1_loss(predicted, boxes, beta=0.1)
            loss = of_class + 5 * of_box
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=scores, target=y)
            monitor.log(**{"loss/class": of_class, "loss/box": of_box})
    assert of_class < 1.2
    assert (predicted - boxes).abs().mean() < 0.06


@healthy
def autoencoder_with_a_sigmoid_output(watch):
    torch.manual_seed(7)
    (images, _), (held_out, _) = pictures(normalised=False)
    images, held_out = images.flatten(1), held_out.flatten(1)
    encoder = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 16))
    decoder = nn.Sequential(nn.Linear(16, 128), nn.ReLU(), nn.Linear(128, 784), nn.Sigmoid())
    model = nn.Sequential(encoder, decoder)
    optimizer = torch.optim.Adam(model.parameters())
    criterion = nn.BCELoss()
    with watch(model, optimizer, every=25) as monitor:
        for epoch in range(3):
            for batch in DataLoader(images, batch_size=64, shuffle=True):
                loss = criterion(model(batch), batch)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)
            with torch.no_grad():
                monitor.log(**{"loss/validation": criterion(model(held_out), held_out)})
            monitor.log(epoch=epoch)
    assert loss < 0.19


@healthy
def contrastive_learning_of_two_views(watch):
    """SimCLR: two augmentations of each image shall be closest to one another."""
    torch.manual_seed(8)
    (images, _), _ = pictures(14)
    encoder = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
    )
    projector = nn.Sequential(nn.Linear(32 * 16, 64), nn.ReLU(), nn.Linear(64, 32))
    model = nn.Sequential(encoder, projector)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)

    def view(x):
        shift = torch.randint(-1, 2, (2,)).tolist()
        x = torch.roll(x, shift, (2, 3)) * (0.8 + 0.4 * torch.rand(len(x), 1, 1, 1))
        return x + 0.3 * torch.randn_like(x)

    with watch(model, optimizer, every=20) as monitor:
        for _ in range(200):
            x = images[torch.randint(len(images), (96,))]
            both = F.normalize(model(torch.cat([view(x), view(x)])), dim=1)
            similar = both @ both.T / 0.2
            similar.fill_diagonal_(-math.inf)
            loss = F.cross_entropy(similar, torch.arange(192).roll(96))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    assert loss < 0.6 * math.log(191)


@healthy
def small_student_distilled_from_a_larger_teacher(watch):
    torch.manual_seed(9)
    train, validation = pictures(14)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(196, 256), nn.ReLU(), nn.Linear(256, 10))
    of_teacher = torch.optim.Adam(teacher.parameters(), lr=2e-3)
    for x, y in endless(train, 250):
        of_teacher.zero_grad()
        F.cross_entropy(teacher(x), y).backward()
        of_teacher.step()
    teacher.eval().requires_grad_(False)

    student = nn.Sequential(nn.Flatten(), nn.Linear(196, 24), nn.ReLU(), nn.Linear(24, 10))
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    heat = 4.0
    with watch(student, optimizer, every=20) as monitor:
        for x, y in endless(train, 300):
            output = student(x)
            soft = F.kl_div(
                F.log_softmax(output / heat, 1),
                F.log_softmax(teacher(x) / heat, 1),
                reduction="batchmean",
                log_target=True,
            )
            loss = 0.7 * heat**2 * soft + 0.3 * F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)
        loss, accuracy = evaluate(student, validation)
        monitor.log(**{"loss/validation": loss, "accuracy/validation": accuracy})
    assert accuracy > 0.83


def pretrained(wanted):
    """A net and how well it knows some digits, as if it was downloaded."""
    train, _ = pictures(14, wanted=wanted)
    model = resnet(widths=(8, 12, 16))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for x, y in endless(train, 80, batch_size=32):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


@healthy
def new_head_on_a_frozen_backbone_whose_batch_norm_stays_in_evaluation(watch):
    torch.manual_seed(10)
    model = pretrained(range(5))
    for param in model.parameters():
        param.requires_grad = False
    model[-1] = nn.Linear(model[-1].in_features, 10)
    train, validation = pictures(14)
    optimizer = torch.optim.SGD(model[-1].parameters(), lr=0.1, momentum=0.9)
    with watch(model, optimizer, every=20) as monitor:
        for epoch in range(2):
            model.train()
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
            for x, y in endless(train, 100, batch_size=32):
                output = model(x)
                loss = F.cross_entropy(output, y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=output, target=y)
            loss, accuracy = evaluate(model, validation)
            monitor.log(epoch=epoch, **{"loss/validation": loss, "accuracy/validation": accuracy})
    assert accuracy > 0.6


@healthy
def transfer_with_a_hundredth_of_the_rate_for_the_backbone(watch):
    torch.manual_seed(11)
    model = pretrained(range(5))
    model[-1] = nn.Linear(model[-1].in_features, 10)
    train, validation = pictures(14)
    optimizer = torch.optim.AdamW(
        [
            {"params": model[:-1].parameters(), "lr": 2e-4},
            {"params": model[-1].parameters(), "lr": 2e-2},
        ]
    )
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, T_max=150)
    with watch(model, optimizer, every=15) as monitor:
        for x, y in endless(train, 150, batch_size=32):
            output = model(x)
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            monitor.log(loss=loss, output=output, target=y)
        loss, accuracy = evaluate(model, validation)
        monitor.log(**{"loss/validation": loss, "accuracy/validation": accuracy})
    assert accuracy > 0.7


@healthy
def convnet_with_warm_restarts(watch):
    """SGDR: three cycles, each twice as long as the one before."""
    torch.manual_seed(12)
    train, _ = pictures(14)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.SiLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, groups=16, bias=False),
        nn.BatchNorm2d(32),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(128, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    scheduler = lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=50, T_mult=2, eta_min=1e-4)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in endless(train, 350, batch_size=48):
            optimizer.zero_grad()
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            scheduler.step()
            monitor.log(loss=loss, output=output, target=y)
    assert loss < 0.6


@healthy
def which_digits_are_among_four_by_binary_cross_entropy(watch):
    torch.manual_seed(13)
    (images, labels), _ = pictures(14, normalised=False)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    criterion = nn.BCEWithLogitsLoss(pos_weight=torch.full((10,), 1.5))
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(300):
            chosen = torch.randint(len(images), (4, 48))
            upper, lower = (
                torch.cat([images[chosen[k]], images[chosen[k + 1]]], 3) for k in (0, 2)
            )
            target = F.one_hot(labels[chosen], 10).amax(0).float()
            output = model(torch.cat([upper, lower], 2))
            loss = criterion(output, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, right=(output > 0) == target.bool())
    assert loss < 0.55


@healthy
def rare_centres_by_focal_loss(watch):
    """A heat map of where discs have their centres, one pixel of a hundred; RetinaNet's bias."""
    torch.manual_seed(14)
    size = 20
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 12, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 1, 3, padding=1),
    )
    nn.init.constant_(model[-1].bias, -math.log(0.99 / 0.01))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer, every=15) as monitor:
        for _ in range(250):
            centres = torch.randint(2, size - 2, (24, 3, 2))
            y, x = centres[..., 0, None, None], centres[..., 1, None, None]
            squared = (rows - y) ** 2 + (columns - x) ** 2
            images = (squared <= 4).any(1, keepdim=True) + 0.2 * torch.randn(24, 1, size, size)
            target = (squared == 0).any(1, keepdim=True).float()
            output = model(images)
            loss = sigmoid_focal_loss(output, target, reduction="sum") / target.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    found = (output.sigmoid() > 0.3) & target.bool()
    assert found.sum() > 0.6 * target.sum()


@healthy
def averaged_weights_at_a_constant_rate_in_the_end(watch):
    """SWA, with a moving average of the weights besides."""
    torch.manual_seed(15)
    train, validation = pictures(14)
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(196, 64, bias=False),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Linear(64, 64, bias=False),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, T_max=200)
    averaged, constant = AveragedModel(model), SWALR(optimizer, swa_lr=0.03, anneal_epochs=10)
    moving = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.98), use_buffers=True)
    with watch(model, optimizer, every=25) as monitor:
        for step, (x, y) in enumerate(endless(train, 300)):
            output = model(x)
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            moving.update_parameters(model)
            if step >= 150:
                if step % 10 == 0:
                    averaged.update_parameters(model)
                constant.step()
            else:
                scheduler.step()
            monitor.log(loss=loss, output=output, target=y)
            if step % 100 == 99:
                loss, accuracy = evaluate(moving, validation)
                monitor.log(**{"loss/validation": loss, "accuracy/validation": accuracy})
        update_bn(endless(train, 50), averaged)
    assert accuracy > 0.88
    assert evaluate(averaged, validation)[1] > 0.88


@healthy
def wide_net_with_half_of_its_units_dropped_and_norms_capped(watch):
    """Srivastava et al. 2014: dropout 0.2 of the input, 0.5 of hidden units, max-norm 3."""
    torch.manual_seed(16)
    train, validation = pictures(14, normalised=False)
    model = nn.Sequential(
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(196, 256),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(256, 256),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(256, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with watch(model, optimizer, every=25) as monitor:
        for step, (x, y) in enumerate(endless(train, 400)):
            optimizer.zero_grad()
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for layer in model:
                    if isinstance(layer, nn.Linear):
                        layer.weight.copy_(layer.weight.renorm(2, 0, 3.0))
            monitor.log(loss=loss, output=output, target=y)
            if step % 100 == 99:
                loss, accuracy = evaluate(model, validation)
                monitor.log(**{"loss/validation": loss, "accuracy/validation": accuracy})
    assert accuracy > 0.85
