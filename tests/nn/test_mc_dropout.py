"""mc_dropout: the moments of its passes, which are those of training mode where that drops only."""

import copy
import functools
import math
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.functional import dropout

from torchopt_ref.nn import Dropout, mc_dropout


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small_model():
    return torch.nn.Sequential(
        torch.nn.Linear(4, 64),
        torch.nn.BatchNorm1d(64),
        torch.nn.ReLU(),
        Dropout(0.5, generator=seeded()),
        torch.nn.Linear(64, 3),
        torch.nn.Dropout(0.2),
    )


def modes(model):
    return [module.training for module in model.modules()]


def test_mc_dropout_mean_and_variance_are_those_of_the_factor():
    """For one layer: mean x, variance x^2 p / (1 - p), each up to five standard errors."""
    passes, p = 4000, 0.2
    model = torch.nn.Sequential(Dropout(p, generator=seeded()))
    prediction = mc_dropout(model, torch.tensor([[1.0, 2.0, -3.0]]), passes)
    factor = torch.tensor([[1.0, 2.0, 3.0]])
    mean_error = factor * math.sqrt(p / (1 - p) / passes)
    assert ((prediction.mean - torch.tensor([[1.0, 2.0, -3.0]])).abs() < 5 * mean_error).all()
    fourth = (p * 1 + (1 - p) * (p / (1 - p)) ** 4) - (p / (1 - p)) ** 2
    variance_error = factor**2 * math.sqrt(fourth / passes)
    expected = factor**2 * p / (1 - p)
    assert ((prediction.variance - expected).abs() < 5 * variance_error).all()


def test_mc_dropout_is_the_population_moments_of_its_passes():
    model = torch.nn.Sequential(Dropout(0.5, generator=seeded(3)))
    x = torch.arange(1.0, 9.0)
    ensemble = Dropout(0.5, generator=seeded(3))
    outputs = np.stack([ensemble(x).numpy() for _ in range(5)]).astype(np.float64)
    prediction = mc_dropout(model.eval(), x, 5)
    np.testing.assert_allclose(prediction.mean, outputs.mean(0), rtol=2e-7)
    np.testing.assert_allclose(prediction.variance, outputs.var(0), rtol=2e-6)


def test_mc_dropout_with_one_pass_has_no_variance():
    assert (mc_dropout(small_model(), torch.ones(2, 4), 1).variance == 0).all()


@pytest.mark.parametrize("kind", [torch.nn.Dropout, torch.nn.Dropout2d, torch.nn.AlphaDropout])
def test_mc_dropout_turns_on_the_layers_of_torch_too(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        prediction = mc_dropout(torch.nn.Sequential(kind(0.5)).eval(), torch.ones(1, 2, 3, 3), 30)
    assert (prediction.variance > 0).all()


@pytest.mark.parametrize("training", [True, False])
def test_mc_dropout_leaves_the_model_as_it_was(training):
    model = small_model().train(training)
    model[3].train(not training)
    before, state = modes(model), copy.deepcopy(model.state_dict())
    prediction = mc_dropout(model, torch.randn(2, 4, generator=seeded()), 3)
    assert not prediction.mean.requires_grad
    assert prediction.variance.shape == (2, 3)
    assert modes(model) == before
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_mc_dropout_restores_the_modes_after_an_exception():
    model = small_model()
    model[1].eval()
    before = modes(model)
    with pytest.raises(RuntimeError):
        mc_dropout(model, torch.ones(2, 5), 3)
    assert modes(model) == before


def test_mc_dropout_errors():
    with pytest.raises(ValueError, match="passes must be at least 1, got 0"):
        mc_dropout(small_model(), torch.ones(2, 4), 0)
    with pytest.raises(ValueError, match="Sequential has no dropout that"):
        mc_dropout(torch.nn.Sequential(torch.nn.Linear(4, 2)), torch.ones(2, 4), 3)


# Whatever drops something takes part: passes are those of the model in training mode, bit for bit.


class Block(nn.Module):
    """Dropout that is no layer, as far as ``drop`` goes beside one that is."""

    def __init__(self, drop, **parts):
        super().__init__()
        self.p, self.drop, self.last = 0.4, drop, nn.Dropout(0.1)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.last(self.drop(self, x))


class Functional(Block):
    def __init__(self):
        super().__init__(lambda self, x: x)

    def forward(self, x):
        return self.last(F.dropout(x, self.p, self.training))


class Attention(Block):
    def __init__(self):
        super().__init__(lambda self, x: x)

    def forward(self, x):
        p = F.scaled_dot_product_attention(x, x, x, dropout_p=self.p if self.training else 0.0)
        return self.last(p)


class DropPath(nn.Module):
    def forward(self, x):
        if not self.training:
            return x
        return x * torch.empty(len(x), 1, 1).bernoulli_(0.5)


class Ambiguous(nn.Module):
    def forward(self, x):
        p = 0.5 if self.training else 0.0
        return F.dropout(x, p)


def drop(module, x):
    return F.dropout(x, module.p, module.training)


def with_method(layer):
    layer.p = 0.4
    layer.forward = types.MethodType(drop, layer)
    return layer


def with_hook(layer, register):
    getattr(layer, register)(lambda module, *given: F.dropout(given[-1], 0.4, module.training))
    return layer


class FromOutside(Block):
    forward = drop


class ByName(Block):
    def forward(self, x):
        return F.dropout(x, self.p, getattr(self, "training"))  # noqa: B009


class Imported(Block):
    def forward(self, x):
        return self.last(dropout(x, self.p, self.training))


class Inside(Block):
    def forward(self, x):
        return (lambda given: F.dropout(given, self.p, self.training))(x)


def decorated(forward):
    @functools.wraps(forward)
    def with_dropout(self, x):
        return F.dropout(forward(self, x), 0.4, self.training)

    with_dropout.itself = with_dropout
    return with_dropout


class ByDecorator(Block):
    @decorated
    def forward(self, x):
        return self.last(x)


class Decorated(nn.Module):
    @torch.no_grad()
    def forward(self, x):
        return F.dropout(x, 0.4, self.training)


class Deep(Block):
    def forward(self, x):
        return self.last((lambda given: drop(self, given))(x))


class Decorator:
    def __init__(self, function):
        self.function = function

    def __get__(self, module, cls):
        return types.MethodType(self.function, module)


class ByDescriptor(nn.Module):
    @Decorator
    def forward(self, x):
        return F.dropout(x, 0.4, self.training)


class TorchsDecorated(nn.Linear):
    forward = decorated(nn.Linear.forward)


class Activated(nn.BatchNorm1d):
    """Of no dropout: its statistics stay those of evaluation."""

    def forward(self, x):
        return F.relu(super().forward(x)) + self.training


class Recurrent(nn.LSTM):
    """Of a single layer, so that torch's own dropout is none."""

    def forward(self, x):
        return F.dropout(super().forward(x)[0], 0.4, self.training)


class Property(nn.Module):
    @property
    def rate(self):
        return 0.4 if self.training else 0.0

    def forward(self, x):
        return F.dropout(x, self.rate)


def encoder_layer(**options):
    return nn.TransformerEncoderLayer(8, 2, 16, 0.3, batch_first=True, **options)


MODELS = {
    "encoder layer": encoder_layer,
    "encoder layer, norm first": lambda: encoder_layer(norm_first=True),
    "encoder": lambda: nn.TransformerEncoder(encoder_layer(), 2),
    "encoder beside dropout": lambda: nn.Sequential(nn.Dropout(0.2), encoder_layer()),
    "attention": lambda: Block(
        lambda self, x: self.mha(x, x, x, need_weights=False)[0],
        mha=nn.MultiheadAttention(8, 2, 0.4, batch_first=True),
    ),
    "LSTM": lambda: Block(lambda self, x: self.rnn(x)[0], rnn=nn.LSTM(8, 8, 2, dropout=0.4)),
    "GRU": lambda: Block(lambda self, x: self.rnn(x)[0], rnn=nn.GRU(8, 8, 2, dropout=0.4)),
    "functional dropout": Functional,
    "scaled_dot_product_attention": Attention,
    "a function that gets the module": lambda: Block(lambda self, x: drop(self, x)),
    "a function from outside as a method": lambda: FromOutside(None),
    "a method of one module alone": lambda: with_method(nn.Linear(8, 8)),
    "a hook": lambda: with_hook(nn.Linear(8, 8), "register_forward_hook"),
    "the mode by its name": lambda: ByName(None),
    "dropout by its bare name": lambda: Imported(None),
    "a function inside of another": lambda: Inside(None),
    "a decorator": lambda: ByDecorator(None),
    "a decorated function": Decorated,
    "a decorator that is a class": ByDescriptor,
    "a decorated function of torch": lambda: TorchsDecorated(8, 8),
    "attention without dropout": lambda: Block(
        lambda self, x: F.dropout(self.mha(x, x, x, need_weights=False)[0], 0.4, self.training),
        mha=nn.MultiheadAttention(8, 2, batch_first=True),
    ),
    "a function that is called by one inside of another": lambda: Deep(None),
    "a recurrent layer's heir": lambda: Recurrent(8, 8),
    "DropPath": lambda: nn.Sequential(DropPath(), nn.Dropout(0.1)),
    "of torch": lambda: nn.Sequential(nn.Dropout(0.1), nn.AlphaDropout(0.2), nn.Dropout1d(0.3)),
}


@pytest.mark.parametrize("name", MODELS)
def test_passes_are_those_of_training_mode(name):
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        model, x = nn.Sequential(MODELS[name](), nn.Dropout(0.1)), torch.randn(2, 5, 8)
        torch.manual_seed(2)
        outputs = torch.stack([model(x) for _ in range(4)])
        torch.manual_seed(2)
        prediction = mc_dropout(model.eval(), x, 4)
    torch.testing.assert_close(prediction.mean, outputs.mean(0))
    torch.testing.assert_close(prediction.variance, outputs.var(0, correction=0))
    assert prediction.variance.max() > 0
    assert not any(module.training for module in model.modules())


class StatisticsInside(Block):
    def forward(self, x):
        return self.drop(F.batch_norm(x, None, None, training=self.training))


class OfAnother(Block):
    def forward(self, x):
        return F.dropout(x, self.p, self.last.training)


class Named(Block):
    def forward(self, x):
        return F.dropout(x, self.p, (mode := self.training)) * mode


class Heir(nn.Dropout):
    def forward(self, x):
        return super().forward(x) + self.training


class Normalization(nn.BatchNorm1d):
    def forward(self, x):
        return F.dropout(super().forward(x), 0.4, self.training)


class Encoder(nn.TransformerEncoderLayer):
    def forward(self, x):
        return super().forward(x) + 100 * self.training


def normalized():
    layer = nn.LSTM(8, 8, 2, dropout=0.4)
    return nn.utils.spectral_norm(layer, "weight_hh_l0")


UNKNOWN = {
    "Ambiguous": Ambiguous,
    "Property": Property,
    "StatisticsInside": lambda: StatisticsInside(None),
    "OfAnother": lambda: OfAnother(None),
    "Named": lambda: Named(None),
    "Heir": Heir,
    "Normalization": lambda: Normalization(8),
    "Encoder": lambda: Encoder(8, 2, 16),
    "LSTM": normalized,
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_training_mode_does_is_asked_where_it_cannot_be_known(name):
    model = nn.Sequential(UNKNOWN[name](), nn.Dropout(0.1))
    state = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=rf"^{name} uses self\.training, .* on=\[{name}\]"):
        mc_dropout(model, torch.ones(1, 8), 2)
    assert model.training
    assert all(map(torch.equal, state.values(), model.state_dict().values()))


def test_all_that_cannot_be_known_is_asked_at_once():
    with pytest.raises(ValueError, match=r"^Ambiguous .*\nHeir [^\n]*$"):
        mc_dropout(nn.Sequential(Ambiguous(), Heir(), Ambiguous()), torch.ones(1, 8), 2)


def test_what_was_asked_is_on_or_off():
    model, x = nn.Sequential(Ambiguous(), Dropout(0.1, generator=seeded())), torch.ones(1, 50)
    with torch.random.fork_rng(devices=[]):
        spread = [mc_dropout(model, x, 50, **{how: [Ambiguous]}) for how in ("on", "off")]
    assert spread[0].variance.mean() > spread[1].variance.mean() > 0
    encoded = mc_dropout(Encoder(8, 2, 16), torch.randn(1, 2, 8), 2, off=[Encoder])
    assert encoded.mean.max() < 50
    assert encoded.variance.any()


def test_what_drops_nothing_stays_off():
    linear = nn.utils.spectral_norm(nn.Linear(8, 8))
    model = nn.Sequential(linear, Activated(8), nn.Dropout(0.1))
    state = copy.deepcopy(model.state_dict())
    assert mc_dropout(model, torch.randn(4, 8), 2).mean.min() >= 0
    assert all(map(torch.equal, state.values(), model.state_dict().values()))


def ambiguous(x):
    raise NotImplementedError(x.training)


def test_an_attribute_is_no_global_of_the_same_name():
    model = Block(lambda self, x: self.ambiguous(x), ambiguous=nn.Identity())
    assert mc_dropout(model, torch.ones(1, 9), 5).variance.any()


def test_code_that_cannot_be_read_and_compiled_models_are_refused():
    """Unless the name says what the module does."""
    namespace = {"nn": nn}
    for name in ("Hidden", "HiddenDrop"):
        code = "def forward(self, x): return x * (2 if self.training else 1)"
        exec(f"class {name}(nn.Module):\n {code}", namespace)
    x = torch.ones(1, 5)
    assert (mc_dropout(namespace["HiddenDrop"](), x, 2).mean == 2).all()
    with pytest.raises(ValueError, match=r"^the code of Hidden cannot be read"):
        mc_dropout(nn.Sequential(namespace["Hidden"](), nn.Dropout()), x, 2)
    traced = torch.jit.trace(nn.Linear(5, 2), x)
    with pytest.raises(ValueError, match=r"compiled by torch\.jit"):
        mc_dropout(nn.Sequential(traced, nn.Dropout()), x, 2)


def test_no_dropout_in_an_attention_or_a_single_recurrent_layer():
    for model in (nn.MultiheadAttention(8, 2), nn.LSTM(8, 8), nn.GRU(8, 8, 2)):
        with pytest.raises(ValueError, match="has no dropout that training mode"):
            mc_dropout(model, torch.ones(2, 5, 8), 2)
