"""Situations that a cache, a joined vector or a kernel without guards could get wrong."""

import copy
import weakref

import pytest
import torch
from torch import nn

from torchopt_ref import optim
from torchopt_ref.optim.stepping import vector_engine

ENGINES = {"default": {}, "fused": {"fused": True}, "flat": {"flat": True}}
by_engine = pytest.mark.parametrize("engine", ENGINES)
by_size = pytest.mark.parametrize("size", [4, 40_000])


def run(make_params, steps=5, **options):
    """Parameters after some steps by Adam with constant gradients."""
    params = make_params()
    optimizer = optim.Adam(params, **{"lr": 0.1, **options})
    for _ in range(steps):
        for index, param in enumerate(params):
            param.grad = torch.full_like(param, 1.0 + index)
        optimizer.step()
    return params


def tied(size):
    one, other = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size))
    other.data = one.data
    return [one, nn.Parameter(torch.ones(size)), other]


def overlapping(size):
    """Views of one buffer: the first two share an element, the third is their neighbour."""
    buffer = torch.zeros(3 * size)
    parts = buffer[:size], buffer[size - 1 : 2 * size], buffer[2 * size :]
    return [nn.Parameter(part) for part in parts]


@by_engine
@by_size
@pytest.mark.parametrize("make", [tied, overlapping])
def test_parameters_that_share_memory_see_each_other(make, size, engine):
    got = run(lambda: make(size), **ENGINES[engine])
    expected = run(lambda: make(size), foreach=False)
    for param, other in zip(got, expected, strict=True):
        assert torch.equal(param, other)


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
@by_engine
def test_a_parameter_given_twice_steps_twice(engine):
    mine, theirs = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(4))
    ours = optim.SGD([mine, mine], lr=1.0, **ENGINES[engine])
    torchs = torch.optim.SGD([theirs, theirs], lr=1.0)
    for _ in range(4):
        for param, optimizer in ((mine, ours), (theirs, torchs)):
            param.grad = torch.ones(4)
            optimizer.step()
    assert torch.equal(mine, theirs)


@by_engine
def test_shared_memory_stays_shared(engine):
    params = [nn.Parameter(torch.ones(4)) for _ in range(2)]
    optimizer = optim.AdaGrad(params, **ENGINES[engine])
    optimizer.share_memory()
    for _ in range(4):
        for param in params:
            param.grad = torch.ones(4)
        optimizer.step()
    assert all(optimizer.state[param]["sum"].is_shared() for param in params)


@by_engine
def test_a_slot_held_since_the_first_step_is_the_state(engine):
    params = [nn.Parameter(torch.ones(4)) for _ in range(2)]
    optimizer = optim.Adam(params, **ENGINES[engine])
    held = None
    for _ in range(6):
        for param in params:
            param.grad = torch.ones(4)
        optimizer.step()
        held = held or dict(optimizer.state[params[0]])
    assert all(optimizer.state[params[0]][name] is held[name] for name in held)


@by_engine
@by_size
def test_the_default_device_does_not_matter(size, engine):
    params = [nn.Parameter(torch.ones(size)), nn.Parameter(torch.ones(3))]
    optimizer = optim.Adam(params, **ENGINES[engine])
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()
    with torch.device("meta"):
        for _ in range(3):
            optimizer.step()
    torch.testing.assert_close(params[0].detach(), torch.full((size,), 0.996))


@by_engine
@by_size
@pytest.mark.parametrize("kind", ["expanded", "strided", "negative"])
def test_gradients_as_autograd_leaves_them(kind, size, engine):
    make_grad = {
        "expanded": lambda: torch.ones(1).expand(size),
        "strided": lambda: torch.ones(2 * size)[::2],
        "negative": lambda: torch._neg_view(-torch.ones(size)),
    }[kind]
    params = [nn.Parameter(torch.zeros(size)) for _ in range(3)]
    optimizer = optim.SGD(params, lr=1.0, **ENGINES[engine])
    for _ in range(4):
        for param in params:
            param.grad = make_grad()
        optimizer.step()
    for param in params:
        assert (param == -4).all()


def test_fused_survives_a_reset_of_the_compiler(no_native):
    for sizes in ([40_000] * 8, [40_000] * 8, [40_000 + 1_000 * k for k in range(8)]):
        params = [nn.Parameter(torch.zeros(size)) for size in sizes]
        optimizer = optim.SGD(params, lr=1.0, fused=True)
        for param in params:
            param.grad = torch.ones_like(param)
        optimizer.step()
        assert all((param == -1).all() for param in params)
        torch.compiler.reset()


def test_fused_is_exact_where_the_compiler_is_switched_off(no_native):
    def make():
        return [nn.Parameter(torch.rand(40_000, generator=torch.Generator().manual_seed(0)))]

    # An option set of its own, so that no other test has compiled it or seen its warning.
    options = {"eps": 0.015625, "amsgrad": True, "maximize": True, "weight_decay": 0.1}
    with torch.compiler.set_stance("force_eager"):
        got = run(make, fused=True, **options)
    assert torch.equal(got[0], run(make, foreach=False, **options)[0])


@by_engine
def test_a_transposed_parameter_at_the_same_address(engine):
    results = []
    for options in (ENGINES[engine], {"foreach": False}):
        params = [nn.Parameter(torch.arange(9.0).view(3, 3)), nn.Parameter(torch.ones(2))]
        optimizer = optim.SGD(params, lr=0.1, **options)
        for step in range(6):
            if step == 4:
                params[0].data = params[0].data.t()
            params[0].grad = torch.arange(9.0).view(3, 3)
            params[1].grad = torch.ones(2)
            optimizer.step()
        results.append(params[0].detach())
    assert torch.equal(*results)


@by_engine
def test_slots_of_another_shape_are_no_match(engine):
    old = [nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(4))]
    new = [nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(4))]
    first, second = optim.Adam(old), optim.Adam(new, **ENGINES[engine])
    for param in (*old, *new):
        param.grad = torch.ones_like(param)
    first.step()
    second.load_state_dict(first.state_dict())
    with pytest.raises(RuntimeError, match="must match"):
        second.step()


@by_engine
def test_a_plan_is_not_made_of_inference_tensors(engine):
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


def test_a_refused_step_changes_nothing():
    params = [nn.Parameter(torch.ones(3)) for _ in range(3)]
    optimizer = optim.Adam(params)
    for _ in range(3):
        for param in params:
            param.grad = torch.ones(3)
        optimizer.step()
    before = copy.deepcopy((params, optimizer.state_dict()))
    params[2].grad = torch.ones(3).to_sparse()
    with pytest.raises(RuntimeError, match="please consider SparseAdam instead"):
        optimizer.step()
    assert str(before) == str((params, optimizer.state_dict()))


def test_a_group_that_is_gone_is_forgotten():
    first, second = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = optim.SGD([{"params": [first]}, {"params": [second]}])
    for _ in range(3):
        first.grad, second.grad = torch.ones(3), torch.ones(3)
        optimizer.step()
    gone = weakref.ref(second)
    del optimizer.param_groups[1], second
    optimizer.step()
    assert gone() is None


@by_engine
def test_a_gradient_of_another_dtype_changes_no_other_parameter(engine):
    results = []
    for options in (ENGINES[engine], {"foreach": False}):
        generator = torch.Generator().manual_seed(0)
        params = [nn.Parameter(torch.randn(400, generator=generator)) for _ in range(2)]
        params[1].grad_dtype = torch.float64
        optimizer = optim.Adam(params, lr=0.1, **options)
        for _ in range(8):
            params[0].grad = torch.randn(400, generator=generator)
            params[1].grad = torch.randn(400, generator=generator).double()
            optimizer.step()
        results.append(params[0].detach())
    assert torch.equal(*results)


def test_a_step_of_the_users_own_is_left_alone():
    params = [nn.Parameter(torch.ones(3)) for _ in range(2)]
    optimizer = optim.SGD(params, momentum=0.9)
    for param, own in zip(params, (7, torch.tensor(7.0)), strict=True):
        optimizer.state[param]["step"] = own
    for _ in range(4):
        for param in params:
            param.grad = torch.ones(3)
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


def test_a_step_that_is_no_tensor_is_refused():
    param = nn.Parameter(torch.ones(3))
    param.grad = torch.ones(3)
    optimizer = optim.Adam([param])
    optimizer.step()
    optimizer.state[param]["step"] = 1
    with pytest.raises(RuntimeError, match="must be a singleton tensor"):
        optimizer.step()


def test_the_for_loop_is_for_those_who_ask_for_it():
    """As in torch, ``foreach=True`` wins over ``fused=False``."""

    def engine(foreach, fused):
        found = vector_engine({"foreach": foreach, "fused": fused, "differentiable": False})
        return None if found is None else found.__name__

    assert engine(None, None) == engine(True, None) == engine(True, False) == "foreach"
    assert engine(None, True) == engine(False, True) == "fused"
    assert engine(False, None) is engine(None, False) is engine(False, False) is None
