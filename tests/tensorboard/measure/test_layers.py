"""What is measured of activations, BatchNorm and Dropout is what a direct computation gives."""

import pytest
import torch
from torch import nn

import torchopt_ref.nn
import torchopt_ref.optim
from tests.tensorboard.trainings import batches
from torchopt_ref.tensorboard import Monitor


class Kept(nn.Module):
    """Keeps the output of a layer, and the gradient that comes back to it."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        self.y = self.layer(x)
        if self.y.requires_grad:
            self.y.retain_grad()
        return self.y


def test_activations(tmp_path, read):
    torch.manual_seed(0)
    relu, tanh, sigmoid = Kept(nn.ReLU()), Kept(nn.Tanh()), Kept(nn.Sigmoid())
    model = nn.Sequential(
        *(nn.Linear(784, 50), relu),
        *(nn.Linear(50, 40), tanh),
        *(nn.Linear(40, 30), sigmoid, nn.Linear(30, 10)),
    )
    with torch.no_grad():
        model[0].bias[:20] = -100
        model[2].weight *= 20
        model[4].weight *= 20
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    with Monitor(model, optimizer, tmp_path, every=1):
        for x, y in batches(1):
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    run = read(tmp_path)
    for name, kept in {"1": relu, "3": tanh, "5": sigmoid}.items():
        y = kept.y.detach().double().numpy()
        layer = f"{name}.layer"
        assert run[f"activation mean/{layer}"][1] == pytest.approx(y.mean(), rel=1e-5)
        assert run[f"activation std/{layer}"][1] == pytest.approx(y.std(), rel=1e-5)
        gradient = kept.y.grad.double().numpy().std()
        assert run[f"activation gradient std/{layer}"][1] == pytest.approx(gradient, rel=1e-5)
        histogram = run.histogram(f"activation/{layer}")[0].histogram_value
        assert histogram.num == min(y.size, 64 * 50)
        assert y.min() <= histogram.min <= histogram.max <= y.max() + 1e-6
    dead = (relu.y.detach().numpy() == 0).all(0).mean()
    assert 0.4 <= dead < 1
    assert run["dead units/1.layer"][1] == pytest.approx(dead)
    for name, kept in {"3": tanh, "5": sigmoid}.items():
        y = kept.y.detach().double().numpy()
        slope = 1 - y**2 if kept is tanh else 4 * y * (1 - y)
        expected = (slope < 0.05).mean()
        assert 0.05 < expected < 0.95
        assert run[f"saturated/{name}.layer"][1] == pytest.approx(expected)


def test_a_unit_is_dead_after_a_window_without_a_sign_of_life(tmp_path, read):
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    inputs = [[1.0, -1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0]]
    with Monitor(model, optimizer, tmp_path, every=1, window=2):
        for x in inputs:
            model(torch.tensor([x]).expand(64, 2)).sum().backward()
            optimizer.step()
    assert list(read(tmp_path)["dead units/1 ReLU"].values()) == [0.5, 0.5, 0.5, 0.5, 1.0, 0.5]


@pytest.mark.parametrize(("shape", "units"), [((3, 6, 5, 5), 6), ((13, 5, 6), 6), ((64, 6), 6)])
def test_units_of_images_and_sequences(shape, units, tmp_path, read):
    model = nn.Sequential(nn.Identity(), nn.ReLU())
    x = torch.rand(shape) - 2
    x.view(-1)[7] = 1.0
    scale = nn.Parameter(torch.ones(()))
    optimizer = torch.optim.SGD([scale], lr=0.1)
    with Monitor(model, optimizer, tmp_path, every=1):
        model(x * scale).sum().backward()
        optimizer.step()
    assert read(tmp_path)["dead units/1 ReLU"][1] == pytest.approx(1 - 1 / units)


def test_maps_of_one_pixel_have_no_dead_units(tmp_path, read):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, every=1):
        model(torch.rand(2, 3, 5, 5)).sum().backward()
        optimizer.step()
    run = read(tmp_path)
    assert "activation mean/2 ReLU" in run.scalars
    assert not [tag for tag in run.scalars if tag.startswith("dead units")]


@pytest.mark.parametrize("layer", [nn.BatchNorm1d, torchopt_ref.nn.BatchNorm1d])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_running_against_batch(layer, momentum, tmp_path, read):
    norm = layer(784, momentum=momentum)
    model = nn.Sequential(norm, nn.Linear(784, 10))
    norm.running_mean.fill_(0.25)
    norm.running_var.fill_(0.75)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen = []
    with Monitor(model, optimizer, tmp_path, every=1):
        for x, y in batches(3):
            mean, var = norm.running_mean.clone(), norm.running_var.clone()
            shift = (x.mean(0) - mean).abs() / (var + norm.eps).sqrt()
            ratio = (x.var(0) + norm.eps) / (var + norm.eps)
            seen.append((shift.mean().item(), ratio.mean().item()))
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    run = read(tmp_path)
    name = f"0 {layer.__name__}"
    shifts, ratios = zip(*seen, strict=True)
    # The batch's statistics are read off running ones, which rounds ten times as coarsely.
    assert [*run[f"batch norm mean shift/{name}"].values()] == pytest.approx(shifts, rel=5e-5)
    assert [*run[f"batch norm variance ratio/{name}"].values()] == pytest.approx(ratios, rel=5e-5)


@pytest.mark.parametrize("layer", [nn.Dropout(0.3), torchopt_ref.nn.Dropout(0.3)])
def test_dropout_keep_rate(layer, tmp_path, read):
    kept = Kept(layer)
    model = nn.Sequential(nn.Linear(784, 100), nn.ReLU(), kept, nn.Linear(100, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, every=1):
        for x, y in batches(1):
            alive = (model[:2](x) != 0).sum().item()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    expected = (kept.y != 0).sum().item() / alive
    assert 0.6 < expected < 0.8
    assert read(tmp_path)["dropout keep rate/2.layer"][1] == pytest.approx(expected)


def test_the_share_of_batch_norms_that_were_never_updated(tmp_path, read):
    """In evaluation mode or with momentum 0, with the running statistics that they begin with."""
    trains, fresh, loaded, stopped = (nn.BatchNorm1d(4) for _ in range(4))
    loaded.running_mean.fill_(0.5)
    model = nn.Sequential(nn.Linear(4, 4), trains, fresh, loaded, stopped)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with Monitor(model, optimizer, tmp_path, every=1):
        for step in range(1, 5):
            fresh.train(step > 2)
            loaded.train(step > 3)
            stopped.momentum = 0.1 if step > 1 else 0.0
            model(torch.randn(8, 4)).sum().backward()
            optimizer.step()
    run, tag = read(tmp_path), "batch norm/never updated"
    assert run[f"{tag}, in evaluation mode"] == {1: 1 / 4, 2: 1 / 4, 3: 0 / 4}
    assert run[f"{tag}, by momentum 0"] == {1: 1 / 4}
