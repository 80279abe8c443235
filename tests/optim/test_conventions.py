"""A convention is a formula and its defaults, kept in the state dict."""

import pytest
import torch
from torch import nn

from torchopt_ref import optim

BOOK = {
    optim.SGD: {"lr": 0.01},
    optim.Momentum: {"lr": 0.01, "momentum": 0.9},
    optim.Nesterov: {"lr": 0.01, "momentum": 0.9},
    optim.AdaGrad: {"lr": 0.01, "eps": 1e-7},
    optim.RMSprop: {"lr": 0.01, "alpha": 0.99, "eps": 1e-7},
    optim.Adam: {"lr": 0.001, "betas": (0.9, 0.999), "eps": 1e-7},
}
by_class = pytest.mark.parametrize("cls", BOOK, ids=lambda cls: cls.__name__)


def parameters():
    return [nn.Parameter(torch.tensor([1.0, -2.0]))]


@by_class
def test_the_books_defaults_are_taken_where_nothing_is_given(cls):
    (group,) = cls(parameters(), convention="book").param_groups
    engine = ("foreach", "fused", "flat", "capturable", "differentiable")
    hyper = {name: group[name] for name in group.keys() - {"params", "convention", *engine}}
    assert hyper == BOOK[cls]


@by_class
def test_what_is_given_is_kept_even_if_it_is_torchs_default(cls):
    for name in BOOK[cls].keys() & {"lr", "eps"}:
        default = cls(parameters()).defaults[name]
        (group,) = cls(parameters(), **{name: default}, convention="book").param_groups
        assert group[name] == default
    assert cls(parameters(), 0.25, convention="book").param_groups[0]["lr"] == 0.25


@by_class
@pytest.mark.parametrize("option", [{"weight_decay": 0.1}, {"maximize": True}])
def test_an_option_that_the_book_does_not_have_raises(cls, option):
    (name,) = option
    message = f"{cls.__name__} has no option '{name}' in the 'book' convention: choose from lr"
    with pytest.raises(ValueError, match=message):
        cls(parameters(), **option, convention="book")
    with pytest.raises(ValueError, match=message):
        cls([{"params": parameters(), **option}], convention="book")
    optimizer = cls(parameters(), convention="book")
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": parameters(), **option})


def test_an_option_given_as_off_is_harmless():
    optim.Adam(parameters(), amsgrad=False, weight_decay=0, convention="book")


@pytest.mark.parametrize("cls", [*BOOK, optim.AdamW], ids=lambda cls: cls.__name__)
def test_an_unknown_convention_names_the_choices(cls):
    with pytest.raises(ValueError, match=f"{cls.__name__} has no convention 'bok': .*'torch'"):
        cls(parameters(), convention="bok")


def test_adamw_is_not_in_the_book():
    with pytest.raises(ValueError, match="AdamW has no convention 'book': choose from 'torch'"):
        optim.AdamW(parameters(), convention="book")


@by_class
def test_the_convention_is_in_the_state_dict_and_resumes(cls):
    params, whole = parameters(), parameters()
    optimizer = cls(params, convention="book")
    expected = cls(whole, convention="book")
    for step in range(4):
        if step == 2:
            state = optimizer.state_dict()
            assert state["param_groups"][0]["convention"] == "book"
            optimizer = cls(params, convention="book")
            optimizer.load_state_dict(state)
        for param in (*params, *whole):
            param.grad = torch.tensor([0.5, -1.0]) * (step + 1)
        optimizer.step()
        expected.step()
    assert torch.equal(params[0], whole[0])


@by_class
def test_a_state_of_another_convention_is_refused_and_changes_nothing(cls):
    optimizer = cls(parameters(), convention="book")
    before = optimizer.state_dict()
    message = f"of the 'torch' convention, this {cls.__name__} of the 'book' convention"
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(cls(parameters()).state_dict())
    assert optimizer.state_dict() == before or cls is optim.AdaGrad
    with pytest.raises(ValueError, match="of the 'book' convention"):
        cls(parameters()).load_state_dict(before)


def test_a_state_dict_of_torch_is_of_the_torch_convention():
    theirs = torch.optim.Adam(parameters()).state_dict()
    optimizer = optim.Adam(parameters())
    optimizer.load_state_dict(theirs)
    assert optimizer.param_groups[0]["convention"] == "torch"
    with pytest.raises(ValueError, match="of the 'torch' convention"):
        optim.Adam(parameters(), convention="book").load_state_dict(theirs)


def test_groups_share_the_convention():
    with pytest.raises(ValueError, match="share its convention, here 'torch'"):
        optim.SGD([{"params": parameters(), "convention": "book"}])


def test_a_convention_of_ones_own_needs_one_rule():
    """How a user adds one: a rule, and a subclass that names it."""

    def sign(param, grad, slots, *, lr):
        return param - lr * torch.sign(grad), {}

    class SignSGD(optim.SGD):
        conventions = {
            "torch": optim.Rule(
                sign, lambda group: {}, lambda group, step, fresh: {"lr": group["lr"]}, counts=False
            )
        }

    params = parameters()
    params[0].grad = torch.tensor([3.0, -0.1])
    SignSGD(params, lr=0.5).step()
    assert params[0].tolist() == [0.5, -1.5]
