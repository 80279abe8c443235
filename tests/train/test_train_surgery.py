"""Our layers in the place of torch's: the same function, the same parameters."""

import copy

import torch
from torch import nn
from torchvision import models

from torchopt_ref import nn as ours
from torchopt_ref.train.surgery import use_our_layers


def test_a_torchvision_model_computes_the_same_with_the_same_parameters():
    torch.manual_seed(0)
    model = models.resnet18(num_classes=5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight)
    before, parameters = copy.deepcopy(model), list(model.parameters())
    assert use_our_layers(model) == 20
    assert sum(type(each) is ours.BatchNorm2d for each in model.modules()) == 20
    assert not any(type(each) is nn.BatchNorm2d for each in model.modules())
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert model.state_dict().keys() == before.state_dict().keys()
    x = torch.randn(4, 3, 32, 32)
    for mode in (False, True):
        model.train(mode), before.train(mode)
        torch.testing.assert_close(model(x), before(x), rtol=1e-4, atol=1e-4)
    for name, buffer in before.named_buffers():
        torch.testing.assert_close(model.get_buffer(name), buffer, rtol=1e-4, atol=1e-4)


def test_options_mode_and_sharing_are_kept():
    shared = nn.Dropout(0.3, inplace=True)
    special = nn.BatchNorm1d(3, eps=0.1, momentum=None, track_running_stats=False)
    plain = nn.BatchNorm3d(2, affine=False)
    model = nn.Sequential(shared, nn.ModuleDict({"a": special, "b": plain}), shared).eval()
    model[1]["a"].train()
    assert use_our_layers(model) == 3
    assert type(model[0]) is ours.Dropout
    assert model[0] is model[2]
    assert (model[0].p, model[0].inplace, model[0].training) == (0.3, True, False)
    special, plain = model[1]["a"], model[1]["b"]
    assert (special.eps, special.momentum, special.track_running_stats) == (0.1, None, False)
    assert (special.running_mean, special.training) == (None, True)
    assert (plain.weight, plain.bias, plain.num_features) == (None, None, 2)


def test_a_subclass_stays():
    class Own(nn.Dropout):
        pass

    model = nn.Sequential(Own(), nn.SyncBatchNorm(3))
    assert use_our_layers(model) == 0
    assert type(model[0]) is Own
