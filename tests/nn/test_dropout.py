"""Dropout against the NumPy reference, torch, numerical gradients, and its own statistics."""

import copy
import math
import pickle
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

from numpy_ref.layers import Dropout as ReferenceDropout
from numpy_ref.random import Generator
from torchopt_ref.nn import Dropout, dropout

SCALINGS = ["inverted", "inference"]

# A standard score beyond 5 has probability 6e-7 in a sound generator. The seeds are fixed, so a
# test either always passes or always fails.
LARGEST_SCORE = 5.0


# Resolved by 16, 32 and 64 random bits.
PROBABILITIES = [
    0.0,
    1e-30,
    1e-9,
    1e-6,
    0.1,
    0.5,
    0.75,
    0.999,
    0.9999,
    0.99999,
    1 - 1e-9,
    1 - 2**-53,
]
PROBABILITIES += [1.0]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def binomial_score(successes, probability, trials):
    return (successes - probability * trials) / math.sqrt(trials * probability * (1 - probability))


def assert_same_bits(tensor, array):
    actual = tensor.detach().numpy()
    assert actual.dtype == array.dtype
    assert actual.shape == array.shape
    unsigned = np.dtype(f"u{array.itemsize}")
    np.testing.assert_array_equal(
        np.ascontiguousarray(actual).reshape(-1).view(unsigned),
        np.ascontiguousarray(array).reshape(-1).view(unsigned),
    )


# Against the reference: the same units, 0 ULP forward and backward, the sign of zero included.


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    shape=st.lists(st.integers(0, 9), max_size=4).map(tuple),
    p=st.one_of(st.floats(0, 1), st.sampled_from(PROBABILITIES)),
    scaling=st.sampled_from(SCALINGS),
    dtype=st.sampled_from([np.float32, np.float64]),
    training=st.booleans(),
)
def test_equals_the_reference(seed, shape, p, scaling, dtype, training):
    """Two steps in a row, so that both sides must also draw equally much."""
    drawn = Generator(seed)
    reference = ReferenceDropout(p, lambda shape: drawn.keep_mask(shape, p), scaling)
    layer = Dropout(p, scaling=scaling, generator=seeded(seed)).train(training)
    values = np.random.default_rng(seed)
    for _ in range(2):
        x = np.asarray(values.normal(size=shape), dtype)
        dy = np.asarray(values.normal(size=shape), dtype)
        tensor = torch.from_numpy(x).requires_grad_()
        y = layer(tensor)
        y.backward(torch.from_numpy(dy))
        assert_same_bits(y, np.asarray(reference.forward(x, training)))
        assert_same_bits(tensor.grad, np.asarray(reference.backward(dy)))


def test_equals_the_reference_on_many_elements():
    x = np.random.default_rng(0).normal(size=(128, 1003)).astype(np.float32)
    drawn = Generator(5)
    reference = ReferenceDropout(0.3, lambda shape: drawn.keep_mask(shape, 0.3))
    assert_same_bits(dropout(torch.from_numpy(x), 0.3, generator=seeded(5)), reference.forward(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_dtypes_round_once(dtype):
    x = torch.randn(3, 50, generator=seeded()).to(dtype)
    mask = torch.from_numpy(Generator(1).keep_mask((3, 50), 0.3))
    expected = (x.float() * mask * (1 / 0.7)).to(dtype)
    y = dropout(x, 0.3, generator=seeded(1))
    assert y.dtype == dtype
    assert torch.equal(y, expected)


def test_one_seed_drops_the_same_units_in_every_memory_format():
    x = torch.randn(2, 5, 3, 4, generator=seeded())
    for variant in [x.to(memory_format=torch.channels_last), x.mT.contiguous().mT]:
        y = dropout(variant, generator=seeded(1))
        assert y.stride() == variant.stride()
        assert torch.equal(y, dropout(x, generator=seeded(1)))


# Against torch.nn.Dropout.


def test_kept_values_are_torchs_to_two_ulp():
    """torch divides 1 by 1 - p in float32, here the quotient is rounded once from float64.

    The factors are at most 1 ULP apart, which makes at most 2 ULP of a product.
    """
    x = torch.randn(4096, generator=seeded())
    for p in [0.1, 0.3, 0.5, 0.85]:
        ours, theirs = dropout(x, p, generator=seeded()), torch.nn.functional.dropout(x, p)
        both = (ours != 0) & (theirs != 0)
        assert both.any()
        distance = ours[both].view(torch.int32) - theirs[both].view(torch.int32)
        assert distance.abs().max() <= 2


@pytest.mark.parametrize("p", [-0.1, 1.1, 2, math.inf])
def test_wrong_p_raises_as_torch_does(p):
    with pytest.raises(ValueError, match="dropout probability") as theirs:
        torch.nn.Dropout(p)
    for wrong in [lambda: Dropout(p), lambda: dropout(torch.ones(3), p)]:
        with pytest.raises(ValueError, match="dropout probability") as ours:
            wrong()
        assert str(ours.value) == str(theirs.value)


def test_nan_as_p_raises():
    with pytest.raises(ValueError, match="between 0 and 1, but got nan"):
        Dropout(math.nan)


def test_unknown_scaling_names_the_choices():
    with pytest.raises(ValueError, match=r"'torch'.*'inverted', 'inference'"):
        Dropout(scaling="torch")


def test_integer_input_raises_as_torch_does():
    x = torch.ones(4, dtype=torch.int64)
    with pytest.raises(RuntimeError, match="can't be cast to the desired output type Long"):
        torch.nn.functional.dropout(x, 0.5)
    with pytest.raises(RuntimeError, match="can't be cast to the desired output type Long"):
        dropout(x, 0.5)


def test_dropped_nan_and_infinity_become_nan_as_in_torch():
    x = torch.tensor([math.nan, math.inf, -math.inf, 1.0])
    for function in [dropout, torch.nn.functional.dropout]:
        assert torch.equal(function(x, 1.0).isnan(), torch.tensor([True, True, True, False]))
    x = x.repeat(50)
    kept = torch.from_numpy(Generator(0).keep_mask((200,), 0.5))
    expected = torch.where(kept, 2 * x, torch.where(x.isfinite(), 0.0, math.nan))
    torch.testing.assert_close(
        dropout(x, 0.5, generator=seeded()), expected, rtol=0, atol=0, equal_nan=True
    )


def test_is_a_torch_dropout_with_its_repr_and_state():
    layer = Dropout(0.25, True)
    assert isinstance(layer, torch.nn.Dropout)
    assert repr(layer) == repr(torch.nn.Dropout(0.25, True))
    assert repr(Dropout(scaling="inference")) == (
        "Dropout(p=0.5, inplace=False, scaling=inference)"
    )
    assert not layer.state_dict()
    torch.nn.Dropout().load_state_dict(layer.state_dict())


def test_copies_and_pickles_with_its_generator():
    layer = Dropout(0.3, generator=seeded(7))
    x = torch.ones(100)
    twins = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    y = layer(x)
    assert all(torch.equal(twin(x), y) for twin in twins)


# Modes.


@pytest.mark.parametrize("layer", [Dropout(0), Dropout(0.5).eval()])
def test_returns_the_input_itself_where_nothing_is_dropped(layer):
    x = torch.ones(5)
    assert layer(x) is x


@pytest.mark.parametrize(("p", "training"), [(0, True), (1, True), (0.5, False)])
def test_draws_nothing_where_nothing_is_random(p, training):
    generator = seeded()
    before = generator.get_state()
    dropout(torch.ones(9), p, training, generator=generator)
    assert torch.equal(generator.get_state(), before)


def test_an_explicit_generator_leaves_the_global_stream_alone():
    before = torch.get_rng_state()
    dropout(torch.ones(9), generator=seeded())
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_generator_the_global_seed_decides():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        y = Dropout()(torch.ones(100))
    assert torch.equal(y, dropout(torch.ones(100), generator=seeded(11)))


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("p", [0.0, 0.4, 1.0])
def test_inplace_equals_out_of_place(p, training, scaling):
    x = torch.randn(6, 7, generator=seeded()).requires_grad_()
    results = []
    for inplace in [False, True]:
        intermediate = x * 1
        y = dropout(intermediate, p, training, inplace, scaling=scaling, generator=seeded(1))
        if inplace:
            assert y is intermediate
        results += [y, torch.autograd.grad((y * y).sum(), x)[0]]
    assert torch.equal(results[0], results[2])
    assert torch.equal(results[1], results[3])


def test_inplace_on_a_leaf_raises_as_torch_does():
    x = torch.ones(5, requires_grad=True)
    for function in [dropout, torch.nn.functional.dropout]:
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
            function(x, 0.5, inplace=True)


def test_autocast_leaves_the_dtype_alone_as_torch_does():
    with torch.autocast("cpu", torch.bfloat16):
        for dtype in [torch.float32, torch.bfloat16]:
            x = torch.ones(8, dtype=dtype, requires_grad=True)
            for function in [dropout, torch.nn.functional.dropout]:
                assert function(x, 0.5).dtype == dtype
        x = torch.ones(2, 3, requires_grad=True)
        dropout(torch.nn.functional.linear(x, torch.ones(4, 3))).sum().backward()
    assert x.grad.dtype == torch.float32


def test_meta_device_and_empty_input():
    assert dropout(torch.ones(3, 2, device="meta")).device.type == "meta"
    assert dropout(torch.ones(0, 4)).shape == (0, 4)


# Derivatives and transformations.


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("p", [0.4, 1.0])
def test_derivatives_of_first_and_second_order(p, scaling):
    def function(x):
        return dropout(x, p, scaling=scaling, generator=seeded(1))

    x = torch.randn(6, 7, dtype=torch.float64, generator=seeded(), requires_grad=True)
    torch.autograd.gradcheck(function, x, check_forward_ad=True, check_batched_grad=True)
    torch.autograd.gradgradcheck(lambda x: function(x).pow(3), x, check_fwd_over_rev=True)


def test_saves_one_byte_an_element_for_backward():
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        dropout(torch.ones(40, 50, requires_grad=True))
    assert [t.untyped_storage().nbytes() for t in saved] == [2000]


def test_vmap_randomness_means_what_it_means_to_torch():
    x = torch.ones(4, 64)
    for function in [dropout, torch.nn.functional.dropout]:
        different = torch.func.vmap(function, randomness="different")(x)
        assert not (different == different[0]).all()
        same = torch.func.vmap(function, randomness="same")(x)
        assert (same == same[0]).all()
        assert set(same.unique().tolist()) == {0.0, 2.0}
        with pytest.raises(RuntimeError, match="randomness error mode"):
            torch.func.vmap(function)(x)


def test_func_grad_under_vmap_returns_the_factors():
    def loss(x):
        y = dropout(x)
        return y.sum(), y

    gradient, y = torch.func.vmap(torch.func.grad(loss, has_aux=True), randomness="different")(
        torch.ones(4, 64)
    )
    assert torch.equal(gradient, y)
    assert set(y.unique().tolist()) == {0.0, 2.0}


def check_compiled(backend):
    layer = Dropout(0.25)
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    x = torch.ones(2**14, requires_grad=True)
    y = compiled(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    assert set(y.detach().unique().tolist()) == {0.0, np.float32(1 / 0.75).item()}
    kept = int((y != 0).sum())
    assert abs(binomial_score(kept, 0.75, x.numel())) < LARGEST_SCORE
    layer.eval()
    assert torch.equal(compiled(x), x)


def test_is_one_graph_for_the_compiler():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        check_compiled("aot_eager")


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.slow
def test_runs_compiled():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        check_compiled("inductor")


def test_a_generator_breaks_the_graph_and_keeps_the_stream():
    compiled = torch.compile(Dropout(generator=seeded(2)), backend="eager")
    assert torch.equal(compiled(torch.ones(100)), dropout(torch.ones(100), generator=seeded(2)))


# Statistics.


@pytest.mark.parametrize("p", [2.0**-16, 1e-4, 0.001, 0.1, 0.25, 0.5, 0.75, 0.9, 0.9999])
def test_keep_rate_of_each_lane(p):
    """Were bit 63 never set, every fourth element would be off by hundreds of deviations."""
    kept = dropout(torch.ones(2**20), p, generator=seeded(1)).reshape(-1, 4) != 0
    for lane in kept.T:
        assert abs(binomial_score(int(lane.sum()), 1 - p, len(lane))) < LARGEST_SCORE


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8, 0.999, 0.9999])
def test_mean_is_preserved(p):
    """A factor of mean 1 and variance p / (1 - p)."""
    x = torch.rand(2**20, dtype=torch.float64, generator=seeded(1)) + 0.5
    y = dropout(x, p, generator=seeded(2))
    deviation = math.sqrt(p / (1 - p) * x.square().sum().item())
    assert abs((y - x).sum().item()) < LARGEST_SCORE * deviation


@pytest.mark.parametrize("distance", [1, 2, 3, 4, 5, 8, 64, 100])
def test_elements_are_independent(distance):
    """Pairs of elements in one lane and across lanes: both are kept with probability 0.7^2."""
    kept = dropout(torch.ones(2**20), 0.3, generator=seeded(3)) != 0
    pairs = kept[: 2**20 // (2 * distance) * 2 * distance].reshape(-1, 2, distance)
    both = (pairs[:, 0] & pairs[:, 1]).flatten()
    for lane in range(4):
        chosen = both[lane::4]
        assert abs(binomial_score(int(chosen.sum()), 0.49, len(chosen))) < LARGEST_SCORE


def test_calls_are_independent():
    layer = Dropout(0.3, generator=seeded(4))
    x = torch.ones(2**20)
    first, second = layer(x) != 0, layer(x) != 0
    both = int((first & second).sum())
    assert abs(binomial_score(both, 0.49, len(x))) < LARGEST_SCORE


def test_units_of_a_row_form_every_pattern_equally_often():
    """Chi-squared over the 16 patterns of four lanes at p = 1/2: 15 degrees of freedom.

    45 has the upper tail probability 8e-5.
    """
    kept = dropout(torch.ones(2**18, 4), 0.5, generator=seeded(5)) != 0
    counts = torch.bincount((kept * torch.tensor([8, 4, 2, 1])).sum(1), minlength=16)
    expected = 2**18 / 16
    assert ((counts - expected) ** 2 / expected).sum() < 45


# Activation checkpointing: what runs twice draws once.


def train_checkpointed(around, steps=2):
    """Outputs, gradients and the generator's last state; ``around(f, *inputs)`` runs a part."""
    torch.manual_seed(0)
    generator = seeded(5)
    parts = [
        torch.nn.Sequential(
            torch.nn.Linear(8, 8),
            Dropout(0.3, generator=generator),
            torch.nn.Tanh(),
            Dropout(0.5, generator=generator),
        )
        for _ in range(3)
    ]
    x = torch.randn(4, 8).requires_grad_()
    leaves = [x, *(p for part in parts for p in part.parameters())]

    def outer(h):
        h = around(parts[2], parts[1](h))
        return dropout(h, 0.25, generator=generator)

    seen = []
    for _ in range(steps):
        h = around(parts[0], x)
        h = around(outer, h)
        h = around(parts[0], h) + around(parts[0], h)  # twice the same layer and input
        for leaf in leaves:
            leaf.grad = None
        h.square().sum().backward(retain_graph=True)
        seen += [h.detach(), *(leaf.grad.clone() for leaf in leaves)]
        for leaf in leaves:
            leaf.grad = None
        h.square().sum().backward()
        seen += [leaf.grad for leaf in leaves]
    return [*seen, generator.get_state()]


@pytest.mark.parametrize("preserve", [True, False])
@pytest.mark.parametrize("reentrant", [True, False, None])
def test_checkpointed_training_has_the_bits_of_plain_training(reentrant, preserve):
    """Nested, layers shared, one generator for all, each backward pass twice; None mixes kinds."""

    def around(function, *inputs):
        kind = isinstance(function, torch.nn.Module) if reentrant is None else reentrant
        return checkpoint(function, *inputs, use_reentrant=kind, preserve_rng_state=preserve)

    plain = train_checkpointed(lambda function, *inputs: function(*inputs))
    assert all(map(torch.equal, train_checkpointed(around), plain))


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_gradient_is_that_of_the_forward_mask(reentrant):
    layer = Dropout(0.5, generator=seeded())
    x = torch.ones(1000, requires_grad=True)
    y = checkpoint(layer, x, use_reentrant=reentrant)
    z = checkpoint(layer, x, use_reentrant=reentrant)
    z.sum().backward()
    assert torch.equal(x.grad, z.detach())
    y.sum().backward()
    assert torch.equal(x.grad, (y + z).detach())


def test_running_again_in_an_unknown_way_is_refused():
    class Reversible(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, layer):
            ctx.layer = layer
            return layer(x)

        @staticmethod
        def backward(ctx, dy):
            return dy * ctx.layer(torch.ones_like(dy)), None

    x = torch.ones(5, requires_grad=True)
    with pytest.raises(RuntimeError, match="run again in the backward pass"):
        Reversible.apply(x, Dropout(generator=seeded())).sum().backward()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_cuda():
    generator = torch.Generator("cuda").manual_seed(0)
    x = torch.randn(2**20, device="cuda", requires_grad=True)
    y = dropout(x, 0.25, generator=generator)
    y.sum().backward()
    kept = x.grad != 0
    assert torch.equal(x.grad, kept * (1 / 0.75))
    assert torch.equal(y, x * kept * (1 / 0.75))
    for lane in kept.reshape(-1, 4).T:
        assert abs(binomial_score(int(lane.sum()), 0.75, len(lane))) < LARGEST_SCORE
