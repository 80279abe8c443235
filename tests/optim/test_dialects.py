"""A dialect is a module: its classes have its formulas and defaults, and say so in their state."""

import inspect

import pytest
import torch
from torch import nn

from torchopt_ref import optim
from torchopt_ref.optim import book

BOOK = {
    book.SGD: {"lr": 0.01},
    book.Momentum: {"lr": 0.01, "momentum": 0.9},
    book.Nesterov: {"lr": 0.01, "momentum": 0.9},
    book.AdaGrad: {"lr": 0.01, "eps": 1e-7},
    book.RMSprop: {"lr": 0.01, "alpha": 0.99, "eps": 1e-7},
    book.Adam: {"lr": 0.001, "betas": (0.9, 0.999), "eps": 1e-7},
}
by_class = pytest.mark.parametrize("cls", BOOK, ids=lambda cls: cls.__name__)


def parameters():
    return [nn.Parameter(torch.tensor([1.0, -2.0]))]


def torchs(cls):
    """The class of the same name in torch's dialect."""
    return getattr(optim, cls.__name__)


@by_class
def test_the_book_has_its_own_arguments_and_defaults(cls):
    how = ("foreach", "fused", "capturable", "differentiable", "flags")
    arguments = inspect.signature(cls).parameters.values()
    own = [each for each in arguments if each.name not in ("params", *how)]
    assert {each.name: each.default for each in own} == BOOK[cls]
    assert all(each.kind is each.POSITIONAL_OR_KEYWORD for each in own)
    (group,) = cls(parameters()).param_groups
    assert {name: group[name] for name in group.keys() - {"params", "dialect", *how}} == BOOK[cls]


@by_class
@pytest.mark.parametrize("option", ["weight_decay", "maximize"])
def test_an_option_that_the_book_does_not_have_raises(cls, option):
    with pytest.raises(TypeError, match=f"{cls.__name__} has no argument '{option}'"):
        cls(parameters(), **{option: 0})


def test_the_book_has_no_adamw():
    assert not hasattr(book, "AdamW")


@by_class
def test_the_book_refuses_what_is_out_of_range(cls):
    for name, wrong in {"lr": -1.0, "momentum": -1.0, "eps": -1.0, "betas": (1.0, 0.9)}.items():
        if name in BOOK[cls]:
            with pytest.raises(ValueError, match="Invalid"):
                cls(parameters(), **{name: wrong})
    with pytest.raises(RuntimeError, match="`fused` and `foreach` cannot be `True` together"):
        cls(parameters(), fused=True, foreach=True)


@by_class
def test_the_dialect_is_in_the_state_dict_and_resumes(cls):
    params, whole = parameters(), parameters()
    optimizer, expected = cls(params), cls(whole)
    for step in range(4):
        if step == 2:
            state = optimizer.state_dict()
            assert state["param_groups"][0]["dialect"] == "book"
            optimizer = cls(params)
            optimizer.load_state_dict(state)
        for param in (*params, *whole):
            param.grad = torch.tensor([0.5, -1.0]) * (step + 1)
        optimizer.step()
        expected.step()
    assert torch.equal(params[0], whole[0])


@by_class
def test_a_state_of_another_dialect_is_refused_and_changes_nothing(cls):
    optimizer = cls(parameters())
    before = optimizer.state_dict()
    message = f"of the 'torch' dialect, this {cls.__name__} of the 'book' dialect"
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(torchs(cls)(parameters()).state_dict())
    assert str(optimizer.state_dict()) == str(before)
    message = f"of the 'book' dialect, this {cls.__name__} of the 'torch' dialect"
    with pytest.raises(ValueError, match=message):
        torchs(cls)(parameters()).load_state_dict(before)


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
