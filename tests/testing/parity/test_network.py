"""Both sides train one network, with batch normalisation, dropout and weight decay."""

import numpy as np
import pytest
import torch

from tests.thinned import only
from torchopt_ref import optim
from torchopt_ref.sides import BY_NAME, Twin
from torchopt_ref.testing import check_network
from torchopt_ref.testing.parity.network import (
    compare_networks,
    lockstep_batches,
    lockstep_network,
    network_sides,
)


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        *((each, {"iterations": 8}) for each in BY_NAME),
        *only([("Adam", {})], [(each, {}) for each in BY_NAME]),
    ],
)
def test_losses_agree(optimizer, options):
    """Promised is 1e-9; measured are at most 1.3e-15 for losses, 7e-15 for any tensor."""
    report = check_network(optimizer, **options)
    assert report.optimizer == optimizer
    assert report.iterations == options.get("iterations", 200)
    assert report.loss_error <= 1e-14, report
    assert report.largest.error <= 1e-13, report
    assert report.passed


@pytest.mark.cuda
def test_losses_agree_on_cuda():
    assert check_network("Adam", device="cuda", iterations=20).loss_error <= 1e-9


def compare(change, iterations=2):
    """The report for a torch side that ``change`` has altered."""
    mine, theirs = network_sides("Momentum")
    change(theirs.twin, theirs.optimizer)
    return compare_networks(mine, theirs, lockstep_batches(iterations))


def nudge(tensor):
    with torch.no_grad():
        tensor.view(-1)[3] += 1e-6


@pytest.mark.parametrize(
    ("change", "first"),
    [
        (lambda twin, optimizer: nudge(twin.Affine2.weight), "output Affine2"),
        (lambda twin, optimizer: setattr(twin.BatchNorm1, "eps", 1e-4), "output BatchNorm1"),
        (lambda twin, optimizer: setattr(twin.Dropout2, "p", 0.25), "output Dropout2"),
        (lambda twin, optimizer: setattr(twin, "weight_decay", 2e-3), "loss "),
        (lambda twin, optimizer: setattr(twin.BatchNorm2, "momentum", 0.2), "statistic BatchNorm2"),
        (lambda twin, optimizer: optimizer.param_groups[0].update(lr=2e-3), "parameter W1"),
    ],
    ids=["weight", "eps", "mask", "weight decay", "momentum", "lr"],
)
def test_the_first_tensor_that_differs_is_named(change, first):
    report = compare(change)
    assert not report.passed
    assert report.first.iteration == 1
    assert report.first.tensor.startswith(first)
    assert first in str(report.first)


def test_a_wrong_gradient_is_named():
    def shift_gradient(twin, optimizer):
        twin.Affine3.bias.register_hook(lambda grad: grad + 1e-6)

    assert compare(shift_gradient).first.tensor == "gradient b3"


def test_a_loss_that_was_undefined_once_stays_the_largest_error():
    def lose(twin, optimizer):
        loss, undefined = twin.loss, iter([torch.nan])
        twin.loss = lambda x, t: loss(x, t) + next(undefined, 0.0)

    report = compare(lose, iterations=3)
    assert not report.passed
    assert (report.first.iteration, report.first.tensor) == (1, "loss ")
    assert np.isnan([report.loss_error, report.largest.error]).all()


def test_an_unaltered_pair_passes():
    assert compare(lambda twin, optimizer: None).passed


@pytest.mark.parametrize("cls", [optim.SGD, optim.Momentum, optim.AdaGrad, optim.Adam])
def test_weight_decay_in_the_loss_and_in_the_optimizer_give_the_same_steps(cls):
    decay = 0.05

    def train(in_loss):
        network = lockstep_network()
        network.weight_decay = decay if in_loss else 0.0
        twin = Twin(network, torch.Generator().manual_seed(0))
        weights = [p for name, p in twin.parameters_by_name.items() if name[0] == "W"]
        others = [p for name, p in twin.parameters_by_name.items() if name[0] != "W"]
        optimizer = cls(
            [{"params": weights, "weight_decay": 0 if in_loss else decay}, {"params": others}],
            lr=0.01,
        )
        for x, t in lockstep_batches(10):
            optimizer.zero_grad()
            twin.loss(torch.from_numpy(x), torch.from_numpy(t)).backward()
            optimizer.step()
        return torch.cat([p.detach().flatten() for p in twin.parameters()])

    by_loss, by_optimizer = train(in_loss=True), train(in_loss=False)
    assert (by_loss - by_optimizer).abs().max() <= 1e-12 * by_loss.abs().max()
    undecayed = lockstep_network()
    assert undecayed.weight_decay != decay


def test_decoupled_weight_decay_gives_other_steps_than_l2():
    def train(cls):
        param = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
        optimizer = cls([param], lr=0.1, weight_decay=0.5)
        for _ in range(5):
            param.grad = torch.tensor([0.3, 0.1], dtype=torch.float64)
            optimizer.step()
        return param.detach()

    assert (train(optim.Adam) - train(optim.AdamW)).abs().min() > 1e-3


def test_twin_starts_from_the_same_bits():
    network = lockstep_network()
    twin = Twin(network)
    assert [*twin.parameters_by_name] == [*network.params]
    for name, param in twin.parameters_by_name.items():
        assert (param.detach().numpy().T == network.params[name]).all()
        assert param.dtype == torch.float64
