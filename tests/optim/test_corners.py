"""Situations that code which goes past torch to memory could get wrong."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from torchopt_ref import optim

ENGINES = {"default": {}, "fused": {"fused": True}, "eager": {"foreach": False}}
CLASSES = [optim.SGD, optim.Momentum, optim.AdaGrad, optim.RMSprop, optim.Adam]
by_engine = pytest.mark.parametrize("engine", ENGINES)
by_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
duplicates = pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with dup")


def give_gradients(params, step):
    generator = torch.Generator().manual_seed(step)
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator).to(param.dtype)


def run(make_params, cls=optim.Adam, steps=4, **options):
    """Parameters after some steps, each tensor by its values."""
    params = make_params()
    optimizer = cls(params, lr=0.1, **options)
    for step in range(steps):
        give_gradients(params, step)
        optimizer.step()
    return [param.detach().clone() for param in params]


def assert_equal(some, others):
    for one, other in zip(some, others, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


# Shared memory.


def tied():
    one, other = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(4))
    other.data = one.data
    return [one, nn.Parameter(torch.ones(4)), other]


def overlapping():
    """Views of one buffer: the first two share an element, the third is their neighbour."""
    buffer = torch.zeros(12)
    return [nn.Parameter(part) for part in (buffer[:4], buffer[3:8], buffer[8:])]


def neighbours():
    """Parts of one vector, as fully sharded trainings have them."""
    buffer = torch.linspace(-1, 1, 12)
    return [nn.Parameter(part) for part in (buffer[:5], buffer[5:6], buffer[6:].view(2, 3))]


def one_inside_the_other():
    whole = torch.zeros(10)
    return [nn.Parameter(whole[4:6]), nn.Parameter(whole), nn.Parameter(torch.ones(3))]


def interleaved():
    """Even and odd elements: no element is shared, though their extents are."""
    whole = torch.linspace(-1, 1, 8)
    return [nn.Parameter(whole[::2]), nn.Parameter(whole[1::2])]


def the_transpose():
    whole = torch.arange(9.0).view(3, 3)
    return [nn.Parameter(whole), nn.Parameter(whole.t())]


def of_another_dtype():
    """The bits of a float32 parameter as a float16 one: nonsense, but the same nonsense."""
    whole = torch.ones(4)
    return [nn.Parameter(whole), nn.Parameter(whole.view(torch.float16))]


def of_another_dtype_in_between():
    """The float32 ones step together, so that the order would be another."""
    whole = torch.ones(4)
    other = nn.Parameter(torch.ones(2))
    return [other, nn.Parameter(whole.view(torch.float16)), nn.Parameter(whole)]


def of_another_layout_in_between():
    whole = torch.ones(4)
    return [nn.Parameter(torch.ones(2)), nn.Parameter(whole[::2]), nn.Parameter(whole)]


SHARING = [
    of_another_dtype_in_between,
    of_another_layout_in_between,
    tied,
    overlapping,
    neighbours,
    one_inside_the_other,
    interleaved,
    the_transpose,
    of_another_dtype,
]


@pytest.mark.parametrize("engine", ["default", "fused"])
@pytest.mark.parametrize("make", SHARING, ids=lambda make: make.__name__)
@by_class
def test_parameters_that_share_memory_see_each_other(cls, make, engine):
    assert_equal(run(make, cls, **ENGINES[engine]), run(make, cls, foreach=False))


@by_engine
def test_parameters_of_two_groups_that_share_memory(engine):
    results = []
    for options in (ENGINES[engine], {"foreach": False}):
        params = tied()
        optimizer = optim.Adam([{"params": [each]} for each in params], **options)
        for step in range(4):
            give_gradients(params, step)
            optimizer.step()
        results.append(params)
    assert_equal(*results)


@duplicates
@by_engine
@pytest.mark.parametrize(
    ("cls", "theirs"), [(optim.SGD, torch.optim.SGD), (optim.Adam, torch.optim.Adam)]
)
def test_a_parameter_given_twice_steps_twice(cls, theirs, engine):
    results = []
    for make, options in ((cls, ENGINES[engine]), (theirs, {"foreach": False})):
        param = nn.Parameter(torch.zeros(4))
        optimizer = make([param, param], lr=0.5, **options)
        for _ in range(4):
            param.grad = torch.ones(4)
            optimizer.step()
        results.append(param.detach())
    torch.testing.assert_close(*results, rtol=1e-6, atol=0)


@by_engine
@by_class
def test_a_parameter_that_is_its_own_gradient(cls, engine):
    results = []
    for options in (ENGINES[engine], {"foreach": False}):
        params = [nn.Parameter(torch.arange(1.0, 4.0)), nn.Parameter(torch.ones(3))]
        params[0].grad = params[0].detach()
        params[1].grad = torch.ones(3)
        optimizer = cls(params, lr=0.1, **options)
        for _ in range(4):
            optimizer.step()
        results.append([param.detach() for param in params])
    assert_equal(*results)
    assert not torch.equal(results[0][0], torch.arange(1.0, 4.0))


@by_engine
@by_class
def test_a_gradient_that_two_parameters_share(cls, engine):
    results = []
    for options in (ENGINES[engine], {"foreach": False}):
        params = [nn.Parameter(torch.full((3,), value)) for value in (1.0, 2.0, 3.0)]
        optimizer = cls(params, lr=0.1, weight_decay=0.1, **options)
        for step in range(4):
            give_gradients(params, step)
            params[2].grad = params[0].grad
            optimizer.step()
        results.append([param.detach() for param in params])
    assert_equal(*results)


@by_engine
def test_a_gradient_that_is_another_parameter(engine):
    results = []
    for options in (ENGINES[engine], {"foreach": False}):
        params = [nn.Parameter(torch.arange(9.0).view(3, 3)), nn.Parameter(torch.ones(3, 3))]
        optimizer = optim.SGD(params, lr=0.1, **options)
        for _ in range(3):
            params[0].grad, params[1].grad = torch.ones(3, 3), params[0].detach()
            optimizer.step()
        results.append([param.detach() for param in params])
    assert_equal(*results)


@by_engine
@pytest.mark.parametrize("names", [("exp_avg",), ("exp_avg", "exp_avg_sq"), ("step",)], ids=str)
def test_slots_that_two_parameters_share(names, engine):
    """Each adds to them in its turn, as in torch's loop."""
    results = []
    for options in (ENGINES[engine], {"foreach": False}):
        params = [nn.Parameter(torch.ones(3)) for _ in range(2)]
        optimizer = optim.Adam(params, lr=0.1, **options)
        for step in range(4):
            give_gradients(params, step)
            optimizer.step()
            for name in names:
                optimizer.state[params[1]][name] = optimizer.state[params[0]][name]
        results.append([*params, *optimizer.state[params[0]].values()])
    assert_equal(*results)


@by_engine
def test_one_tensor_for_two_slots_of_a_parameter(engine):
    results = []
    for options in (ENGINES[engine], {"foreach": False}):
        param = nn.Parameter(torch.ones(3))
        optimizer = optim.Adam([param], lr=0.1, **options)
        for step in range(4):
            give_gradients([param], step)
            optimizer.step()
            state = optimizer.state[param]
            state["exp_avg"] = state["exp_avg_sq"]
        results.append([param, state["exp_avg"]])
    assert_equal(*results)


@by_engine
def test_a_parameter_whose_elements_are_one(engine):
    """torch refuses to write into an expanded tensor."""
    param = nn.Parameter(torch.ones(1).expand(3))
    optimizer = optim.SGD([nn.Parameter(torch.ones(2)), param], lr=0.1, **ENGINES[engine])
    param.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match="single memory location"):
        optimizer.step()


@by_engine
def test_shared_memory_stays_shared(engine):
    params = [nn.Parameter(torch.ones(4)) for _ in range(2)]
    optimizer = optim.AdaGrad(params, **ENGINES[engine])
    optimizer.share_memory()
    for step in range(4):
        give_gradients(params, step)
        optimizer.step()
    assert all(optimizer.state[param]["sum"].is_shared() for param in params)


# What lives, and for how long.


@by_engine
def test_a_slot_held_since_the_first_step_is_the_state(engine):
    params = [nn.Parameter(torch.ones(4)) for _ in range(2)]
    optimizer = optim.Adam(params, **ENGINES[engine])
    held = None
    for step in range(4):
        give_gradients(params, step)
        optimizer.step()
        held = held or dict(optimizer.state[params[0]])
    assert all(optimizer.state[params[0]][name] is held[name] for name in held)
    assert held["step"] == 4


@by_engine
@by_class
def test_each_state_tensor_has_a_storage_of_its_own(cls, engine):
    params = [nn.Parameter(torch.ones(shape)) for shape in ((3,), (), (2, 4), (40_000,))]
    optimizer = cls(params, **ENGINES[engine])
    for step in range(2):
        give_gradients(params, step)
        optimizer.step()
    for state in optimizer.state.values():
        for slot in state.values():
            assert slot.untyped_storage().nbytes() == slot.nbytes
            assert not slot.requires_grad


@by_engine
def test_nothing_is_kept_alive_after_a_step(engine):
    """Neither gradient nor slot nor parameter, whatever the layout; without the collector."""
    gc.disable()
    try:
        param = nn.Parameter(torch.zeros(5, 4))
        optimizer = optim.Adam([param], lr=0.1, **ENGINES[engine])
        kept = []
        for grad in (torch.ones(5, 4), torch.ones(4, 5).t(), torch._neg_view(torch.ones(5, 4))):
            param.grad = grad
            optimizer.step()
            kept += [weakref.ref(grad)]
        kept += [weakref.ref(slot) for slot in optimizer.state[param].values()]
        optimizer.state.clear()
        param.grad = None
        del grad
        optimizer.param_groups.clear()
        kept += [weakref.ref(param)]
        del param
        assert not any(reference() is not None for reference in kept)
        kept = weakref.ref(optimizer)
        del optimizer
        gc.collect()
        assert kept() is None
    finally:
        gc.enable()


@by_engine
def test_a_group_that_is_gone_is_forgotten(engine):
    first, second = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = optim.SGD([{"params": [first]}, {"params": [second]}], **ENGINES[engine])
    for step in range(3):
        give_gradients([first, second], step)
        optimizer.step()
    gone = weakref.ref(second)
    del optimizer.param_groups[1], second
    assert gone() is None
    optimizer.step()


@by_engine
@by_class
def test_autograd_notices_that_a_step_changed_a_saved_parameter(cls, engine):
    params = [nn.Parameter(torch.ones(shape)) for shape in ((3,), (2, 2), ())]
    optimizer = cls(params, **ENGINES[engine])
    for step in range(2):
        losses = [(param * param).sum() for param in params]
        give_gradients(params, step)
        optimizer.step()
        for loss in losses:
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                loss.backward()


@by_engine
def test_autograd_goes_backward_where_nothing_has_changed(engine):
    moving, still = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = optim.Adam([moving, still], **ENGINES[engine])
    loss = (still * still).sum()
    moving.grad = torch.ones(3)
    optimizer.step()
    loss.backward()
    assert torch.equal(still.grad, torch.full((3,), 2.0))


@by_engine
@pytest.mark.parametrize("dtype", [torch.complex64, torch.bfloat16], ids=str)
def test_autograd_notices_other_dtypes_and_layouts_as_well(dtype, engine):
    if engine == "fused" and dtype.is_complex:
        pytest.skip("as torch's, fused is for real numbers")
    params = [
        nn.Parameter(torch.ones(4, dtype=dtype)),
        nn.Parameter(torch.ones(8, dtype=dtype)[::2]),
    ]
    optimizer = optim.Adam(params, **ENGINES[engine])
    losses = [(param * param).sum().abs() for param in params]
    give_gradients(params, 0)
    optimizer.step()
    for loss in losses:
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@by_engine
def test_a_deep_copy_goes_its_own_way(engine):
    params = [nn.Parameter(torch.ones(3)) for _ in range(2)]
    optimizer = optim.Adam(params, lr=0.1, **ENGINES[engine])
    give_gradients(params, 0)
    optimizer.step()
    twin = copy.deepcopy(optimizer)
    copies = twin.param_groups[0]["params"]
    before = [param.detach().clone() for param in params]
    give_gradients(copies, 1)
    twin.step()
    assert_equal(params, before)
    give_gradients(params, 1)
    optimizer.step()
    assert_equal(params, copies)


# Other kinds of tensors.


@by_engine
def test_the_default_device_does_not_matter(engine):
    params = [nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(3))]
    optimizer = optim.Adam(params, **ENGINES[engine])
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()
    with torch.device("meta"):
        for _ in range(3):
            optimizer.step()
    torch.testing.assert_close(params[0].detach(), torch.full((4,), 0.996))


@by_engine
def test_inference_mode_in_the_middle(engine):
    params = [nn.Parameter(torch.ones(3)) for _ in range(2)]
    optimizer = optim.Adam(params, **ENGINES[engine])

    def step():
        for param in params:
            param.grad = torch.ones(3)
        optimizer.step()

    step()
    with torch.inference_mode():
        step()
        step()
    step()
    torch.testing.assert_close(params[0].detach(), torch.full((3,), 0.996))


@by_engine
def test_parameters_that_are_inference_tensors(engine):
    with torch.inference_mode():
        params = [torch.ones(3), torch.ones(3)]
    normal = nn.Parameter(torch.ones(3))
    optimizer = optim.SGD([*params, normal], lr=1.0, **ENGINES[engine])
    loss = (normal * normal).sum()
    with torch.inference_mode():
        for param in (*params, normal):
            param.grad = torch.ones(3)
        optimizer.step()
    assert all((param == 0).all() for param in (*params, normal))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_parameters_on_meta_take_a_step_that_computes_nothing():
    for options in ({}, {"foreach": False}):
        param = nn.Parameter(torch.ones(3, device="meta"))
        param.grad = torch.ones(3, device="meta")
        real = nn.Parameter(torch.ones(3))
        real.grad = torch.ones(3)
        optimizer = optim.SGD([param, real], lr=1.0, momentum=0.9, **options)
        optimizer.step()
        assert optimizer.state[param]["momentum_buffer"].is_meta
        assert (real == 0).all()


def test_a_step_under_fake_tensors():
    with FakeTensorMode():
        param = nn.Parameter(torch.ones(3))
        param.grad = torch.ones(3)
        optimizer = optim.Adam([param])
        optimizer.step()
        assert optimizer.state[param]["exp_avg"].shape == (3,)


def test_a_step_count_without_memory_is_torchs_affair():
    """It has a dtype, a device and one element, but no memory: to read it was a crash."""
    results = []
    for options in ({}, {"foreach": False}):
        with FakeTensorMode():
            fake = torch.tensor(1.0)
        param = nn.Parameter(torch.ones(3))
        param.grad = torch.ones(3)
        optimizer = optim.Adam([param], **options)
        optimizer.step()
        optimizer.state[param]["step"] = fake
        optimizer.step()
        results.append(param.detach())
    assert torch.equal(*results)


class Sub(torch.Tensor):
    """A subclass that sees all that is done to it."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        Sub.seen.append(func)
        return super().__torch_function__(func, types, args, kwargs)


@by_engine
def test_a_subclass_sees_its_step(engine):
    Sub.seen = []
    param = torch.ones(3).as_subclass(Sub)
    param.grad = torch.ones(3)
    plain = nn.Parameter(torch.ones(3))
    plain.grad = torch.ones(3)
    optimizer = optim.SGD([param, plain], lr=1.0, **ENGINES[engine])
    Sub.seen.clear()
    optimizer.step()
    assert Sub.seen
    assert (param == 0).all()
    assert (plain == 0).all()


@by_engine
def test_a_gradient_of_another_dtype_changes_no_other_parameter(engine):
    results = []
    for options in (ENGINES[engine], {"foreach": False}):
        params = [nn.Parameter(torch.ones(40)) for _ in range(2)]
        params[1].grad_dtype = torch.float64
        optimizer = optim.Adam(params, lr=0.1, **options)
        for step in range(4):
            give_gradients(params[:1], step)
            params[1].grad = params[0].grad.double() / 3
            optimizer.step()
        results.append([param.detach() for param in params])
    assert_equal(*results)


# State of the user's own.


def test_a_step_of_the_users_own_is_left_alone():
    params = [nn.Parameter(torch.ones(3)) for _ in range(2)]
    optimizer = optim.SGD(params, momentum=0.9)
    for param, own in zip(params, (7, torch.tensor(7.0)), strict=True):
        optimizer.state[param]["step"] = own
    for step in range(2):
        give_gradients(params, step)
        optimizer.step()
    assert [optimizer.state[param]["step"] for param in params] == [7, 7]


@by_engine
def test_other_things_in_the_state_are_left_alone(engine):
    params = [nn.Parameter(torch.ones(3)) for _ in range(2)]
    optimizer = optim.SGD(params, lr=1.0, momentum=0.5, **ENGINES[engine])
    for _ in range(4):
        for param in params:
            param.grad = torch.ones(3)
            optimizer.state[param]["mine"] = torch.ones(3).to_sparse()
        optimizer.step()
    assert params[0].tolist() == [1 - 1 - 1.5 - 1.75 - 1.875] * 3


@by_engine
@pytest.mark.parametrize(
    "step",
    [
        torch.tensor(5),
        torch.tensor(2.5),
        torch.tensor([3.0]),
        torch.tensor(4.0, dtype=torch.bfloat16),
        torch.tensor(float(2**24)),
        torch.tensor(float(2**53), dtype=torch.float64),
    ],
    ids=["integer", "not whole", "vector", "bfloat16", "large", "larger"],
)
def test_a_step_count_of_any_kind(step, engine):
    """As torch's loop counts it, and with the bias correction that goes with it."""
    params = [nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2)]
    optimizers = [
        optim.Adam(params[:1], lr=0.1, **ENGINES[engine]),
        torch.optim.Adam(params[1:], lr=0.1, foreach=False),
    ]
    for param, optimizer in zip(params, optimizers, strict=True):
        for value in (1.0, 3.0):
            param.grad = torch.full((3,), value, dtype=torch.float64)
            optimizer.step()
            if value == 1.0:
                optimizer.state[param]["step"] = step.clone()
    mine, theirs = (o.state[p]["step"] for o, p in zip(optimizers, params, strict=True))
    assert (mine.dtype, mine.shape) == (step.dtype, step.shape)
    assert torch.equal(mine, theirs)
    torch.testing.assert_close(params[0], params[1], rtol=1e-9, atol=0)


@by_engine
def test_a_step_that_is_no_tensor_is_refused(engine):
    param = nn.Parameter(torch.ones(3))
    param.grad = torch.ones(3)
    optimizer = optim.Adam([param], **ENGINES[engine])
    optimizer.step()
    optimizer.state[param]["step"] = 1
    with pytest.raises(RuntimeError, match="must be a singleton tensor"):
        optimizer.step()


@by_engine
def test_slots_of_another_shape_are_no_match(engine):
    old = [nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(4))]
    new = [nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(4))]
    first, second = optim.Adam(old), optim.Adam(new, **ENGINES[engine])
    give_gradients([*old, *new], 0)
    first.step()
    second.load_state_dict(first.state_dict())
    with pytest.raises(RuntimeError, match="must match"):
        second.step()


@by_engine
def test_a_parameter_that_shrinks_at_its_address_is_not_written_beyond_its_end(engine):
    whole = torch.zeros(6)
    param = nn.Parameter(whole)
    optimizer = optim.SGD([param], lr=0.1, momentum=0.9, **ENGINES[engine])
    for _ in range(2):
        param.grad = torch.ones(6)
        optimizer.step()
    before = whole.clone()
    param.data = whole[:3]
    param.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match="size"):
        optimizer.step()
    assert torch.equal(whole, before)


@by_engine
def test_a_negated_slot_is_read_as_what_it_is(engine):
    results = []
    for negated in (True, False):
        params = [nn.Parameter(torch.ones(3)) for _ in range(2)]
        optimizer = optim.Adam(params, lr=0.1, **ENGINES[engine])
        for step in range(3):
            give_gradients(params, step)
            optimizer.step()
            if negated:
                state = optimizer.state[params[0]]
                state["exp_avg"] = torch._neg_view(-state["exp_avg"])
        results.append(params)
    assert_equal(*results)


def test_a_refused_step_changes_nothing():
    params = [nn.Parameter(torch.ones(3)) for _ in range(3)]
    optimizer = optim.Adam(params)
    for step in range(2):
        give_gradients(params, step)
        optimizer.step()
    before = copy.deepcopy((params, optimizer.state_dict()))
    params[2].grad = torch.ones(3).to_sparse()
    with pytest.raises(RuntimeError, match="please consider SparseAdam instead"):
        optimizer.step()
    assert str(before) == str((params, optimizer.state_dict()))


@by_engine
def test_a_refusal_in_the_second_group_comes_before_the_first_one_moves(engine):
    params = [nn.Parameter(torch.ones(3)) for _ in range(2)]
    optimizer = optim.Adam([{"params": [param]} for param in params], **ENGINES[engine])
    give_gradients(params, 0)
    params[1].grad = torch.ones(3).to_sparse()
    with pytest.raises(RuntimeError, match="please consider SparseAdam instead"):
        optimizer.step()
    assert torch.equal(params[0], torch.ones(3))


@pytest.mark.parametrize("foreach", [None, False])
def test_a_sparse_parameter_steps_as_in_torch(foreach):
    params = [nn.Parameter(torch.eye(3).to_sparse()) for _ in range(2)]
    for param, module in zip(params, (optim, torch.optim), strict=True):
        param.grad = torch.eye(3).to_sparse()
        module.SGD([param], lr=0.5, foreach=foreach).step()
    assert torch.equal(params[0].detach().to_dense(), params[1].detach().to_dense())
    assert torch.equal(params[0].detach().to_dense(), torch.eye(3) / 2)
