import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from numpy_ref.gradient import numerical_gradient, relative_error
from numpy_ref.network import MultiLayerNet

TORCH_ACTIVATIONS = {"relu": torch.nn.ReLU, "sigmoid": torch.nn.Sigmoid, "tanh": torch.nn.Tanh}
CONFIGURATIONS = [
    {"activation": "relu"},
    {"activation": "sigmoid", "weight_init": "xavier"},
    {"activation": "tanh", "weight_init": 0.5, "weight_decay": 0.1},
    {"activation": "relu", "batchnorm": True},
    {"activation": "tanh", "dropout": 0.3},
    {"activation": "sigmoid", "dropout": 0.3, "scaling": "inference"},
    {"activation": "tanh", "batchnorm": True, "dropout": 0.3, "weight_decay": 0.1},
]


def batch(dtype=np.float64, n=9):
    rng = np.random.default_rng(1)
    return rng.standard_normal((n, 4)).astype(dtype), rng.integers(0, 3, n)


def repeating_draw(shape):
    """One and the same mask for each width of a layer, in every forward."""
    return np.random.default_rng(shape[1]).random(shape) >= 0.3


def small_net(**options):
    if options.get("dropout"):
        options.setdefault("draw", repeating_draw)
    return MultiLayerNet(4, (6, 5), 3, rng=np.random.default_rng(2), **options)


def flat(arrays, names):
    """The named arrays as one vector, so that errors are relative to the largest element of all.

    The gradient of a bias before batch normalisation is 0 but for rounding: relative to itself
    it has no digits.
    """
    return np.concatenate([np.ravel(arrays[name]) for name in names])


class TorchDropout(torch.nn.Module):
    def __init__(self, p, scaling):
        super().__init__()
        self.p, self.scaling = p, scaling

    def forward(self, x):
        if self.training:
            x = x * torch.from_numpy(repeating_draw(x.shape))
        if self.training == (self.scaling == "inverted"):
            return x / (1 - self.p) if self.training else x * (1 - self.p)
        return x


def torch_net(net, activation, batchnorm=False, dropout=0, scaling="inverted"):
    """The equal torch network, and its parameters under the names of ``net``."""
    modules, params = [], {}

    def add(module, **names):
        for attribute, name in names.items():
            value = torch.tensor(net.params[name].T)
            params[name] = torch.nn.Parameter(value)
            setattr(module, attribute, params[name])
        modules.append(module)

    for i, (fan_in, fan_out) in enumerate([(4, 6), (6, 5), (5, 3)], start=1):
        add(torch.nn.Linear(fan_in, fan_out), weight=f"W{i}", bias=f"b{i}")
        if i == 3:
            break
        if batchnorm:
            norm = torch.nn.BatchNorm1d(fan_out, dtype=torch.float64)
            add(norm, weight=f"gamma{i}", bias=f"beta{i}")
        modules.append(TORCH_ACTIVATIONS[activation]())
        if dropout:
            modules.append(TorchDropout(dropout, scaling))
    return torch.nn.Sequential(*modules), params


@pytest.mark.parametrize("options", CONFIGURATIONS)
def test_gradient_against_the_numerical_gradient(options):
    net = small_net(**options)
    x, t = batch()
    loss, grads = net.gradient(x, t)
    assert loss == net.loss(x, t)
    assert list(grads) == list(net.params)
    numerical = {
        name: numerical_gradient(lambda _: net.loss(x, t), param, h=3e-6)
        for name, param in net.params.items()
    }
    # Measured: at most 2.5e-10 over all configurations, from the rounding of the loss over h.
    assert relative_error(flat(grads, grads), flat(numerical, grads)) < 1e-9


@pytest.mark.parametrize("options", CONFIGURATIONS)
def test_training_equals_that_of_torch(options):
    net = small_net(**options)
    decay = options.get("weight_decay", 0)
    module, params = torch_net(net, **{k: options[k] for k in options if k[:6] != "weight"})
    weights = ["W1", "W2", "W3"]
    optimizer = torch.optim.SGD(
        [
            {"params": [params[name] for name in weights], "weight_decay": decay},
            {"params": [params[name] for name in params if name not in weights]},
        ],
        lr=0.1,
    )
    x, t = batch()
    for _ in range(5):
        loss, grads = net.gradient(x, t)
        torch_loss = F.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(t))
        penalty = decay / 2 * sum((params[name] ** 2).sum().item() for name in weights)
        optimizer.zero_grad()
        torch_loss.backward()
        torch_grads = {
            name: param.grad.numpy().T + (decay * net.params[name] if name in weights else 0)
            for name, param in params.items()
        }
        optimizer.step()
        for name, param in net.params.items():
            param -= 0.1 * grads[name]
        torch_params = {name: param.detach().numpy().T for name, param in params.items()}
        # Measured over all configurations and steps: 7e-16, 3.6e-15, 1.4e-16, 9e-16.
        assert loss == pytest.approx(torch_loss.item() + penalty, rel=2e-15)
        assert relative_error(flat(grads, params), flat(torch_grads, params)) < 1e-14
        assert relative_error(flat(net.params, params), flat(torch_params, params)) < 1e-15
    module.eval()
    with torch.no_grad():
        logits = module(torch.from_numpy(x)).numpy()
    assert relative_error(net.predict(x), logits) < 4e-15


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", CONFIGURATIONS)
def test_everything_keeps_the_dtype(options, dtype):
    options = {k: np.float64(v) if type(v) is float else v for k, v in options.items()}
    net = small_net(dtype=dtype, **options)
    x, t = batch(dtype)
    loss, grads = net.gradient(x, t)
    found = {"loss": loss, "predict": net.predict(x)}
    found |= net.params | net.activations | {f"gradient of {name}": grads[name] for name in grads}
    assert {name: array.dtype for name, array in found.items() if array.dtype != dtype} == {}


def test_a_float32_network_is_the_float64_one_rounded():
    single, double = small_net(dtype=np.float32), small_net()
    for name, param in double.params.items():
        assert np.array_equal(single.params[name], param.astype(np.float32))


def test_names_and_shapes():
    net = small_net(batchnorm=True, dropout=0.3)
    assert {name: param.shape for name, param in net.params.items()} == {
        "W1": (4, 6),
        "b1": (6,),
        "gamma1": (6,),
        "beta1": (6,),
        "W2": (6, 5),
        "b2": (5,),
        "gamma2": (5,),
        "beta2": (5,),
        "W3": (5, 3),
        "b3": (3,),
    }
    hidden = ["Affine", "BatchNorm", "Activation", "Dropout"]
    names = [f"{kind}{i}" for i in (1, 2) for kind in hidden] + ["Affine3"]
    assert list(net.layers) == names
    logits = net.predict(batch()[0])
    assert list(net.activations) == names
    assert net.activations["Affine3"] is logits
    assert list(small_net().layers) == [
        "Affine1",
        "Activation1",
        "Affine2",
        "Activation2",
        "Affine3",
    ]


def test_without_hidden_layers_it_is_softmax_regression():
    net = MultiLayerNet(4, (), 3, batchnorm=True, dropout=0.5)
    assert list(net.layers) == ["Affine1"]
    x, _ = batch()
    assert np.array_equal(net.predict(x, train=True), x @ net.params["W1"] + net.params["b1"])


def test_activations_are_those_of_the_last_forward():
    net = small_net(activation="tanh", batchnorm=True, dropout=0.3, scaling="inference")
    x, _ = batch()
    net.predict(x, train=True)
    first = dict(net.activations)
    norm = first["BatchNorm1"]
    assert abs(norm.mean(axis=0)).max() < 1e-15
    assert np.array_equal(first["Activation1"], np.tanh(norm))
    assert np.array_equal(first["Dropout1"], first["Activation1"] * repeating_draw(norm.shape))
    net.predict(x[:2])
    assert net.activations["Affine1"].shape == (2, 6)
    assert np.array_equal(net.activations["Affine1"], x[:2] @ net.params["W1"])


def test_changing_params_in_place_changes_the_network():
    net = small_net(batchnorm=True)
    x, t = batch()
    for name, param in net.params.items():
        # Not in training, where batch normalisation would take a change of the biases out again.
        before = net.loss(x, t, train=False)
        param[..., 0] += 0.5
        assert abs(net.loss(x, t, train=False) - before) > 1e-3, name


def test_given_params_are_copied():
    source = small_net(batchnorm=True)
    given = {name: param + 1 for name, param in source.params.items()}
    net = MultiLayerNet(4, (6, 5), 3, batchnorm=True, params=given, dtype=np.float32)
    for name, param in given.items():
        assert np.array_equal(net.params[name], param.astype(np.float32))
        net.params[name][...] = 0
        assert param.all()
    double = MultiLayerNet(4, (6, 5), 3, batchnorm=True, params=given)
    assert not any(np.shares_memory(double.params[name], given[name]) for name in given)
    with pytest.raises(KeyError, match="gamma1"):
        MultiLayerNet(4, (6, 5), 3, batchnorm=True, params=small_net().params)


@pytest.mark.parametrize(
    ("weight_init", "stds"),
    [
        ("he", [math.sqrt(2 / 900), math.sqrt(2 / 200)]),
        ("xavier", [math.sqrt(1 / 900), math.sqrt(1 / 200)]),
        (0.01, [0.01, 0.01]),
        ("zeros", [0, 0]),
    ],
)
def test_initial_values(weight_init, stds):
    net = MultiLayerNet(900, (200,), 400, weight_init=weight_init, batchnorm=True)
    for name, std in zip(("W1", "W2"), stds, strict=True):
        weight = net.params[name]
        # Five standard errors of the standard deviation of that many normal numbers.
        assert abs(weight.std() - std) <= 5 * std / math.sqrt(2 * weight.size)
    assert not net.params["b1"].any()
    assert not net.params["b2"].any()
    assert not net.params["beta1"].any()
    assert np.array_equal(net.params["gamma1"], np.ones(200))


def test_the_defaults_are_relu_and_he():
    net = MultiLayerNet(4, (6, 5), 3, rng=np.random.default_rng(2))
    same = small_net(activation="relu", weight_init="he")
    x, _ = batch()
    assert np.array_equal(net.predict(x), same.predict(x))


def test_one_seed_gives_one_network_and_one_sequence_of_masks():
    x, t = batch()
    losses = []
    for seed in (5, 5, 6):
        net = MultiLayerNet(4, (6, 5), 3, dropout=0.5, rng=np.random.default_rng(seed))
        losses.append([net.loss(x, t) for _ in range(3)])
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
    assert len(set(losses[0])) == 3
    default, seed_0 = (
        MultiLayerNet(4, (6, 5), 3, rng=rng) for rng in (None, np.random.default_rng(0))
    )
    assert np.array_equal(default.params["W1"], seed_0.params["W1"])


def test_default_masks_keep_with_probability_1_minus_p():
    net = MultiLayerNet(4, (500,), 3, activation="sigmoid", dropout=0.2)
    net.predict(batch(n=200)[0], train=True)
    kept = net.activations["Dropout1"] != 0
    # Five standard errors of a rate of 0.8 among 100,000.
    assert abs(kept.mean() - 0.8) < 5 * math.sqrt(0.8 * 0.2 / kept.size)


def test_masks_are_drawn_from_the_input_to_the_output_and_only_in_training():
    shapes = []

    def draw(shape):
        shapes.append(shape)
        return np.ones(shape, bool)

    net = small_net(dropout=0.5, draw=draw)
    x, t = batch()
    net.predict(x)
    net.accuracy(x, t)
    assert shapes == []
    net.gradient(x, t)
    assert shapes == [(9, 6), (9, 5)]


def test_batchnorm_uses_running_statistics_outside_training():
    net = small_net(batchnorm=True)
    x, t = batch()
    before = net.predict(x)
    net.loss(x, t, train=False)
    assert np.array_equal(net.predict(x), before)
    net.loss(x, t)
    assert net.layers["BatchNorm1"].num_batches_tracked == 1
    assert not np.array_equal(net.predict(x), before)
    assert relative_error(net.predict(x[:1]), net.predict(x)[:1]) < 2e-15


def test_weight_decay_adds_half_lambda_times_the_squared_weights():
    x, t = batch()
    plain, decayed = small_net(batchnorm=True), small_net(batchnorm=True, weight_decay=0.3)
    for net in (plain, decayed):
        net.params["b1"] += 1
        net.params["beta2"] += 1
    squares = math.fsum(np.ravel([(plain.params[f"W{i}"] ** 2).sum() for i in (1, 2, 3)]))
    (loss, grads), (decayed_loss, decayed_grads) = plain.gradient(x, t), decayed.gradient(x, t)
    assert decayed_loss == pytest.approx(loss + 0.15 * squares, rel=1e-15)
    for name, grad in grads.items():
        decay = 0.3 * plain.params[name] if name[0] == "W" else 0
        assert np.array_equal(decayed_grads[name], grad + decay)


def test_no_weight_decay_ignores_weights_whose_square_overflows():
    net = small_net(activation="tanh", dtype=np.float32)
    net.params["W1"][...] = 1e30
    with np.errstate(over="raise"):
        assert np.isfinite(net.loss(*batch(np.float32)))


def test_accuracy_and_one_hot_labels():
    net = small_net(dropout=0.3)
    x, _ = batch()
    t = net.predict(x).argmax(axis=1)
    assert net.accuracy(x, t) == 1
    t[:2] = (t[:2] + 1) % 3
    assert net.accuracy(x, t) == pytest.approx(7 / 9)
    assert type(net.accuracy(x, t)) is float
    one_hot = np.eye(3)[t]
    assert net.accuracy(x, one_hot) == net.accuracy(x, t)
    assert net.loss(x, one_hot) == net.loss(x, t)


def test_gradient_descent_learns():
    net = small_net()
    x, t = batch()
    first = net.loss(x, t)
    for _ in range(300):
        _, grads = net.gradient(x, t)
        for name, param in net.params.items():
            param -= 0.3 * grads[name]
    assert net.accuracy(x, t) == 1
    assert net.loss(x, t) < first / 50


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"'gelu'.*'relu', 'sigmoid', 'tanh'"):
        small_net(activation="gelu")
    with pytest.raises(ValueError, match="'lecun'"):
        small_net(weight_init="lecun")
    with pytest.raises(ValueError, match="between 0 and 1"):
        small_net(dropout=1.5)
    with pytest.raises(ValueError, match="'none'"):
        small_net(dropout=0.5, scaling="none")


def test_batchnorm_after_the_activation_and_an_unknown_place():
    net = MultiLayerNet(3, (4,), 2, batchnorm="after")
    assert list(net.layers) == ["Affine1", "Activation1", "BatchNorm1", "Affine2"]
    assert list(MultiLayerNet(3, (4,), 2, batchnorm="before").layers)[1] == "BatchNorm1"
    x = np.random.default_rng(0).standard_normal((6, 3))
    t = np.array([0, 1, 1, 0, 1, 0])
    _, grads = net.gradient(x, t)
    for name in ("W1", "gamma1", "beta1"):
        numeric = numerical_gradient(lambda _: net.loss(x, t), net.params[name], h=3e-6)
        assert relative_error(grads[name], numeric) < 1e-8
    with pytest.raises(ValueError, match="unknown batchnorm 'middle'"):
        MultiLayerNet(3, (4,), 2, batchnorm="middle")
