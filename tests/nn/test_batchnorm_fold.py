"""fold_batchnorm: one layer that equals two."""

import copy

import pytest
import torch

import torchopt_ref.nn
from torchopt_ref.nn import fold_batchnorm

REFLECT = {"padding": 1, "padding_mode": "reflect"}
LAYERS = {
    "linear": (torch.nn.Linear, (4, 6), {}, (5, 4), "1d"),
    "conv1d": (torch.nn.Conv1d, (4, 6, 3), {"padding": 1}, (5, 4, 7), "1d"),
    "conv2d": (torch.nn.Conv2d, (4, 6, 3), {"groups": 2, "stride": 2}, (5, 4, 7, 7), "2d"),
    "reflect": (torch.nn.Conv2d, (4, 6, 2), REFLECT, (5, 4, 7, 7), "2d"),
    "conv3d": (torch.nn.Conv3d, (4, 6, 2), {"dilation": 2}, (2, 4, 5, 5, 5), "3d"),
    "transposed 1d": (torch.nn.ConvTranspose1d, (4, 6, 3), {}, (5, 4, 7), "1d"),
    "transposed 2d": (torch.nn.ConvTranspose2d, (4, 6, 3), {"groups": 2}, (5, 4, 5, 5), "2d"),
    "transposed 3d": (torch.nn.ConvTranspose3d, (4, 6, 2), {"stride": 2}, (2, 4, 3, 3, 3), "3d"),
}


def trained_batchnorm(module, kind, **options):
    bn = getattr(module, f"BatchNorm{kind}")(6, eps=1e-3, dtype=torch.float64, **options)
    with torch.no_grad():
        for tensor in (*bn.parameters(), bn.running_mean, bn.running_var):
            tensor.uniform_(0.5, 2)
    return bn.eval()


@pytest.mark.parametrize("module", [torchopt_ref.nn, torch.nn], ids=["ours", "torch's"])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_equals_the_two_layers(name, bias, affine, module):
    layer_class, arguments, options, shape, kind = LAYERS[name]
    layer = layer_class(*arguments, bias=bias, dtype=torch.float64, **options)
    bn = trained_batchnorm(module, kind, affine=affine)
    before = copy.deepcopy((layer.state_dict(), bn.state_dict()))
    folded = fold_batchnorm(layer, bn)
    x = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(folded(x), bn(layer(x)), rtol=1e-13, atol=1e-13)
    assert type(folded) is layer_class
    assert all(p.requires_grad and p.is_leaf for p in folded.parameters())
    torch.testing.assert_close((layer.state_dict(), bn.state_dict()), before, rtol=0, atol=0)


def test_a_training_batchnorm_folds_as_in_evaluation():
    layer = torch.nn.Linear(4, 6, dtype=torch.float64)
    bn = trained_batchnorm(torchopt_ref.nn, "1d")
    x = torch.randn(5, 4, dtype=torch.float64)
    folded = fold_batchnorm(layer, copy.deepcopy(bn).train())
    torch.testing.assert_close(folded(x), bn(layer(x)), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("low", [torch.float16, torch.bfloat16])
def test_low_precision_is_folded_in_float32(low):
    layer = torch.nn.Linear(4, 6).to(low)
    bn = trained_batchnorm(torchopt_ref.nn, "1d").float()
    folded = fold_batchnorm(layer, bn)
    exact = fold_batchnorm(copy.deepcopy(layer).double(), copy.deepcopy(bn).double())
    assert folded.weight.dtype == folded.bias.dtype == low
    # Rounded once: half a unit in the last place, and a little more for float32 before it.
    torch.testing.assert_close(
        folded.weight.double(), exact.weight, rtol=torch.finfo(low).eps * 0.51, atol=0
    )


def test_a_model_keeps_its_outputs():
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3), torchopt_ref.nn.BatchNorm2d(6), torch.nn.ReLU()
    )
    for _ in range(3):
        model(torch.randn(4, 3, 8, 8))
    x = torch.randn(4, 3, 8, 8)
    expected = model.eval()(x)
    smaller = torch.nn.Sequential(fold_batchnorm(model[0], model[1]), model[2])
    # float32 sums of 27 products of order 1.
    torch.testing.assert_close(smaller(x), expected, rtol=0, atol=3e-6)


def test_errors():
    linear = torch.nn.Linear(4, 6)
    with pytest.raises(TypeError, match="cannot fold into Embedding"):
        fold_batchnorm(torch.nn.Embedding(4, 6), torchopt_ref.nn.BatchNorm1d(6))
    with pytest.raises(TypeError, match="cannot fold LayerNorm"):
        fold_batchnorm(linear, torch.nn.LayerNorm(6))
    with pytest.raises(ValueError, match="always normalises by the batch's statistics"):
        fold_batchnorm(linear, torchopt_ref.nn.BatchNorm1d(6, track_running_stats=False))
    with pytest.raises(ValueError, match="the layer has 6 channels, the BatchNorm 5"):
        fold_batchnorm(linear, torchopt_ref.nn.BatchNorm1d(5))
