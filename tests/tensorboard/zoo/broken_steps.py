"""Steps that are not made, end, are undone, go the wrong way, or take the wrong gradient."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from tests.tensorboard.trainings import batches

from . import broken


class SignOfSum(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(1, 16, batch_first=True)
        self.head = nn.Linear(16, 2)

    def forward(self, x):
        return self.head(self.gru(x)[1][0])


@broken("no step was seen", also=("it does not learn",))
def step_of_the_optimizer_forgotten(watch):
    torch.manual_seed(0)
    model = SignOfSum()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(120):
            x = torch.randn(32, 10, 1)
            y = (x.sum((1, 2)) > 0).long()
            optimizer.zero_grad()
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            monitor.log(loss=loss, output=output, target=y)


@broken("no step was seen")
def optimizer_rebuilt_for_its_groups_after_the_monitor(watch):
    """The model learns, by steps of an optimizer that is not watched."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(784, 64), nn.BatchNorm1d(64), nn.LeakyReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    with watch(model, optimizer, every=20) as monitor:
        decayed = [each for each in model.parameters() if each.ndim > 1]
        others = [each for each in model.parameters() if each.ndim <= 1]
        groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=3e-3, weight_decay=0.05)
        for x, y in batches(150):
            optimizer.zero_grad()
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken("no step was seen", "not finite", also=("it does not learn",))
def scaler_skips_all_for_the_root_of_a_distance_of_zero(watch):
    """Each sample's distance to itself is 0, where the root's slope is infinite; times 0, NaN."""
    torch.manual_seed(2)
    centres = torch.randn(6, 20)
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu")
    with watch(model, optimizer, every=10) as monitor:
        for _ in range(100):
            kind = torch.randint(6, (32,))
            points = model(centres[kind] + 0.5 * torch.randn(32, 20))
            distance = (points[:, None] - points[None]).pow(2).sum(2).sqrt()
            same = kind[:, None] == kind
            loss = torch.where(same, distance, F.relu(2 - distance)).pow(2).mean()
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            monitor.log(loss=loss)


@broken("steps have stopped")
def optimizer_made_anew_once_the_backbone_is_unfrozen(watch):
    """The new one's steps are not seen, though it does train."""
    torch.manual_seed(3)
    backbone = nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 8, 5, stride=3), nn.ReLU(), nn.Flatten()
    )
    head = nn.Linear(512, 10)
    model = nn.Sequential(backbone, head)
    backbone.requires_grad_(False)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    with watch(model, optimizer, every=20) as monitor:
        for epoch in range(6):
            if epoch == 2:
                backbone.requires_grad_(True)
                optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)
            for x, y in batches(40, seed=epoch):
                optimizer.zero_grad()
                output = model(x)
                loss = F.cross_entropy(output, y)
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=output, target=y)


@broken("steps have stopped")
def limit_of_fifty_steps_left_from_debugging(watch):
    """Denoising of waves."""
    torch.manual_seed(4)
    model = nn.Sequential(
        nn.Conv1d(1, 8, 7, padding=3), nn.Tanh(), nn.Conv1d(8, 8, 7, padding=3), nn.Tanh()
    ).append(nn.Conv1d(8, 1, 7, padding=3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    time = torch.linspace(0, 6, 64)
    with watch(model, optimizer, every=20) as monitor:
        for step in range(300):
            pitch, phase = 1 + 4 * torch.rand(16, 1), 6 * torch.rand(16, 1)
            clean = torch.sin(pitch * time + phase)[:, None]
            loss = F.mse_loss(model(clean + 0.4 * torch.randn_like(clean)), clean)
            optimizer.zero_grad()
            loss.backward()
            monitor.log(loss=loss)
            if step >= 50:
                continue
            optimizer.step()


@broken("steps have stopped")
def guard_against_spikes_that_compares_with_the_best_batch(watch):
    """A lucky one among the first 40 makes all that come later look like spikes."""
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(6, 32), nn.GELU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    best = float("inf")
    with watch(model, optimizer, every=20) as monitor:
        for step in range(300):
            x = torch.randn(8, 6)
            y = x[:, :1] * x[:, 1:2] + x[:, 2:3]
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), y)
            loss.backward()
            monitor.log(loss=loss)
            if step >= 40 and loss.item() > 1.2 * best:
                continue
            best = min(best, loss.item())
            optimizer.step()


class SAM:
    """Foret et al. (2021), around the optimizer that makes the steps."""

    def __init__(self, base, rho=0.05):
        self.base, self.rho = base, rho
        self.params = [each for group in base.param_groups for each in group["params"]]

    @torch.no_grad()
    def first_step(self):
        norm = torch.stack([each.grad.norm() for each in self.params]).norm()
        self.climbs = [each.grad * (self.rho / (norm + 1e-12)) for each in self.params]
        for param, climb in zip(self.params, self.climbs, strict=True):
            param += climb
        self.base.zero_grad()

    @torch.no_grad()
    def second_step(self):
        for param, climb in zip(self.params, self.climbs, strict=True):
            param -= climb
        self.base.step()
        self.base.zero_grad()


@broken("no step was seen", also=("the loss rises", "one class is predicted", "it does not learn"))
def sam_without_its_second_step(watch):
    """It climbs in each step, and never comes back."""
    torch.manual_seed(6)
    model = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer = SAM(base)
    with watch(model, base, every=20) as monitor:
        for x, y in batches(150):
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.first_step()
            monitor.log(loss=loss, output=output, target=y)


@broken("layers that do not move", "it does not learn")
def best_weights_restored_in_each_step(watch):
    """``best`` starts at 0, as for an accuracy, but it is a loss that is compared."""
    torch.manual_seed(7)
    x = torch.randn(800, 10)
    y = (x @ torch.randn(10, 3)).argmax(1)
    model = nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    best, best_weights = 0.0, copy.deepcopy(model.state_dict())
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(10):
            for chosen in torch.randperm(800).split(40):
                optimizer.zero_grad()
                output = model(x[chosen])
                loss = F.cross_entropy(output, y[chosen])
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=output, target=y[chosen])
                if loss.item() < best:
                    best, best_weights = loss.item(), copy.deepcopy(model.state_dict())
                else:
                    model.load_state_dict(best_weights)


@broken("the loss rises", also=("one class is predicted",))
def maximize_left_from_a_policy_gradient(watch):
    torch.manual_seed(8)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.AvgPool2d(2),
        nn.Conv2d(1, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AvgPool2d(3),
        nn.Flatten(),
        nn.Linear(128, 10),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, maximize=True)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in batches(150, size=32):
            optimizer.zero_grad()
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken("the loss rises", also=("exploding gradients",))
def likelihood_descended_instead_of_its_negative(watch):
    """A mean and a deviation for each x; what is logged has the right sign."""
    torch.manual_seed(9)
    model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(250):
            x = 4 * torch.rand(64, 1) - 2
            y = torch.sin(2 * x) + 0.1 * x.abs() * torch.randn(64, 1)
            mean, deviation = model(x).chunk(2, 1)
            likelihood = torch.distributions.Normal(mean, F.softplus(deviation) + 1e-2).log_prob(y)
            optimizer.zero_grad()
            likelihood.mean().backward()
            optimizer.step()
            monitor.log(loss=-likelihood.mean())


@broken(
    "gradients are never zeroed",
    also=("learning rate too high", "the loss rises", "exploding gradients", "dead units"),
)
def no_zero_grad_at_all(watch):
    torch.manual_seed(10)
    model = nn.Sequential(
        nn.Unflatten(1, (28, 28)),
        nn.Conv1d(28, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 14, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in batches(200):
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken(
    "gradients are never zeroed",
    also=(
        "learning rate too high",
        "the loss rises",
        "weights grow without end",
        "one class is predicted",
        "exploding gradients",
    ),
)
def zero_grad_once_in_each_epoch(watch):
    """``a + 2 b`` mod 7."""
    torch.manual_seed(11)
    a, b = torch.randint(7, (2, 1200))
    y = (a + 2 * b) % 7
    model = nn.Sequential(nn.Embedding(14, 16), nn.Flatten(), nn.Linear(32, 64), nn.SiLU())
    model.append(nn.Linear(64, 7))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    pairs = torch.stack([a, b + 7], 1)
    with watch(model, optimizer, every=20) as monitor:
        for _ in range(8):
            optimizer.zero_grad()
            for chosen in torch.randperm(1200).split(40):
                output = model(pairs[chosen])
                loss = F.cross_entropy(output, y[chosen])
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, output=output, target=y[chosen])


@broken("the gradient is 0", also=("it does not learn", "layers that do not move"))
def zeroed_between_backward_and_step(watch):
    torch.manual_seed(12)
    model = nn.Sequential(
        nn.Linear(784, 48), nn.LayerNorm(48), nn.Tanh(), nn.Dropout(0.1), nn.Linear(48, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with watch(model, optimizer, every=20) as monitor:
        for x, y in batches(150):
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.zero_grad(set_to_none=False)
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)


@broken("no gradient came", also=("it does not learn", "layers that do not move"))
def gradients_set_to_none_between_backward_and_step(watch):
    torch.manual_seed(13)
    weights = torch.randn(12, 1)
    model = nn.Sequential(nn.Linear(12, 32), nn.Hardswish(), nn.Linear(32, 1))
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3)
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(200):
            x = torch.randn(48, 12)
            loss = F.huber_loss(model(x), x @ weights + 0.1 * torch.randn(48, 1))
            loss.backward()
            model.zero_grad()
            optimizer.step()
            monitor.log(loss=loss)
