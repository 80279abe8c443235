"""Which parameters param_groups_weight_decay decays, and that an optimizer then does so."""

import pytest
import torch
from torch import nn

from torchopt_ref.optim import SGD
from torchopt_ref.optim.param_groups import param_groups_weight_decay


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, add_bias_kv=True)
        self.temperature = nn.Parameter(torch.ones(()))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))


def names(model, group):
    by_id = {id(p): name for name, p in model.named_parameters()}
    return [by_id[id(p)] for p in group["params"]]


def test_biases_and_normalisation_are_not_decayed():
    model = nn.Sequential(
        nn.Embedding(6, 4),
        nn.Linear(4, 4),
        nn.LayerNorm([3, 4]),
        nn.Conv1d(3, 3, 1),
        nn.BatchNorm1d(3),
        nn.GroupNorm(1, 3),
        nn.RMSNorm([3, 4]),
        nn.PReLU(),
        nn.LSTM(4, 4),
    )
    decayed, undecayed = param_groups_weight_decay(model, 0.1)
    assert (decayed["weight_decay"], undecayed["weight_decay"]) == (0.1, 0.0)
    assert names(model, decayed) == [
        "0.weight", "1.weight", "3.weight", "8.weight_ih_l0", "8.weight_hh_l0",
    ]  # fmt: skip
    assert names(model, undecayed) == [
        "1.bias", "2.weight", "2.bias", "3.bias", "4.weight", "4.bias", "5.weight", "5.bias",
        "6.weight", "7.weight", "8.bias_ih_l0", "8.bias_hh_l0",
    ]  # fmt: skip


def test_biases_of_more_dimensions_and_scalars_are_not_decayed():
    model = Attention()
    decayed, undecayed = param_groups_weight_decay(model, 0.1)
    assert names(model, decayed) == ["attention.in_proj_weight", "attention.out_proj.weight"]
    assert names(model, undecayed) == [
        "temperature",
        "relative_position_bias_table",
        "attention.in_proj_bias",
        "attention.bias_k",
        "attention.bias_v",
        "attention.out_proj.bias",
    ]


def test_a_bias_is_told_by_its_own_name():
    model = nn.ModuleDict({"bias": nn.Linear(2, 2)})
    decayed, undecayed = param_groups_weight_decay(model, 0.1)
    assert names(model, decayed) == ["bias.weight"]
    assert names(model, undecayed) == ["bias.bias"]


def test_a_tied_parameter_comes_once_and_a_frozen_one_too():
    model = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 6))
    model[1].weight = model[0].weight
    model[1].bias.requires_grad_(False)
    decayed, undecayed = param_groups_weight_decay(model, 0.1)
    assert names(model, decayed) == ["0.weight"]
    assert names(model, undecayed) == ["1.bias"]


@pytest.mark.parametrize("optimizer", [SGD, torch.optim.SGD, torch.optim.AdamW])
def test_an_optimizer_takes_the_groups_and_decays_only_the_first(optimizer):
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    opt = optimizer(param_groups_weight_decay(model, 0.5), lr=0.1)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    opt.step()
    for name, parameter in model.named_parameters():
        if name == "0.weight":  # two roundings apart
            torch.testing.assert_close(parameter, before[name] * 0.95, rtol=3e-7, atol=0)
        else:
            assert torch.equal(parameter, before[name])


def test_an_empty_group_is_still_a_group():
    groups = param_groups_weight_decay(nn.Linear(3, 2, bias=False), 0.5)
    assert [len(group["params"]) for group in groups] == [1, 0]
    torch.optim.SGD(groups, lr=0.1).step()


@pytest.mark.parametrize("weight_decay", [-0.1, float("nan")])
def test_wrong_weight_decay_raises_as_torch_does(weight_decay):
    with pytest.raises(ValueError, match=f"Invalid weight_decay value: {weight_decay}"):
        param_groups_weight_decay(nn.Linear(3, 2), weight_decay)
