"""What torch's own tools do with torch's layers, they do with these: side by side."""

import copy
import io

import pytest
import torch
import torch.ao.quantization
import torch.nn.utils.prune
from torch import nn
from torch.fx.experimental.optimization import fuse, remove_dropout
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils.fusion import fuse_conv_bn_eval

import torchopt_ref.nn
from torchopt_ref.nn import BatchNorm2d, Dropout, fold_batchnorm

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:", "ignore:.*torch.ao.quantization")

X = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self, layers, p=0.5):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = layers.BatchNorm2d(4)
        self.drop = layers.Dropout(p)

    def forward(self, x):
        return self.drop(self.norm(self.conv(x)).relu())


def saved_and_loaded(scripted):
    file = io.BytesIO()
    torch.jit.save(scripted, file)
    file.seek(0)
    return torch.jit.load(file)


# Each makes another module of a model.
TOOLS = {
    "fx": torch.fx.symbolic_trace,
    "fx, copied": lambda net: copy.deepcopy(torch.fx.symbolic_trace(net)),
    "fx without dropout": remove_dropout,
    "script": lambda net: saved_and_loaded(torch.jit.script(net)),
    "trace": lambda net: torch.jit.trace(net, X, check_trace=False),
    "export of any batch": lambda net: torch.export.export(
        net, (X,), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},)
    ).module(),
    "make_fx": lambda net: make_fx(net)(X),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_makes_of_ours_what_it_makes_of_torchs(tool, training):
    """Without dropout, so that outputs can be compared: same values, same running statistics."""
    theirs, ours = Net(nn, p=0.0).train(training), Net(torchopt_ref.nn, p=0.0).train(training)
    ours.load_state_dict(theirs.state_dict())
    made = TOOLS[tool](ours)
    for _ in range(2):
        torch.testing.assert_close(made(X), theirs(X))


@pytest.mark.parametrize("tool", ["script", "trace", "make_fx"])
def test_dropout_goes_through_the_tools(tool):
    made = TOOLS[tool](Net(torchopt_ref.nn, p=0.5))
    zeros = (made(X) == 0).float().mean()
    # relu leaves a half, dropout a half of that.
    assert 0.7 < zeros < 0.8


def test_layers_stay_layers_in_a_graph_and_keep_their_mode():
    ours = Net(torchopt_ref.nn)
    graph = torch.fx.symbolic_trace(ours)
    assert type(graph.norm) is BatchNorm2d
    assert type(graph.drop) is Dropout
    assert {node.target for node in graph.graph.nodes if node.op == "call_module"} == {
        "conv",
        "norm",
        "drop",
    }
    assert (graph(X) == 0).float().mean() > 0.7
    assert (graph.eval()(X) == 0).float().mean() < 0.6
    alone = torch.fx.symbolic_trace(Dropout(0.5))
    assert set(alone(torch.ones(100)).tolist()) == {0.0, 2.0}


def test_scripted_modes_and_the_textbooks_scaling():
    x = torch.ones(1000)
    for inplace in (False, True):
        scripted = torch.jit.script(Dropout(0.25, inplace, scaling="inference"))
        assert set(scripted(x.clone()).tolist()) == {0.0, 1.0}
        given = x.clone()
        assert set(scripted.eval()(given).tolist()) == {0.75}
        assert set(given.tolist()) == {0.75 if inplace else 1.0}


def test_a_generator_is_not_ignored_by_a_recorded_graph():
    layer = Dropout(0.5, generator=torch.Generator())
    with pytest.raises(ValueError, match="takes no Dropout"):
        torch.jit.trace(layer, X)
    with pytest.raises(Exception, match=r"(?i)generator"):
        torch.jit.script(layer)(X)
    assert torch.equal(torch.jit.trace(layer.eval(), X)(X), X)


def test_exported_graphs_have_torchs_operations():
    """Quantisers and converters look for these."""
    for training in (True, False):
        graphs = [
            torch.export.export(Net(layers).train(training), (X,)).graph
            for layers in (nn, torchopt_ref.nn)
        ]
        called = [[node.target for node in g.nodes if node.op == "call_function"] for g in graphs]
        assert called[0] == called[1]


def test_folding_by_torch():
    net = Net(torchopt_ref.nn).eval()
    torch.testing.assert_close(fuse(net)(X), net(X))
    folded = fuse_conv_bn_eval(net.conv, net.norm)
    torch.testing.assert_close(folded(X), net.norm(net.conv(X)))


def test_quantisation_by_class_takes_torchs_twins():
    """``fuse_modules`` looks for the very classes of torch; docs/migrating.md says what to do."""
    net = Net(torchopt_ref.nn).eval()
    expected = net(X)
    with pytest.raises(AssertionError, match="did not find fuser method"):
        torch.ao.quantization.fuse_modules(net, [["conv", "norm"]])
    twin = nn.BatchNorm2d(net.norm.num_features, net.norm.eps)
    twin.load_state_dict(net.norm.state_dict())
    net.norm = twin.eval()
    fused = torch.ao.quantization.fuse_modules(net, [["conv", "norm"]])
    torch.testing.assert_close(fused(X), expected)


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_nested_tensors(layout):
    parts = [torch.ones(2, 300), torch.ones(4, 300)]
    nested = torch.nested.nested_tensor(parts, layout=layout, requires_grad=True)
    y = Dropout(0.25)(nested)
    assert y.layout == layout
    y.to_padded_tensor(0.0).sum().backward()
    for part, factor, gradient in zip(parts, y.unbind(), nested.grad.unbind(), strict=True):
        assert part.shape == factor.shape
        assert set(factor.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
        assert torch.equal(factor, gradient)
    both = torch.cat([part.flatten() for part in y.unbind()])
    assert 0.15 < (both == 0).float().mean() < 0.35
    assert Dropout(0.5).eval()(nested) is nested
    assert not Dropout(1.0)(nested).to_padded_tensor(0.0).any()


@pytest.mark.parametrize("p", [torch.tensor(0.5), True, 0, 1])
def test_a_probability_of_any_kind_that_torch_takes(p):
    layers = Dropout(p), nn.Dropout(p)
    assert repr(layers[0]) == repr(layers[1])
    x = torch.ones(200, requires_grad=True)
    values = [set(layer(x).tolist()) for layer in layers]
    assert values[0] == values[1]


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_everything_dropped_of_integers(dtype):
    x = torch.ones(4, dtype=dtype)
    y = Dropout(1.0)(x)
    assert y.dtype == nn.Dropout(1.0)(x).dtype
    assert not y.any()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("eps", [-1, -1e-5])
def test_a_negative_eps_is_refused_in_both_modes(eps, training):
    x = torch.randn(4, 3)
    with pytest.raises(ValueError, match=f"batch_norm eps must be .*, but got {eps}"):
        torchopt_ref.nn.BatchNorm1d(3, eps).train(training)(x)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("missing", ["running_mean", "running_var"])
def test_one_statistic_without_the_other_is_refused(missing, training):
    layer = torchopt_ref.nn.BatchNorm1d(3).train(training)
    setattr(layer, missing, None)
    with pytest.raises(ValueError, match="both be None or neither"):
        layer(torch.randn(4, 3))


def parametrised(layer, name):
    nn.utils.parametrize.register_parametrization(layer, name, nn.Identity())


REPARAMETRISE = {
    "weight_norm": lambda layer: nn.utils.parametrizations.weight_norm(layer),
    "weight_norm of old": lambda layer: torch.nn.utils.weight_norm(layer),
    "spectral_norm": lambda layer: nn.utils.parametrizations.spectral_norm(layer),
    "spectral_norm of old": lambda layer: nn.utils.spectral_norm(layer),
    "pruning": lambda layer: nn.utils.prune.l1_unstructured(layer, "weight", 3),
    "pruning of the bias": lambda layer: nn.utils.prune.l1_unstructured(layer, "bias", 3),
    "of the bias": lambda layer: parametrised(layer, "bias"),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("how", REPARAMETRISE)
def test_what_is_computed_from_other_parameters_is_not_folded(how):
    linear, norm = nn.Linear(4, 6), torchopt_ref.nn.BatchNorm1d(6)
    REPARAMETRISE[how](linear)
    with pytest.raises(ValueError, match=r"Linear: its (weight|bias) is computed from other"):
        fold_batchnorm(linear, norm)


def test_a_reparametrised_or_lazy_module_is_not_folded():
    norm = torchopt_ref.nn.BatchNorm1d(6)
    with pytest.raises(ValueError, match="not initialised"):
        fold_batchnorm(nn.LazyLinear(6), norm)
    nn.utils.prune.l1_unstructured(norm, "weight", 3)
    with pytest.raises(ValueError, match="BatchNorm1d: its weight is computed"):
        fold_batchnorm(nn.Linear(4, 6), norm)


class Quantised(nn.Linear):
    """As those for quantisation-aware training, LoRA, masked and standardised weights."""

    def forward(self, x):
        return nn.functional.linear(x, self.weight.round(), self.bias)


class Activated(nn.BatchNorm1d):
    def forward(self, x):
        return super().forward(x).relu()


def patched(layer):
    layer.forward = lambda x: nn.Linear.forward(layer, x).relu()
    return layer


@pytest.mark.parametrize(
    ("layer", "norm"),
    [
        (Quantised(4, 6), nn.BatchNorm1d(6)),
        (nn.Linear(4, 6), Activated(6)),
        (patched(nn.Linear(4, 6)), nn.BatchNorm1d(6)),
    ],
    ids=["layer", "BatchNorm", "one layer alone"],
)
def test_what_computes_something_of_its_own_is_not_folded(layer, norm):
    with pytest.raises(TypeError, match=r"its forward is not torch\.nn's"):
        fold_batchnorm(layer, norm)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN")
def test_a_batchnorm_takes_the_layout_of_onednn():
    theirs, ours = nn.BatchNorm2d(3).eval(), BatchNorm2d(3).eval()
    x = X.to_mkldnn()
    torch.testing.assert_close(ours(x).to_dense(), theirs(x).to_dense())
