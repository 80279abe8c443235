"""Random groups, options, gaps between gradients, engines, and changes of carrier on the way."""

import copy
import inspect
import io
import itertools
import pickle

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchopt_ref.sides import ENGINES, configurations

SHAPES = [(), (1,), (0, 2), (3,), (2, 3), (4, 1, 2)]
SLOWER = settings(max_examples=60, deadline=None)


def through_bytes(optimizer, make, params):
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    successor = make(params)
    successor.load_state_dict(torch.load(buffer, weights_only=True))
    return successor


def by_deepcopy(optimizer, make, params):
    twin = copy.deepcopy(optimizer.state_dict())
    successor = make(params)
    successor.load_state_dict(twin)
    return successor


def by_pickle(optimizer, make, params):
    """The optimizer with its parameters; the originals take over the values and the state."""
    other = pickle.loads(pickle.dumps(optimizer))
    with torch.no_grad():
        for group, old in zip(other.param_groups, optimizer.param_groups, strict=True):
            for param, original in zip(group["params"], old["params"], strict=True):
                original.copy_(param)
    return by_deepcopy(other, make, params)


CARRIERS = [None, None, None, through_bytes, by_deepcopy, by_pickle]


@st.composite
def journeys(draw):
    """Groups of shapes with own options, and for each step which gradients exist, and a carrier."""
    groups = draw(
        st.lists(
            st.tuples(
                st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3),
                st.fixed_dictionaries(
                    {}, optional={"lr": st.floats(1e-4, 1), "weight_decay": st.floats(0, 0.5)}
                ),
            ),
            min_size=1,
            max_size=3,
        )
    )
    count = sum(len(shapes) for shapes, _ in groups)
    presence = st.lists(st.booleans(), min_size=count, max_size=count)
    steps = draw(st.lists(st.tuples(presence, st.sampled_from(CARRIERS)), min_size=1, max_size=6))
    return groups, steps, draw(st.integers(0, 2**32 - 1))


def make_params(groups, dtype, rng):
    return [
        [np.asarray(rng.standard_normal(shape)).astype(dtype) for shape in shapes]
        for shapes, _ in groups
    ]


def as_groups(params, groups):
    return [{"params": some, **options} for some, (_, options) in zip(params, groups, strict=True)]


@SLOWER
@given(
    journeys(),
    st.sampled_from(list(configurations())),
    st.sampled_from(list(ENGINES)),
    st.sampled_from(["float16", "float32", "float64"]),
)
def test_every_journey_is_that_of_the_reference(journey, configuration, engine, dtype):
    groups, steps, seed = journey
    known = inspect.signature(configuration.known.ours).parameters
    groups = [
        (shapes, {key: options[key] for key in options if key in known})
        for shapes, options in groups
    ]
    rng = np.random.default_rng(seed)
    arrays = make_params(groups, dtype, rng)
    params = [[torch.from_numpy(a.copy()).requires_grad_() for a in some] for some in arrays]
    references = [
        configuration.known.reference(**{**configuration.options, **options})
        for _, options in groups
    ]

    def make(params):
        return configuration.ours(as_groups(params, groups), **ENGINES[engine])

    optimizer = make(params)
    for presence, carrier in steps:
        present = iter(presence)
        for some, tensors, numpy_side in zip(arrays, params, references, strict=True):
            moving, grads = {}, {}
            for index, (array, tensor) in enumerate(zip(some, tensors, strict=True)):
                grad = np.asarray(rng.standard_normal(array.shape)).astype(dtype)
                tensor.grad = None
                if next(present):
                    tensor.grad = torch.from_numpy(grad)
                    moving[index], grads[index] = array, grad.copy()
            numpy_side.update(moving, grads)
        optimizer.step()
        if carrier is not None:
            optimizer = carrier(optimizer, make, params)
        for some, tensors, numpy_side in zip(arrays, params, references, strict=True):
            for index, (array, tensor) in enumerate(zip(some, tensors, strict=True)):
                np.testing.assert_array_equal(tensor.detach().numpy(), array)
                for name, slot in numpy_side.state.get(index, {}).items():
                    np.testing.assert_array_equal(optimizer.state[tensor][name].numpy(), slot)


@SLOWER
@given(
    journeys(),
    st.sampled_from([c for c in configurations() if c.known.torchs]),
    st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_torch_optim_can_take_over_at_any_step_and_give_back(journey, configuration, theirs):
    """The steps marked are taken by ``torch.optim``, with the state dict handed to and fro."""
    groups, steps, seed = journey
    rng = np.random.default_rng(seed)
    start = make_params(groups, "float64", rng)
    mixed = [[torch.from_numpy(a.copy()).requires_grad_() for a in some] for some in start]
    whole = [[torch.from_numpy(a.copy()).requires_grad_() for a in some] for some in start]
    alone = configuration.torchs(as_groups(whole, groups))
    makers = {False: configuration.ours, True: configuration.torchs}
    optimizer = None
    tensors, others = (list(itertools.chain(*some)) for some in (mixed, whole))
    for (presence, _), by_torch in zip(steps, theirs[: len(steps)], strict=True):
        successor = makers[by_torch](as_groups(mixed, groups))
        if optimizer is not None:
            successor.load_state_dict(optimizer.state_dict())
        optimizer = successor
        for tensor, other, present in zip(tensors, others, presence, strict=True):
            grad = torch.from_numpy(np.asarray(rng.standard_normal(tuple(tensor.shape))))
            tensor.grad, other.grad = (grad, grad.clone()) if present else (None, None)
        optimizer.step()
        alone.step()
        for tensor, other in zip(tensors, others, strict=True):
            # Centered RMSprop divides by the root of a difference that may be rounding alone.
            rtol = 1e-3 if configuration.options.get("centered") else 1e-9
            torch.testing.assert_close(tensor, other, rtol=rtol, atol=rtol)
        mine, expected = (o.state_dict()["state"] for o in (optimizer, alone))
        assert {key: state.keys() for key, state in mine.items()} == {
            key: state.keys() for key, state in expected.items()
        }
    for mine, expected in zip(
        optimizer.state_dict()["param_groups"], alone.state_dict()["param_groups"], strict=True
    ):
        for name in expected.keys() - {"foreach", "params"}:
            assert mine[name] == expected[name], name
