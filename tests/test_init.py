"""Initial values: torch's names, the textbook's distributions, fans, the reference's stream, and
the choice by activation."""

import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from numpy_ref.init import initial_std
from numpy_ref.random import Generator
from torchopt_ref import init
from torchopt_ref.init import book
from torchopt_ref.nn import Dropout

RANDOM = {
    "xavier_normal": (book.xavier_normal_, 1, "normal"),
    "xavier_uniform": (book.xavier_uniform_, 1, "uniform"),
    "he_normal": (book.he_normal_, 2, "normal"),
    "he_uniform": (book.he_uniform_, 2, "uniform"),
}


# The bound of numpy_ref.random.Generator.normal, in eps.
NORMAL_EPS = {
    np.float32: 6 if torch.backends.cpu.get_cpu_capability() == "AVX2" else 32,
    np.float64: 16,
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# torch's dialect.


def test_every_function_of_torchs_is_here():
    """The same object: so are its signature, defaults, errors and the bits that a seed gives."""
    torchs = {
        name: function
        for name, function in vars(nn.init).items()
        if inspect.isfunction(function)
        and function.__module__ == nn.init.__name__
        and not name.startswith("_")
    }
    assert {"calculate_gain", "normal_", "sparse_", "xavier_uniform"} <= torchs.keys()
    for name, function in torchs.items():
        assert getattr(init, name) is function
        assert name in init.__all__


def test_he_is_kaiming_by_the_other_name():
    assert init.he_normal_ is init.kaiming_normal_
    assert init.he_uniform_ is init.kaiming_uniform_


def test_the_dialects_differ_where_the_documentation_says():
    for room, xavier, normal in [(init, 2 / 5200, 1.0), (book, 1 / 5000, 1e-4)]:
        for function, variance in [(room.xavier_normal_, xavier), (room.normal_, normal)]:
            drawn = function(torch.empty(200, 5000), generator=seeded())
            # A million values: five standard errors of their variance.
            assert abs(drawn.var().item() / variance - 1) < 0.0071, function


# Fans.


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(7, 5),
        nn.Conv1d(4, 6, 3),
        nn.Conv2d(4, 6, (3, 2), stride=2),
        nn.Conv3d(2, 3, (3, 1, 2)),
    ],
)
def test_fans_are_torchs_where_the_shape_tells(layer):
    expected = nn.init._calculate_fan_in_and_fan_out(layer.weight)
    assert init.layer_fans(layer) == init.shape_fans(layer.weight) == expected


CONNECTED = [
    nn.Linear(7, 5),
    nn.Conv1d(4, 6, 3),
    nn.Conv2d(4, 6, (3, 2)),
    nn.Conv2d(4, 6, 3, dilation=2, groups=2),
    nn.Conv2d(4, 8, 3, groups=4),
    nn.Conv3d(2, 3, (3, 1, 2)),
    nn.ConvTranspose1d(4, 6, 3),
    nn.ConvTranspose2d(4, 6, (3, 2)),
    nn.ConvTranspose2d(4, 6, 3, groups=2),
    nn.ConvTranspose3d(2, 3, 2),
]


@pytest.mark.parametrize("layer", CONNECTED, ids=repr)
def test_fans_count_the_connections(layer):
    """With all weights 1 an inner output counts its inputs, an inner gradient its outputs."""
    init.constant_(layer.weight, 1.0)
    init.zeros_(layer.bias)
    if isinstance(layer, nn.Linear):
        x = torch.ones(1, layer.in_features, requires_grad=True)
    else:
        x = torch.ones(1, layer.in_channels, *[11] * len(layer.kernel_size), requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert init.layer_fans(layer) == (int(y.max()), int(x.grad.max()))


@pytest.mark.parametrize("layer", [nn.Embedding(11, 5), nn.EmbeddingBag(11, 5)])
def test_fans_of_a_lookup_count_its_active_row(layer):
    init.constant_(layer.weight, 1.0)
    y = layer(torch.tensor([[3]]))
    y.sum().backward()
    assert init.layer_fans(layer) == (int(y.max()), int(layer.weight.grad.sum()))


def test_what_torchs_shape_blind_fans_are():
    """The differences that the documentation states."""
    transposed, grouped = nn.ConvTranspose2d(4, 6, 3), nn.Conv2d(4, 6, 3, groups=2)
    assert init.shape_fans(transposed.weight) == init.layer_fans(transposed)[::-1]
    assert init.shape_fans(grouped.weight) == (18, 54)
    assert init.layer_fans(grouped) == (18, 27)
    assert init.shape_fans(nn.Embedding(11, 5).weight) == (5, 11)


def test_fans_errors():
    with pytest.raises(ValueError, match=r"at least 2 dimensions.*\(3,\)"):
        init.shape_fans(torch.ones(3))
    with pytest.raises(TypeError, match="fans of a ReLU"):
        init.layer_fans(nn.ReLU())


# Values.


def reference_draw(name, generator, shape, dtype, std):
    if name == "uniform":
        uniform = generator.uniform(shape, dtype)
        return (2 * uniform - 1) * dtype(math.sqrt(3) * std)
    return generator.normal(shape, dtype) * dtype(std)


def assert_draws_agree(actual, expected, distribution, std):
    """Uniform values are equal. Normal ones carry the bound of ``numpy_ref.random``, times std.

    One more eps stands for the rounding of the product, whose operands may differ.
    """
    assert actual.dtype == expected.dtype
    if distribution == "uniform" or expected.size < 16:
        np.testing.assert_array_equal(actual, expected)
    else:
        eps = np.finfo(expected.dtype).eps
        bound = (NORMAL_EPS[expected.dtype.type] * std + np.abs(expected)) * eps
        assert (np.abs(actual.astype(np.float64) - expected) <= bound).all()


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(RANDOM)),
    seed=st.integers(0, 2**64 - 1),
    shape=st.lists(st.integers(0, 9), min_size=2, max_size=4).map(tuple),
    dtype=st.sampled_from([np.float32, np.float64]),
    mode=st.sampled_from(["fan_in", "fan_out", "fan_avg"]),
    gain=st.sampled_from([1.0, 0.3, 5 / 3]),
)
def test_same_values_as_the_reference(name, seed, shape, dtype, mode, gain):
    function, numerator, distribution = RANDOM[name]
    weight = torch.empty(shape, dtype=torch.from_numpy(np.empty(0, dtype)).dtype)
    assert function(weight, mode=mode, gain=gain, generator=seeded(seed)) is weight
    kernel = math.prod(shape[2:])
    fan_in, fan_out = shape[1] * kernel, shape[0] * kernel
    n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]
    std = gain * math.sqrt(numerator / n) if n else 1.0
    expected = reference_draw(distribution, Generator(seed), shape, dtype, std)
    assert_draws_agree(weight.numpy(), expected, distribution, std)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normal_is_the_references(dtype):
    weight = torch.empty(30, 7, dtype=torch.from_numpy(np.empty(0, dtype)).dtype)
    book.normal_(weight, generator=seeded(8))
    expected = reference_draw("normal", Generator(8), (30, 7), dtype, 0.01)
    assert_draws_agree(weight.numpy(), expected, "normal", 0.01)


def test_default_scales_are_the_textbooks():
    """A million values: the sample deviation is within 0.35 % (five standard errors)."""
    for name, (function, _, _) in RANDOM.items():
        std = function(torch.empty(500, 2000), generator=seeded(1)).std().item()
        assert abs(std / initial_std(name.partition("_")[0], 2000) - 1) < 0.0036, name


@pytest.mark.parametrize(
    ("name", "theirs", "mode"),
    [
        ("xavier_normal", nn.init.xavier_normal_, "fan_avg"),
        ("xavier_uniform", nn.init.xavier_uniform_, "fan_avg"),
        ("he_normal", lambda w, generator: nn.init.kaiming_normal_(
            w, nonlinearity="relu", generator=generator), "fan_in"),
        ("he_uniform", lambda w, generator: nn.init.kaiming_uniform_(
            w, nonlinearity="relu", generator=generator), "fan_in"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(40, 50), (5, 3, 2, 4)])
def test_torchs_functions_draw_the_same_up_to_rounding(name, theirs, mode, shape):
    """torch scales inside its draw: with other roundings, of values up to 6 deviations."""
    function, _, _ = RANDOM[name]
    ours = function(torch.empty(shape), mode=mode, generator=seeded(3))
    expected = theirs(torch.empty(shape), generator=seeded(3))
    assert (ours - expected).abs().max() <= 8 * torch.finfo(torch.float32).eps * expected.std()


@pytest.mark.parametrize("name", [*sorted(RANDOM), "normal"])
def test_values_do_not_depend_on_the_memory_format(name):
    function = RANDOM[name][0] if name in RANDOM else book.normal_
    plain = function(torch.empty(4, 3, 5, 5), generator=seeded())
    strided = torch.empty(4, 3, 5, 5).to(memory_format=torch.channels_last)
    assert torch.equal(function(strided, generator=seeded()), plain)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(RANDOM))
def test_sixteen_bit_tensors_are_rounded_float32(name, dtype):
    function, _, _ = RANDOM[name]
    weight = function(torch.empty(20, 30, dtype=dtype), generator=seeded())
    assert torch.equal(weight, function(torch.empty(20, 30), generator=seeded()).to(dtype))


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_random_values_record_no_gradient_and_take_given_fans(name):
    function, numerator, distribution = RANDOM[name]
    bias = nn.Parameter(torch.empty(10))
    function(bias, fans=init.Fans(4, 9), mode="fan_out", generator=seeded(2))
    std = math.sqrt(numerator / 9)
    expected = reference_draw(distribution, Generator(2), (10,), np.float32, std)
    np.testing.assert_array_equal(bias.detach().numpy(), expected)
    assert bias.is_leaf


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_a_gain_of_0_gives_zeros(name):
    function, _, _ = RANDOM[name]
    assert torch.equal(function(torch.ones(3, 4), gain=0).abs(), torch.zeros(3, 4))


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_errors_of_random_values(name):
    function, _, _ = RANDOM[name]
    weight = torch.empty(3, 4)
    with pytest.raises(ValueError, match=r"'fan_sum'.*'fan_in', 'fan_out', 'fan_avg'"):
        function(weight, mode="fan_sum")
    with pytest.raises(ValueError, match="gain must be at least 0, got -1"):
        function(weight, gain=-1)
    with pytest.raises(ValueError, match="at least 2 dimensions"):
        function(torch.empty(3))
    with pytest.raises(TypeError, match=r"floating-point tensor, not torch\.int64"):
        function(torch.empty(3, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="std must be at least 0, got nan"):
        book.normal_(weight, math.nan)


# A whole model.


class Functional(nn.Module):
    """A convolution before relu(bn(.)) + a skip, one before a method, a tied and a free weight."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.mix = nn.ConvTranspose2d(4, 6, 1)
        self.gate = nn.Linear(6, 6)
        self.dropout = Dropout()
        self.head = nn.Linear(6, 6)
        self.head.weight = self.gate.weight
        self.scale = nn.Parameter(torch.full((1,), 3.0))

    def forward(self, x):
        y = torch.relu(self.norm(self.conv(x)) + x.mean(1, keepdim=True))
        y = nn.functional.leaky_relu(self.mix(y)).mean((2, 3))
        y = self.dropout(self.gate(y)).sigmoid()
        return self.head(y) * self.scale


def schemes(table):
    return {row.name: (row.scheme, row.activation) for row in table}


def test_auto_chooses_by_the_activation_that_follows():
    model = Functional()
    table = init.initialize(model, generator=seeded())
    assert schemes(table) == {
        "scale": ("kept", ""),
        "conv.weight": ("he", "relu"),
        "conv.bias": ("zeros", ""),
        "norm.weight": ("kept", ""),
        "norm.bias": ("kept", ""),
        "mix.weight": ("he", "leakyrelu"),
        "mix.bias": ("zeros", ""),
        "gate.weight": ("xavier", "sigmoid"),
        "gate.bias": ("zeros", ""),
        "head.weight": ("as gate.weight", ""),
        "head.bias": ("zeros", ""),
    }
    assert [row.name for row in table] == [
        name for name, _ in model.named_parameters(remove_duplicate=False)
    ]
    # The values are those of the stream, one weight after the other, each with its own std.
    stream = seeded()
    for layer, numerator in [(model.conv, 2), (model.mix, 2), (model.gate, 1)]:
        std = math.sqrt(numerator / init.layer_fans(layer).fan_in)
        expected = book.normal_(torch.empty_like(layer.weight), std, generator=stream)
        assert torch.equal(layer.weight, expected)
        assert (layer.bias == 0).all()
    assert (model.norm.weight == 1).all()
    assert model.scale.item() == 3.0


ACTIVATIONS = {
    nn.ReLU(): "he",
    nn.ReLU6(): "he",
    nn.LeakyReLU(0.1): "he",
    nn.PReLU(): "he",
    nn.ELU(): "he",
    nn.GELU(): "he",
    nn.SiLU(): "he",
    nn.Sigmoid(): "xavier",
    nn.Tanh(): "xavier",
    nn.LogSoftmax(1): "xavier",
    nn.SELU(): "xavier",
}


@pytest.mark.parametrize(("activation", "scheme"), ACTIVATIONS.items(), ids=repr)
def test_auto_knows_the_activation_layers(activation, scheme):
    model = nn.Sequential(
        nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Identity(), activation, nn.Linear(4, 2)
    )
    table = init.initialize(model)
    assert table[0].scheme == scheme
    assert table[-2][:1] + table[-2][3:5] == ("5.weight", "xavier", "none")


@pytest.mark.parametrize(
    ("function", "scheme"),
    [
        (torch.relu, "he"),
        (nn.functional.relu_, "he"),
        (nn.functional.gelu, "he"),
        (nn.functional.silu, "he"),
        (torch.tanh, "xavier"),
        (lambda x: x.tanh_(), "xavier"),
        (lambda x: x.relu(), "he"),
        (lambda x: x.flatten(1).log_softmax(-1), "xavier"),
    ],
)
def test_auto_knows_functions_and_methods(function, scheme):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            return function(self.layer(x))

    row = init.initialize(Model())[0]
    assert (row.name, row.scheme) == ("layer.weight", scheme)
    assert row.activation != "none"


class Layers(nn.Module):
    """Layers ``a``, ``b`` and ``c``, and more by name, run by a function of the model and x."""

    def __init__(self, run, **more):
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(3))
        for name, module in more.items():
            self.add_module(name, module)
        self.run = run

    def forward(self, x):
        return self.run(self, x)


@pytest.mark.parametrize(
    ("run", "more"),
    [
        (lambda m, x: m.c(m.b(m.a(x)).relu()), {}),
        (lambda m, x: torch.relu(m.more(m.a(x))[0]) + m.b(x).relu(), {"more": nn.LSTM(4, 4)}),
        (lambda m, x: m.more(m.a(x), x).relu() + m.b(x).relu(), {"more": nn.Bilinear(4, 4, 4)}),
        (
            lambda m, x: m.more(m.a(x)).relu() + m.b(x).relu(),
            {"more": nn.TransformerEncoderLayer(4, 2, 8)},
        ),
        (lambda m, x: nn.functional.linear(m.a(x), m.c.weight).relu() + m.b(x).relu(), {}),
        (lambda m, x: torch.relu(m.a(x) @ m.c.weight) + m.b(x).relu(), {}),
    ],
)
def test_auto_does_not_look_across_another_product(run, more):
    found = schemes(init.initialize(Layers(run, **more)))
    assert found["a.weight"] == ("xavier", "none")
    assert found["b.weight"] == ("he", "relu")
    assert found["c.weight"] == ("xavier", "none")


def test_auto_takes_the_nearest_activation():
    def run(m, x):
        y = m.a(x)
        near, far = y.flatten(1), y.reshape(-1, 4)
        return torch.tanh(far.flatten(1)) + torch.relu(near) + m.b(x) + m.c(x)

    assert init.initialize(Layers(run))[0].activation == "relu"


def test_auto_walks_each_node_once():
    """The number of paths through these sums is 2^60."""

    def run(m, x):
        y = m.a(x)
        for _ in range(60):
            y = y + y.flatten(1)
        return torch.relu(y)

    assert init.initialize(Layers(run))[0].activation == "relu"


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        y = self.layer(x)
        return torch.relu(y) if y.sum() > 0 else y


def test_a_model_that_cannot_be_traced_needs_a_name():
    with pytest.raises(ValueError, match=r"Branching cannot be traced .*activation="):
        init.initialize(Branching())
    for name, scheme in [("relu", "he"), ("Tanh", "xavier"), ("none", "xavier")]:
        assert init.initialize(Branching(), activation=name)[0].scheme == scheme


def test_a_given_name_serves_only_where_the_trace_tells_nothing():
    encoder = nn.TransformerEncoderLayer(4, 2, 8)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), encoder)
    found = schemes(init.initialize(model, activation="gelu"))
    assert found["0.weight"] == ("xavier", "tanh")
    assert found["2.linear1.weight"] == ("he", "gelu")
    assert found["2.self_attn.in_proj_weight"] == ("kept", "")
    assert schemes(init.initialize(model))["2.linear1.weight"] == ("xavier", "none")


@pytest.mark.parametrize("scheme", ["he", "xavier", "normal", "zeros"])
def test_named_schemes(scheme):
    model = Functional()
    table = init.initialize(model, scheme, std=0.02, generator=seeded())
    std = {"he": math.sqrt(2 / 27), "xavier": math.sqrt(1 / 27), "normal": 0.02, "zeros": 0.0}
    row = next(row for row in table if row.name == "conv.weight")
    assert row == ("conv.weight", "Conv2d", (4, 3, 3, 3), scheme, "", (27, 36), std[scheme])
    expected = book.normal_(torch.empty(4, 3, 3, 3), std[scheme], generator=seeded())
    assert torch.equal(model.conv.weight, expected)


def test_a_shared_layer_is_filled_once():
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.ReLU(), layer, nn.Tanh(), layer)
    assert schemes(init.initialize(model, generator=seeded())) == {
        "0.weight": ("he", "relu"),
        "0.bias": ("zeros", ""),
        "2.weight": ("as 0.weight", ""),
        "2.bias": ("as 0.bias", ""),
        "4.weight": ("as 0.weight", ""),
        "4.bias": ("as 0.bias", ""),
    }
    expected = book.he_normal_(torch.empty(3, 3), generator=seeded())
    assert torch.equal(layer.weight, expected)


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_an_embedding_is_standard_normal_but_for_its_padding(kind):
    model = nn.Sequential(kind(50, 8, padding_idx=3))
    assert init.initialize(model, generator=seeded())[0].std == 1.0
    expected = book.normal_(torch.empty(50, 8), 1.0, generator=seeded())
    expected[3] = 0
    assert torch.equal(model[0].weight, expected)


def test_the_model_keeps_its_mode_and_the_global_stream_its_state():
    model = Functional().eval()
    before = torch.get_rng_state()
    init.initialize(model, generator=seeded())
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module.training for module in model.modules())
    assert all(p.requires_grad and p.is_leaf for p in model.parameters())


def test_the_table_reads_as_a_table():
    model = nn.Sequential(nn.Linear(4, 3, dtype=torch.float64), nn.Tanh(), nn.LayerNorm(3))
    assert str(init.initialize(model)).splitlines() == [
        "parameter  layer      shape  scheme  activation  fan_in  std",
        "0.weight   Linear     3x4    xavier  tanh        4       0.5",
        "0.bias     Linear     3      zeros                       0",
        "2.weight   LayerNorm  3      kept",
        "2.bias     LayerNorm  3      kept",
    ]


def test_initialize_errors():
    model = nn.Sequential(nn.Linear(3, 3))
    with pytest.raises(ValueError, match=r"'glorot'.*'auto', 'he', 'xavier', 'normal', 'zeros'"):
        init.initialize(model, "glorot")
    with pytest.raises(ValueError, match=r"unknown activation 'sine'.*'none'.*'relu'"):
        init.initialize(model, activation="sine")
    with pytest.raises(ValueError, match="std must be at least 0, got -1"):
        init.initialize(model, "normal", std=-1)
    with pytest.raises(ValueError, match=r"0\.weight has no shape yet"):
        init.initialize(nn.Sequential(nn.LazyLinear(3)))


@pytest.mark.parametrize(("activation", "scheme"), [(nn.ReLU, "he"), (nn.Tanh, "xavier")])
def test_auto_keeps_the_signal_through_fifty_layers(activation, scheme):
    """What the schemes are for: deep activations neither vanish nor blow up."""
    layers = [module for _ in range(50) for module in (nn.Linear(256, 256), activation())]
    model = nn.Sequential(*layers)
    assert init.initialize(model, generator=seeded(1))[0].scheme == scheme
    with torch.no_grad():
        y = model(torch.randn(64, 256, generator=seeded(2)))
    assert 0.05 < y.square().mean().sqrt() < 3


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("name", sorted(RANDOM))
def test_values_on_cuda(name):
    function, numerator, _ = RANDOM[name]
    weight = torch.empty(500, 2000, device="cuda")
    function(weight, generator=torch.Generator("cuda").manual_seed(0))
    assert abs(weight.std().item() / math.sqrt(numerator / 2000) - 1) < 0.0036


def test_the_fans_that_layers_of_others_ask_torch_for_are_here_too():
    """They are not public, but old layers are written with them."""
    for name in ("_calculate_fan_in_and_fan_out", "_calculate_correct_fan"):
        assert getattr(init, name) is getattr(torch.nn.init, name)
