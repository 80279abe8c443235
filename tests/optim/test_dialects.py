"""A dialect is a module: its classes have its formulas and defaults, and say so in their state."""

import copy
import inspect

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from torchopt_ref import optim
from torchopt_ref.optim import book, keras, optax
from torchopt_ref.optim.functional import Functional
from torchopt_ref.sides import BY_NAME, ENGINES, KNOWN

ADAM = {"lr": 0.001, "betas": (0.9, 0.999)}
DEFAULTS = {
    book.SGD: {"lr": 0.01},
    book.Momentum: {"lr": 0.01, "momentum": 0.9},
    book.Nesterov: {"lr": 0.01, "momentum": 0.9},
    book.AdaGrad: {"lr": 0.01, "eps": 1e-7},
    book.RMSprop: {"lr": 0.01, "alpha": 0.99, "eps": 1e-7},
    book.Adam: ADAM | {"eps": 1e-7},
    keras.SGD: {"lr": 0.01, "momentum": 0.0, "nesterov": False, "weight_decay": 0},
    keras.Adagrad: {
        **{"lr": 0.001, "initial_accumulator_value": 0.1, "eps": 1e-7, "weight_decay": 0}
    },
    keras.RMSprop: {
        **{"lr": 0.001, "alpha": 0.9, "momentum": 0.0, "eps": 1e-7, "centered": False},
        "weight_decay": 0,
    },
    keras.Adam: ADAM | {"eps": 1e-7, "weight_decay": 0, "amsgrad": False},
    keras.AdamW: ADAM | {"eps": 1e-7, "weight_decay": 0.004, "amsgrad": False},
    optax.SGD: {"lr": 0.001, "momentum": 0.0, "nesterov": False},
    optax.Adagrad: {"lr": 0.001, "initial_accumulator_value": 0.1, "eps": 1e-7},
    optax.RMSprop: {
        **{"lr": 0.001, "alpha": 0.9, "eps": 1e-8, "initial_scale": 0.0, "eps_in_sqrt": True},
        **{"centered": False, "momentum": 0.0, "nesterov": False, "bias_correction": False},
        "x64": False,
    },
    optax.Adam: ADAM | {"eps": 1e-8, "eps_root": 0.0, "nesterov": False, "x64": False},
    optax.AdamW: ADAM
    | {"eps": 1e-8, "eps_root": 0.0, "weight_decay": 1e-4, "nesterov": False, "x64": False},
}
by_class = pytest.mark.parametrize("cls", DEFAULTS, ids=lambda cls: f"{cls.dialect}.{cls.__name__}")


def parameters(dtype=torch.float32):
    return [nn.Parameter(torch.tensor([1.0, -2.0], dtype=dtype))]


def torchs(cls):
    """The class of the same name in torch's dialect."""
    return getattr(optim, cls.__name__)


def test_every_class_is_here():
    assert {known.ours for known in KNOWN if known.dialect != "torch"} == DEFAULTS.keys()
    assert not hasattr(book, "AdamW")


@by_class
def test_a_dialect_has_its_own_arguments_and_defaults(cls):
    how = ("foreach", "fused", "capturable", "differentiable", "flags")
    arguments = inspect.signature(cls).parameters.values()
    own = [each for each in arguments if each.name not in ("params", *how)]
    assert {each.name: each.default for each in own} == DEFAULTS[cls]
    assert all(each.kind is each.POSITIONAL_OR_KEYWORD for each in own)
    (group,) = cls(parameters()).param_groups
    defaults = {name: group[name] for name in group.keys() - {"params", "dialect", *how}}
    assert defaults == DEFAULTS[cls]


@by_class
@pytest.mark.parametrize("option", ["weight_decay", "maximize", "momentun"])
def test_an_option_that_a_dialect_does_not_have_raises(cls, option):
    if option not in DEFAULTS[cls]:
        with pytest.raises(TypeError, match=f"{cls.__name__} has no argument '{option}'$"):
            cls(parameters(), **{option: 0})


@pytest.mark.parametrize(
    ("cls", "theirs", "ours"),
    [
        *((cls, "learning_rate", "'lr'") for cls in DEFAULTS if cls.dialect != "book"),
        (keras.RMSprop, "rho", "'alpha'"),
        (keras.Adagrad, "epsilon", "'eps'"),
        (keras.AdamW, "beta_1", r"'betas\[0\]'"),
        (keras.Adam, "beta_2", r"'betas\[1\]'"),
        (optax.RMSprop, "decay", "'alpha'"),
        (optax.AdamW, "b1", r"'betas\[0\]'"),
        (optax.Adam, "b2", r"'betas\[1\]'"),
    ],
)
def test_the_dialects_own_name_of_an_option_is_translated(cls, theirs, ours):
    with pytest.raises(TypeError, match=f"no argument '{theirs}': here it is {ours}"):
        cls(parameters(), **{theirs: 0.1})


def test_the_name_of_an_option_that_the_class_lacks_is_not_translated():
    for cls, name in ((keras.SGD, "beta_1"), (keras.Adam, "rho"), (optax.SGD, "decay")):
        with pytest.raises(TypeError, match=f"has no argument '{name}'$"):
            cls(parameters(), **{name: 0.9})


WRONG = dict.fromkeys(
    ("lr", "momentum", "alpha", "eps", "eps_root", "weight_decay", "initial_accumulator_value"),
    (-1.0, float("nan")),
) | {"betas": ((1.0, 0.9), (0.9, -0.1), (0.9,)), "initial_scale": (-1.0,)}


@by_class
def test_a_dialect_refuses_what_is_out_of_range(cls):
    for name in WRONG.keys() & DEFAULTS[cls].keys():
        for wrong in WRONG[name]:
            with pytest.raises(ValueError, match="Invalid"):
                cls(parameters(), **{name: wrong})
    if cls is keras.SGD:
        with pytest.raises(ValueError, match=r"Invalid momentum value: 1\.5"):
            cls(parameters(), momentum=1.5)
    with pytest.raises(RuntimeError, match="`fused` and `foreach` cannot be `True` together"):
        cls(parameters(), fused=True, foreach=True)


@by_class
def test_the_dialect_is_in_the_state_dict_and_resumes(cls):
    params, whole = parameters(), parameters()
    optimizer, expected = cls(params), cls(whole)
    for step in range(4):
        if step == 2:
            state = optimizer.state_dict()
            assert state["param_groups"][0]["dialect"] == cls.dialect
            optimizer = cls(params)
            optimizer.load_state_dict(state)
        for param in (*params, *whole):
            param.grad = torch.tensor([0.5, -1.0]) * (step + 1)
        optimizer.step()
        expected.step()
    assert torch.equal(params[0], whole[0])


@by_class
def test_a_state_of_another_dialect_is_refused_and_changes_nothing(cls):
    """The refusal names the class that takes it, here the one it is of."""
    optimizer, other = cls(parameters()), torchs(cls)(parameters())
    for refuses, dialect, state in (
        (optimizer, "torch", other.state_dict()),
        (other, cls.dialect, optimizer.state_dict()),
    ):
        before = copy.deepcopy(refuses.state_dict())
        own, name = type(refuses).dialect, type(refuses).__name__
        module = "torchopt_ref.optim" + ("" if dialect == "torch" else f".{dialect}")
        with pytest.raises(ValueError, match=f"of the '{dialect}' dialect") as refusal:
            refuses.load_state_dict(state)
        assert f"this {name} of the {own!r} dialect" in str(refusal.value)
        assert str(refusal.value).endswith(f": {module}.{name} takes it")
        assert str(refuses.state_dict()) == str(before)


def test_no_class_is_named_that_would_not_take_a_state():
    state = optax.SGD(parameters()).state_dict()
    for cls in (keras.Adam, keras.RMSprop, book.Momentum, optim.AdamW):
        with pytest.raises(ValueError, match=r"which has other formulas$"):
            cls(parameters()).load_state_dict(state)
    for dialect in ("own", "adam", "engines", "", 3):
        state["param_groups"][0]["dialect"] = dialect
        with pytest.raises(ValueError, match=r"which has other formulas$"):
            keras.SGD(parameters()).load_state_dict(state)


def give(params, step):
    for param in params:
        param.grad = torch.tensor([0.5 - 0.3 * step, 0.2 * step], dtype=param.dtype)


@by_class
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_cycle_of_all_that_torch_cycles_is_obeyed(cls, engine, as_tensor):
    """To the bit, by a reference that is told the options of the group before each step."""
    params, known = parameters(), BY_NAME[f"{cls.dialect}.{cls.__name__}"]
    lr = torch.tensor(0.1) if as_tensor else 0.1
    optimizer = cls(params, lr=lr, **ENGINES[engine])
    cycles = not DEFAULTS[cls].keys().isdisjoint(("betas", "momentum"))
    schedule = lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=9, cycle_momentum=cycles)
    reference, expected = known.reference(), {0: params[0].detach().numpy().copy()}
    seen = set()
    for step in range(8):
        give(params, step)
        (group,) = optimizer.param_groups
        for name in ("lr", "momentum", "betas"):
            if name in reference.hyper:
                value = group[name]
                reference.hyper[name] = value if name == "betas" else float(value)
        seen.add(str([reference.hyper.get(name) for name in ("lr", "momentum", "betas")]))
        optimizer.step()
        reference.update(expected, {0: params[0].grad.numpy()})
        np.testing.assert_array_equal(params[0].detach(), expected[0])
        schedule.step()
    assert len(seen) == 8


@by_class
@pytest.mark.parametrize("engine", ENGINES)
def test_parameters_of_several_dtypes_in_one_group(cls, engine):
    """What a dialect rounds in the parameter's precision is rounded for each in its own."""
    dtypes = (torch.float64, torch.float32, torch.bfloat16, torch.float32)
    options = {"betas": (0.9, 0.99)} if "betas" in DEFAULTS[cls] else {}
    if cls is optax.RMSprop:
        options["bias_correction"] = True
    together, apart = ([parameters(dtype)[0] for dtype in dtypes] for _ in range(2))
    optimizers = [cls(together, **options, **ENGINES[engine])]
    optimizers += [cls([param], **options, **ENGINES[engine]) for param in apart]
    pure = Functional(cls, **options)
    functional = [param.detach().clone() for param in together]
    state = pure.init(functional)
    for step in range(4):
        give((*together, *apart), step)
        for optimizer in optimizers:
            optimizer.step()
        functional, state = pure.update([param.grad for param in together], state, functional)
    for param, own, other in zip(together, apart, functional, strict=True):
        assert torch.equal(param, own)
        assert torch.equal(param, other)


@pytest.mark.parametrize("cls", [keras.Adam, optax.Adam])
@pytest.mark.filterwarnings("error")
def test_a_decay_that_is_one_in_float32_says_nothing_more_than_nan(cls):
    """1 - 1^t is 0; in float64 the decay is less than 1."""
    options = {"betas": (1 - 1e-9, 1 - 1e-9)}
    for dtype, engine in ((d, e) for d in (torch.float32, torch.float64) for e in ENGINES.values()):
        params = parameters(dtype)
        give(params, 1)
        cls(params, **options, **engine).step()
        pure = Functional(cls, **options)
        own = parameters(dtype)[0].detach()
        moved, _ = pure.update(params[0].grad, pure.init(own), own)
        for found in (params[0], moved):
            assert found.isnan().all() == (dtype == torch.float32)


def test_a_state_dict_of_torch_is_of_torchs_dialect():
    theirs = torch.optim.Adam(parameters()).state_dict()
    optimizer = optim.Adam(parameters())
    optimizer.load_state_dict(theirs)
    assert optimizer.param_groups[0]["dialect"] == "torch"
    with pytest.raises(ValueError, match="of the 'torch' dialect"):
        book.Adam(parameters()).load_state_dict(theirs)


def test_groups_share_the_dialect():
    with pytest.raises(ValueError, match="group is of the 'book' dialect, this SGD of the 'torch'"):
        optim.SGD([{"params": parameters(), "dialect": "book"}])


def test_an_optimizer_of_ones_own_needs_a_rule_and_a_class():
    """How a user adds one."""

    def sign(param, grad, slots, *, lr):
        return param - lr * torch.sign(grad), {}

    class SignSGD(optim.Optimizer):
        rule = optim.Rule(
            sign, lambda group: {}, lambda group, step, fresh: {"lr": group["lr"]}, counts=False
        )
        dialect = "own"

        def __init__(self, params, lr=0.5):
            super().__init__(params, {"lr": lr, "foreach": None, "differentiable": False})

    params = parameters()
    params[0].grad = torch.tensor([3.0, -0.1])
    optimizer = SignSGD(params)
    optimizer.step()
    assert params[0].tolist() == [0.5, -1.5]
    assert optimizer.state_dict()["param_groups"][0]["dialect"] == "own"
