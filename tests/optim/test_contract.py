"""What a user of ``torch.optim`` relies on, class by class."""

import copy
import inspect
import io
import pickle
from collections import defaultdict

import numpy as np
import pytest
import torch
from torch import nn

from torchopt_ref import optim
from torchopt_ref.sides import KNOWN
from torchopt_ref.testing import check_against_torch

TORCHS = [known for known in KNOWN if known.dialect == "torch"]
COUNTERPARTS = {known.ours: known.torchs for known in TORCHS if isinstance(known.torchs, type)}
CLASSES = [known.ours for known in TORCHS]
OTHERS = [known.ours for known in KNOWN if known.dialect != "torch"]
OPTIONS = {
    optim.SGD: {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1},
    optim.AdaGrad: {"lr_decay": 0.1, "initial_accumulator_value": 0.5, "weight_decay": 0.1},
    optim.RMSprop: {"momentum": 0.9, "centered": True, "weight_decay": 0.1},
    optim.Adam: {"amsgrad": True, "weight_decay": 0.1},
    optim.AdamW: {"amsgrad": True},
}
by_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
by_every_class = pytest.mark.parametrize(
    "cls", [*CLASSES, *OTHERS], ids=lambda cls: f"{cls.dialect}-{cls.__name__}"
)
by_counterpart = pytest.mark.parametrize("cls", COUNTERPARTS, ids=lambda cls: cls.__name__)


def parameters(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((4, 3), (5,), ())]


def give_gradients(params, step):
    generator = torch.Generator().manual_seed(1000 + step)
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator)


def train(optimizer, params, steps):
    for step in steps:
        give_gradients(params, step)
        optimizer.step()


def assert_equal(params, others):
    for param, other in zip(params, others, strict=True):
        assert torch.equal(param, other)


@by_counterpart
def test_constructor_has_the_names_order_and_defaults_of_torch(cls):
    theirs = inspect.signature(COUNTERPARTS[cls]).parameters
    mine = inspect.signature(cls).parameters
    for name, parameter in theirs.items():
        assert mine[name].default == parameter.default, name
        assert mine[name].kind == parameter.kind, name
    positional = [name for name in mine if mine[name].kind is not inspect.Parameter.KEYWORD_ONLY]
    assert positional == [*theirs][: len(positional)]
    assert mine.keys() - theirs.keys() <= {"fused"}


def test_adagrad_has_both_spellings():
    assert optim.Adagrad is optim.AdaGrad


BAD = [
    {"lr": -1.0},
    {"eps": -1.0},
    {"betas": (1.0, 0.9)},
    {"betas": (0.9, -0.1)},
    {"betas": (0.9, torch.tensor(0.9))},
    {"momentum": -0.5},
    {"weight_decay": -1},
    {"alpha": -1.0},
    {"lr_decay": -1},
    {"initial_accumulator_value": -1},
    {"nesterov": True},
    {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
    {"lr": torch.tensor([0.1, 0.2])},
    {"no_such_option": 1},
]


def has(cls, options):
    return options.keys() - {"no_such_option"} <= inspect.signature(cls).parameters.keys()


@pytest.mark.parametrize(
    ("cls", "options"),
    [(cls, options) for cls in COUNTERPARTS for options in BAD if has(cls, options)],
    ids=str,
)
def test_wrong_values_raise_what_torch_raises(cls, options):
    with pytest.raises(Exception) as theirs:  # noqa: PT011
        COUNTERPARTS[cls](parameters(), **options)
    with pytest.raises(type(theirs.value)) as mine:
        cls(parameters(), **options)
    if theirs.type is ValueError:
        assert str(mine.value) == str(theirs.value)


@by_counterpart
@pytest.mark.parametrize(
    "bad",
    [
        [],
        torch.zeros(2),
        [1.0],
        [torch.zeros(2, requires_grad=True) * 2],
        [{"params": [nn.Parameter(torch.zeros(1))], "lr": 0.1}, 5],
        "duplicate group",
    ],
    ids=str,
)
def test_wrong_parameters_raise_what_torch_raises(cls, bad):
    if bad == "duplicate group":
        param = nn.Parameter(torch.zeros(2))
        bad = [{"params": [param]}, {"params": [param]}]
    with pytest.raises((TypeError, ValueError)) as theirs:
        COUNTERPARTS[cls](bad)
    with pytest.raises(theirs.type) as mine:
        cls(bad)
    assert str(mine.value) == str(theirs.value)


@by_counterpart
def test_repeated_parameters_in_a_group_warn_as_in_torch(cls):
    param = nn.Parameter(torch.zeros(2))
    with pytest.warns(Warning, match="duplicate parameters") as theirs:
        COUNTERPARTS[cls]([param, param])
    with pytest.warns(theirs[0].category, match="duplicate parameters"):
        cls([param, param])


@by_counterpart
@pytest.mark.parametrize("options", [{}, {"foreach": False}, {"fused": True}], ids=str)
@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
def test_a_repeated_parameter_moves_twice_as_in_torch(cls, options):
    """As in torch's default: its ``foreach`` and ``fused`` count both steps, then take them."""
    params, theirs = parameters(), parameters()
    mine = cls([params[0], params[1], params[0]], lr=0.1, **options)
    other = COUNTERPARTS[cls]([theirs[0], theirs[1], theirs[0]], lr=0.1, foreach=False)
    train(mine, params, range(3))
    train(other, theirs, range(3))
    for param, their in zip(params, theirs, strict=True):
        torch.testing.assert_close(param, their, rtol=1e-6, atol=1e-7)
        assert mine.state[param].get("step") == other.state[their].get("step")
    if mine.rule.counts:
        assert mine.state[params[0]]["step"] == 6


NUMBERS = {
    **{"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1, "alpha": 0.9},
    **{"momentum": 0.9, "lr_decay": 0.1, "initial_accumulator_value": 0.5},
    **{"eps_root": 0.25, "initial_scale": 0.5},
}
FLAGS = ("nesterov", "amsgrad", "centered", "maximize", "decoupled_weight_decay")
FLAGS += ("bias_correction", "x64")


@by_every_class
@pytest.mark.parametrize(
    ("foreach", "dtype", "kind"),
    [
        (None, torch.float32, np.float64),
        (False, torch.float64, np.float32),
        (None, torch.bfloat16, np.float32),
    ],
)
def test_numbers_and_flags_of_numpy_are_those_of_python(cls, kind, dtype, foreach):
    names = inspect.signature(cls).parameters
    by_numpy, by_python = {}, {}
    for name, value in NUMBERS.items():
        if name == "betas" and name in names:
            by_numpy[name] = tuple(map(np.float64, value))
            by_python[name] = value
        elif name in names:
            by_numpy[name] = kind(value)
            by_python[name] = float(kind(value))
    for name in FLAGS:
        if name in names:
            by_numpy[name], by_python[name] = np.True_, True
    params, others = ([nn.Parameter(p.detach().to(dtype)) for p in parameters()] for _ in range(2))
    optimizer = cls(params, foreach=foreach, **by_numpy)
    plain = cls(others, foreach=foreach, **by_python)
    for step in range(3):
        for param, other, grad in zip(params, others, parameters(1 + step), strict=True):
            param.grad, other.grad = grad.detach().to(dtype), grad.detach().to(dtype)
        optimizer.step()
        plain.step()
    assert_equal(params, others)
    for param, other in zip(params, others, strict=True):
        for name, slot in plain.state[other].items():
            assert torch.equal(optimizer.state[param][name], slot)
            assert optimizer.state[param][name].dtype == slot.dtype


@pytest.mark.parametrize("foreach", [None, False])
@pytest.mark.parametrize("kind", [np.array, torch.tensor], ids=["numpy", "torch"])
def test_an_array_for_a_number_and_for_betas(kind, foreach):
    params, others = parameters(), parameters()
    of_arrays = optim.Adam(params, lr=kind(0.25), betas=kind([0.75, 0.5]), foreach=foreach)
    train(of_arrays, params, range(3))
    train(optim.Adam(others, lr=0.25, betas=(0.75, 0.5), foreach=foreach), others, range(3))
    assert_equal(params, others)


@by_every_class
def test_a_group_may_hold_things_of_the_user(cls):
    params, others = parameters(), parameters()
    own = {"name": "body", "mask": torch.ones(4), "masks": [torch.ones(2, 2)], "table": np.ones(3)}
    train(cls([{"params": params, **own}], lr=0.1), params, range(2))
    train(cls(others, lr=0.1), others, range(2))
    assert_equal(params, others)


@by_every_class
def test_a_state_is_reset_as_people_do_it(cls):
    params = parameters()
    optimizer = cls(params, lr=0.1)
    train(optimizer, params, range(2))
    optimizer.__setstate__({"state": defaultdict(dict)})
    assert vars(optimizer)["state"] == {}
    others = [nn.Parameter(param.detach().clone()) for param in params]
    train(optimizer, params, range(2))
    train(cls(others, lr=0.1), others, range(2))
    assert_equal(params, others)


@by_every_class
def test_what_is_refused_is_refused_in_the_name_of_the_class(cls):
    param = nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match=rf"this {cls.__name__} of the '{cls.dialect}' dialect"):
        cls([{"params": [param], "dialect": "no such"}])
    if cls.__name__ in ("RMSprop", "Adam", "AdamW"):
        param.grad = torch.sparse_coo_tensor([[0]], [1.0], (2,), check_invariants=True)
        with pytest.raises(RuntimeError, match=f"{cls.__name__} does not support sparse"):
            cls([param]).step()


@by_class
def test_closure_runs_with_grad_and_its_loss_is_returned(cls):
    params = parameters()
    optimizer = cls(params, lr=0.1)

    def closure():
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = sum((param**2).sum() for param in params)
        loss.backward()
        return loss

    first = optimizer.step(closure)
    assert optimizer.step(closure) < first
    assert optimizer.step() is None


@by_class
def test_gradients_are_left_alone_and_parameters_without_one_do_not_move(cls):
    params = parameters()
    before = [param.detach().clone() for param in params]
    give_gradients(params, 0)
    params[1].grad = None
    kept = params[0].grad.clone()
    optimizer = cls(params, lr=0.1, weight_decay=0.1, maximize=True)
    optimizer.step()
    assert torch.equal(params[0].grad, kept)
    assert torch.equal(params[1], before[1])
    assert not torch.equal(params[0], before[0])
    if cls is not optim.AdaGrad:
        assert params[1] not in optimizer.state


@by_class
def test_maximize_is_descent_of_the_negated_gradient(cls):
    params, mirrored = parameters(), parameters()
    up, down = cls(params, lr=0.1, maximize=True), cls(mirrored, lr=0.1)
    for step in range(3):
        give_gradients(params, step)
        give_gradients(mirrored, step)
        for param in mirrored:
            param.grad.neg_()
        up.step()
        down.step()
    assert_equal(params, mirrored)


@by_class
def test_options_are_those_of_the_group(cls):
    together, alone = parameters(), parameters()
    groups = [{"params": together[:1], "lr": 0.5, "weight_decay": 0.2}, {"params": together[1:]}]
    one = cls(groups, lr=0.01)
    two = [cls(alone[:1], lr=0.5, weight_decay=0.2), cls(alone[1:], lr=0.01)]
    for step in range(3):
        give_gradients(together, step)
        give_gradients(alone, step)
        one.step()
        for optimizer in two:
            optimizer.step()
    assert_equal(together, alone)


@by_class
def test_a_group_added_in_the_middle_starts_from_the_beginning(cls):
    late, fresh = parameters(), parameters()
    optimizer = cls(parameters(1), lr=0.1)
    optimizer.step()
    optimizer.add_param_group({"params": late})
    train(optimizer, late, range(3))
    train(cls(fresh, lr=0.1), fresh, range(3))
    assert_equal(late, fresh)


@by_class
def test_a_tensor_lr_and_a_scheduler_are_obeyed(cls):
    by_float, by_tensor = parameters(), parameters()
    optimizers = [cls(by_float, lr=0.5), cls(by_tensor, lr=torch.tensor(0.5))]
    for optimizer, params in zip(optimizers, (by_float, by_tensor), strict=True):
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
        for step in range(3):
            give_gradients(params, step)
            optimizer.step()
            scheduler.step()
        assert float(optimizer.param_groups[0]["lr"]) == 0.0625
    assert_equal(by_float, by_tensor)
    unscheduled = parameters()
    train(cls(unscheduled, lr=0.5), unscheduled, range(3))
    assert not torch.equal(by_float[0], unscheduled[0])


@by_counterpart
def test_state_dict_goes_to_torch_and_back(cls):
    """Half the steps here, half there, and the reverse: one step's rounding apart at most."""
    options = OPTIONS[cls]
    theirs = COUNTERPARTS[cls]
    for first, second in ((cls, theirs), (theirs, cls)):
        params, expected = parameters(), parameters()
        optimizer = first(params, **options)
        train(optimizer, params, range(3))
        successor = second(params, **options)
        successor.load_state_dict(optimizer.state_dict())
        train(successor, params, range(3, 6))
        train(second(expected, **options), expected, range(6))
        for param, other in zip(params, expected, strict=True):
            assert (param - other).abs().max() < 1e-6
        mine = successor.state_dict()["state"]
        whole = theirs(expected, **options)
        train(whole, expected, range(1))
        assert mine[0].keys() == whole.state_dict()["state"][0].keys()


@by_class
def test_state_dict_through_bytes_resumes_bit_for_bit(cls):
    params, uninterrupted = parameters(), parameters()
    optimizer = cls(params, lr=0.1)
    train(optimizer, params, range(3))
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    resumed = cls(params, lr=0.7)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    train(resumed, params, range(3, 6))
    train(cls(uninterrupted, lr=0.1), uninterrupted, range(6))
    assert_equal(params, uninterrupted)


@by_class
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_are_independent(cls, duplicate):
    params, reference = parameters(), parameters()
    optimizer = cls(params, lr=0.1)
    train(optimizer, params, range(2))
    twin = duplicate(optimizer)
    twin_params = twin.param_groups[0]["params"]
    train(twin, twin_params, range(2, 4))
    train(cls(reference, lr=0.1), reference, range(2))
    assert_equal(params, reference)
    train(optimizer, params, range(2, 4))
    assert_equal(params, twin_params)


def test_a_state_dict_of_an_older_torch_loads():
    params = parameters()
    optimizer = optim.Adam(params, amsgrad=True)
    train(optimizer, params, range(2))
    old = optimizer.state_dict()
    for key in ("amsgrad", "maximize", "decoupled_weight_decay", "dialect"):
        del old["param_groups"][0][key]
    for state in old["state"].values():
        state["step"] = int(state["step"])
    fresh = optim.Adam(params, amsgrad=True)
    fresh.load_state_dict(old)
    group = fresh.param_groups[0]
    assert (group["amsgrad"], group["maximize"], group["dialect"]) == (False, False, "torch")
    assert isinstance(fresh.state[params[0]]["step"], torch.Tensor)
    train(fresh, params, range(1))
    assert fresh.state[params[0]]["step"] == 3


def test_names_that_promise_something_keep_it_whatever_is_loaded():
    params = parameters()
    adamw = optim.AdamW(params)
    adamw.load_state_dict(optim.Adam(params).state_dict())
    assert adamw.param_groups[0]["decoupled_weight_decay"] is True
    nesterov = optim.Nesterov(params)
    nesterov.load_state_dict(optim.Momentum(params).state_dict())
    assert nesterov.param_groups[0]["nesterov"] is True


def test_adagrad_has_its_state_from_the_start_and_shares_it():
    params = parameters()
    optimizer = optim.AdaGrad(params, initial_accumulator_value=0.5)
    assert all((optimizer.state[param]["sum"] == 0.5).all() for param in params)
    optimizer.share_memory()
    assert optimizer.state[params[0]]["sum"].is_shared()


def test_sgd_without_momentum_keeps_no_state():
    params = parameters()
    optimizer = optim.SGD(params)
    train(optimizer, params, range(1))
    assert not optimizer.state[params[0]]


@pytest.mark.parametrize("engine", [{}, {"foreach": False}])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    "options", [{}, {"nesterov": True}, {"maximize": True}, {"dampening": 0.5}], ids=str
)
def test_the_first_buffer_is_the_gradient_with_the_signs_of_its_zeros(options, dtype, engine):
    """b_1 = g_1: nothing is added to it, not even zero. Then the signs stay torch's."""
    zeros = torch.tensor([0.0, -0.0], dtype=dtype)
    sides = []
    for cls, extra in ((optim.SGD, engine), (torch.optim.SGD, {"foreach": False})):
        param = torch.nn.Parameter(zeros.repeat(2))
        optimizer = cls([param], lr=0.1, momentum=0.9, **options, **extra)
        signs = []
        for _ in range(2):
            param.grad = zeros.repeat_interleave(2)
            optimizer.step()
            buffer = optimizer.state[param]["momentum_buffer"]
            signs += [torch.signbit(buffer).tolist(), torch.signbit(param).tolist()]
        sides.append(signs)
    assert sides[0] == sides[1]


def test_momentum_switched_on_in_the_middle_starts_with_the_whole_gradient():
    params, theirs = parameters(), parameters()
    optimizers = [optim.SGD(params, lr=0.1, dampening=0.5), torch.optim.SGD(theirs, lr=0.1)]
    optimizers[1].param_groups[0]["dampening"] = 0.5
    for optimizer, some in zip(optimizers, (params, theirs), strict=True):
        train(optimizer, some, range(1))
        optimizer.param_groups[0]["momentum"] = 0.9
        train(optimizer, some, range(1, 4))
    for param, other in zip(params, theirs, strict=True):
        torch.testing.assert_close(param, other, rtol=1e-6, atol=1e-7)


@by_class
def test_complex_parameters_are_pairs_of_reals(cls):
    generator = torch.Generator().manual_seed(0)
    z = nn.Parameter(torch.randn(3, 2, dtype=torch.complex64, generator=generator))
    pair = nn.Parameter(torch.view_as_real(z.detach()).clone())
    optimizers = [cls([z], lr=0.1, weight_decay=0.1), cls([pair], lr=0.1, weight_decay=0.1)]
    for _ in range(3):
        z.grad = torch.randn(3, 2, dtype=torch.complex64, generator=generator)
        pair.grad = torch.view_as_real(z.grad).clone()
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(torch.view_as_real(z.detach()), pair)
    for name, slot in optimizers[0].state[z].items():
        assert name == "step" or slot.dtype == torch.complex64


def test_complex_adagrad_starts_like_torch():
    z = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    mine = optim.AdaGrad([z], initial_accumulator_value=0.5)
    theirs = torch.optim.Adagrad([z], initial_accumulator_value=0.5)
    assert torch.equal(mine.state[z]["sum"], theirs.state[z]["sum"])


@by_class
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_computed_in_float32_and_rounded_once(cls, dtype):
    low = [nn.Parameter(param.detach().to(dtype)) for param in parameters()]
    optimizer = cls(low, lr=0.1, weight_decay=0.1)
    for step in range(3):
        wide = [nn.Parameter(param.detach().float()) for param in low]
        exact = cls(wide, lr=0.1, weight_decay=0.1)
        exact.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        give_gradients(wide, step)
        for param, other in zip(low, wide, strict=True):
            param.grad = other.grad.to(dtype)
            other.grad = param.grad.float()
        optimizer.step()
        exact.step()
        for param, other in zip(low, wide, strict=True):
            assert torch.equal(param, other.to(dtype))
            for name, slot in optimizer.state[param].items():
                if name != "step":
                    assert torch.equal(slot, exact.state[other][name].to(dtype))


@by_class
def test_named_parameters_and_hooks(cls):
    model = nn.Linear(3, 2)
    optimizer = cls(model.named_parameters(), lr=0.1)
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("pre"))
    optimizer.register_step_post_hook(lambda *_: seen.append("post"))
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert seen == ["pre", "post"]
    assert cls.__name__ in repr(optimizer)


def test_the_step_count_is_in_the_default_precision():
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            params = parameters()
            optimizer = optim.Adam(params)
            train(optimizer, params, range(1))
            assert optimizer.state[params[0]]["step"].dtype == dtype
        finally:
            torch.set_default_dtype(torch.float32)


def test_capable_of_training_a_network():
    """All of them fit a small classification; a sanity check of the whole, in float64."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 5, generator=generator, dtype=torch.float64)
    t = (x[:, 0] * x[:, 1] > 0).long()
    for cls in CLASSES:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 2)).double()
        optimizer = cls(model.parameters(), lr=0.5 if issubclass(cls, optim.SGD) else 0.05)
        losses = []
        for _ in range(150):
            loss = nn.functional.cross_entropy(model(x), t)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0] / 4, cls.__name__


def test_nesterov_and_sgd_agree_with_torch_with_their_own_defaults():
    report = check_against_torch(
        optim.Nesterov,
        lambda params: torch.optim.SGD(params, momentum=0.9, nesterov=True),
        steps=20,
        dtype="float64",
    )
    assert report.max_step_error <= 64


def test_a_subclass_with_options_of_its_own_keeps_a_clean_state_dict():
    class Sub(optim.Adam):
        def __init__(self, params, tag, **options):
            super().__init__(params, **options)

    params = parameters()
    optimizer = Sub(params, "tag", amsgrad=True)
    state = optimizer.state_dict()
    del state["param_groups"][0]["maximize"]
    optimizer.load_state_dict(state)
    (group,) = copy.deepcopy(optimizer).param_groups
    assert group.keys() == optim.Adam(params).param_groups[0].keys()
    assert group["maximize"] is False
    assert group["amsgrad"] is True


def test_a_gradient_that_autograd_leaves_conjugated():
    z = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    z.grad = torch.tensor([1 + 2j, 3 - 1j]).conj()
    assert z.grad.is_conj()
    optim.SGD([z], lr=1.0).step()
    assert torch.equal(z.detach(), torch.tensor([0 + 2j, -2 - 1j]))


@pytest.mark.parametrize("foreach", [None, False])
def test_autograd_notices_that_a_saved_parameter_has_changed(foreach):
    param = nn.Parameter(torch.ones(3))
    optimizer = optim.Adam([param], foreach=foreach)
    loss = (param * param).sum()
    param.grad = torch.ones(3)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@by_every_class
@pytest.mark.parametrize("foreach", [None, False])
def test_a_step_inside_of_the_backward_pass(cls, foreach):
    """The recipe that frees each gradient as soon as it is there: an optimizer per parameter."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 1))
    plain, x = copy.deepcopy(model), torch.randn(7, 5)
    optimizers = {param: cls([param], foreach=foreach) for param in model.parameters()}

    def step(param):
        optimizers[param].step()
        optimizers[param].zero_grad()

    for param in model.parameters():
        param.register_post_accumulate_grad_hook(step)
    optimizer = cls(plain.parameters(), foreach=foreach)
    for _ in range(3):
        model(x).square().mean().backward()
        optimizer.zero_grad()
        plain(x).square().mean().backward()
        optimizer.step()
    assert_equal(model.parameters(), plain.parameters())
    assert all(param.grad is None for param in model.parameters())


@by_every_class
def test_a_hook_before_the_step_may_give_the_gradients(cls):
    params, others = parameters(), parameters()
    optimizer = cls(params, lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: give_gradients(params, 0))
    optimizer.step()
    train(cls(others, lr=0.1), others, range(1))
    assert_equal(params, others)


@by_counterpart
@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1)], ids=str)
def test_a_schedule_of_momentum_and_betas_is_obeyed(cls, lr):
    options = {"momentum": 0.9} if "momentum" in inspect.signature(cls).parameters else {}
    params, theirs = parameters(), parameters()
    rates = []
    for kind, some in ((cls, params), (COUNTERPARTS[cls], theirs)):
        optimizer = kind(some, lr=copy.deepcopy(lr), **options)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=0.1, total_steps=8, cycle_momentum=cls is not optim.AdaGrad
        )
        rates.append([])
        for step in range(7):
            give_gradients(some, step)
            optimizer.step()
            scheduler.step()
            group = optimizer.param_groups[0]
            rates[-1].append((float(group["lr"]), group.get("momentum"), group.get("betas")))
    assert rates[0] == rates[1]
    for param, their in zip(params, theirs, strict=True):
        torch.testing.assert_close(param, their, rtol=1e-5, atol=1e-6)
