"""One step of every optimizer and option, from hostile states, is as exact as its numbers allow.

Parity compares two programs that share their formulas; here the papers' formulas are computed with
60 digits. A step may be off by what its formula gives when each input (parameter, gradient, slots,
learning rate, ...) and the result are off by ``UNITS`` roundings. That is its natural scale:
``|b m| + |(1 - b) g|`` for an average, ``|p|`` plus the length of the step for a parameter. It
grows by itself where a formula cancels: centered RMSprop divides by the root of a difference, and
where nearly nothing is left of this, nearly nothing is known of the step.

Keras keeps the learning rate in float32, and Keras and Optax compute the corrections of moments in
the parameter's precision, in which a power of a rounded decay is far off. These scalars are part of
what is asked for, so a step takes them as given; how exact they are is tested for itself.
"""

import random
from functools import partial

import mpmath
import numpy as np
import pytest
import torch
from mpmath import mpf
from torch.func import vmap

from tests.thinned import in_turn
from torchopt_ref import optim
from torchopt_ref.optim import book, keras, optax
from torchopt_ref.optim.functional import Functional
from torchopt_ref.sides import configurations

UNITS = 3
"""Roundings that each input and the result of a formula may be off by. Measured: at most 2.5."""


def sgd(x, new, o):
    if o["momentum"] == 0:
        return {"param": x["param"] - x["lr"] * x["grad"]}
    old = x["momentum_buffer"]
    b = x["grad"] if new else x["momentum"] * old + (1 - o.get("dampening", 0)) * x["grad"]
    direction = x["grad"] + x["momentum"] * b if o["nesterov"] else b
    return {"param": x["param"] - x["lr"] * direction, "momentum_buffer": b}


def adagrad(x, t, o):
    s = x["sum"] + x["grad"] ** 2
    lr = x["lr"] / (1 + (t - 1) * mpf(o.get("lr_decay", 0)))
    return {"param": x["param"] - lr * x["grad"] / (mpmath.sqrt(s) + x["eps"]), "sum": s}


def rmsprop(x, t, o):
    alpha = mpf(o["alpha"])
    found = {"square_avg": alpha * x["square_avg"] + (1 - alpha) * x["grad"] ** 2}
    variance = found["square_avg"]
    if o.get("centered"):
        found["grad_avg"] = alpha * x["grad_avg"] + (1 - alpha) * x["grad"]
        # "one" is 1, but for the rounding of the average that the square of g does not share.
        variance = max(variance - (x["one"] * found["grad_avg"]) ** 2, mpf(0))
    direction = x["grad"] / (mpmath.sqrt(variance) + x["eps"])
    if o.get("momentum"):
        found["momentum_buffer"] = direction = x["momentum"] * x["momentum_buffer"] + direction
    return found | {"param": x["param"] - x["lr"] * direction}


def adam(x, t, o):
    beta1, beta2 = map(mpf, o["betas"])
    m = beta1 * x["exp_avg"] + (1 - beta1) * x["grad"]
    v = beta2 * x["exp_avg_sq"] + (1 - beta2) * x["grad"] ** 2
    found, largest = {"exp_avg": m, "exp_avg_sq": v}, v
    if o.get("amsgrad"):
        found["max_exp_avg_sq"] = largest = max(v, x["max_exp_avg_sq"])
    corrected = mpmath.sqrt(largest / (1 - beta2**t)) + x["eps"]
    return found | {"param": x["param"] - x["lr"] * m / (1 - beta1**t) / corrected}


def book_momentum(x, t, o):
    v = x["momentum"] * x["momentum_buffer"] - x["lr"] * x["grad"]
    return {"param": x["param"] + v, "momentum_buffer": v}


def book_nesterov(x, t, o):
    """The next parameter and velocity where the step is taken before the gradient."""
    v = book_momentum(x, t, o)["momentum_buffer"]
    ahead = x["momentum"] * v - x["lr"] * x["grad"]
    return {"param": x["param"] + ahead, "momentum_buffer": v}


def book_adam(x, t, o):
    """Epsilon meets the root before it is corrected."""
    correction = mpmath.sqrt(1 - mpf(o["betas"][1]) ** t)
    return adam(x | {"eps": x["eps"] / correction}, t, o)


def root(value):
    return mpmath.sqrt(value) if value >= 0 else mpmath.nan


def keras_sgd(x, t, o):
    if o["momentum"] == 0:
        return {"param": x["param"] - x["lr"] * x["grad"]}
    return (book_nesterov if o["nesterov"] else book_momentum)(x, t, o)


def keras_adagrad(x, t, o):
    """Where nothing but zeros has been seen, as far as squares can tell, Optax stays."""
    s = x["sum"] + x["grad"] ** 2
    stays = o["dialect"] == "optax" and s <= x["smallest"] / 2
    step = 0 if stays else x["lr"] * x["grad"] / mpmath.sqrt(s + x["eps"])
    return {"param": x["param"] - step, "sum": s}


def factor(x, name):
    """What Optax' correction multiplies a moment by: one over it, where it is not that already."""
    correction = x.get(name, mpf(1))
    return correction if x.get("multiply") else 1 / correction


def keras_rmsprop(x, t, o):
    """Epsilon is inside the root, which Optax can choose; the velocity points upwards, Optax' down.
    A centered average can be that of other gradients, and the root that of a negative number."""
    found = rmsprop(x, t, o)
    square, mean = (found.get(name, mpf(0)) for name in ("square_avg", "grad_avg"))
    corrected = factor(x, "bias_correction")
    variance = corrected * square - (x["one"] * corrected * mean) ** 2
    inside = o.get("eps_in_sqrt", True)
    divisor = root(variance + x["eps"]) if inside else root(variance) + x["eps"]
    step = x["lr"] * x["grad"] / divisor
    if o["momentum"]:
        up = 1 if o["dialect"] == "keras" else -1
        velocity = x["momentum"] * up * x["momentum_buffer"] + step
        found["momentum_buffer"] = up * velocity
        step = x["momentum"] * velocity + step if o.get("nesterov") else velocity
    return found | {"param": x["param"] - step}


def keras_adam(x, t, o):
    """The averages are written as a way to go from the old one: what is lost is of its size."""
    beta1, beta2 = map(mpf, o["betas"])
    m = x["one"] * x["exp_avg"] + (1 - beta1) * (x["grad"] - x["exp_avg"])
    v = x["one"] * x["exp_avg_sq"] + (1 - beta2) * (x["grad"] ** 2 - x["exp_avg_sq"])
    found, largest = {"exp_avg": m, "exp_avg_sq": v}, v
    if o["amsgrad"]:
        found["max_exp_avg_sq"] = largest = max(v, x["max_exp_avg_sq"])
    return found | {"param": x["param"] - x["lr_t"] * m / (mpmath.sqrt(largest) + x["eps"])}


def optax_adam(x, t, o):
    found, beta1 = adam(x, t, o), mpf(o["betas"][0])
    mean = factor(x, "correction1") * found["exp_avg"]
    if o["nesterov"]:
        ahead = factor(x, "next_correction1") * found["exp_avg"]
        mean = beta1 * ahead + (1 - beta1) * factor(x, "correction1") * x["grad"]
    under = factor(x, "correction2") * found["exp_avg_sq"] + x.get("eps_root", 0)
    return found | {"param": x["param"] - x["lr"] * mean / (mpmath.sqrt(under) + x["eps"])}


TRUE = {"SGD": sgd, "AdaGrad": adagrad, "RMSprop": rmsprop, "Adam": adam, "AdamW": adam}
TRUE |= {"Momentum": sgd, "Nesterov": sgd}
TRUE |= {f"book.{name}": TRUE[name] for name in ("AdaGrad", "RMSprop")}
TRUE |= {"book.Momentum": book_momentum, "book.Nesterov": book_nesterov, "book.Adam": book_adam}
TRUE["book.SGD"] = lambda x, t, o: {"param": x["param"] - x["lr"] * x["grad"]}
TRUE |= {"keras.SGD": keras_sgd, "keras.Adam": keras_adam, "keras.AdamW": keras_adam}
TRUE |= {"optax.SGD": sgd, "optax.Adam": optax_adam, "optax.AdamW": optax_adam}
TRUE |= {f"{dialect}.Adagrad": keras_adagrad for dialect in ("keras", "optax")}
TRUE |= {f"{dialect}.RMSprop": keras_rmsprop for dialect in ("keras", "optax")}


def true_step(name, t, x, options):
    """``x`` are the inputs that may be off, ``t`` the number of the step, which is new if 1."""
    x = dict(x)
    if options.get("maximize"):
        x["grad"] = -x["grad"]
    # As other dialects write it, it is the same but for roundings.
    if options.get("decoupled_weight_decay") or options["dialect"] != "torch":
        x["param"] *= 1 - x["lr"] * x.get("weight_decay", 0)
    elif options.get("weight_decay"):
        x["grad"] += x["weight_decay"] * x["param"]
    return TRUE[name](x, t == 1 if TRUE[name] is sgd else t, options)


NUMBERS = ("lr", "eps", "eps_root", "momentum", "weight_decay")
STARTS = {"sum": "initial_accumulator_value", "square_avg": "initial_scale"}
SQUARES = ("sum", "square_avg", "exp_avg_sq", "max_exp_avg_sq")


def hostile(dtype, count, seed):
    """Columns of values that a step can be lost on, in every order of magnitude there is."""
    info = np.finfo(dtype)
    root = float(np.sqrt(info.tiny))
    sizes = [0.0, float(info.smallest_subnormal), float(info.tiny) / 3, float(info.tiny), root / 10]
    sizes += [1e-4, 1e-2, 1.0, 3.0, 1e4, 1e8, 0.1 / root, float(info.max) / 3.5]
    draw = random.Random(seed)
    names = ("param", "grad", "momentum_buffer", "exp_avg", "grad_avg", *SQUARES)
    rows = [
        {n: draw.choice(sizes) * (1 if n in SQUARES else draw.choice((1, -1))) for n in names}
        for _ in range(count)
    ]
    # A tiny gradient after a huge one, and one that is the opposite of the average.
    rows += [
        dict.fromkeys(names, 10000.0) | {"grad": 1e-4},
        dict.fromkeys(names, 3.0) | {"grad": -3.0},
    ]
    columns = {n: np.array([row[n] for row in rows], dtype) for n in names}
    # An average whose square overflows stands beside an average of squares that has overflowed.
    columns["grad_avg"] = np.clip(columns["grad_avg"], -0.1 / root, 0.1 / root)
    return columns


def stepped(configuration, columns, t):
    """The columns after step ``t``, at t = 1 with slots that this step creates."""
    param = torch.nn.Parameter(torch.from_numpy(columns["param"].copy()))
    optimizer = configuration.ours([param])
    state = optimizer.state[param]
    if t > 1:
        param.grad = torch.zeros_like(param)
        optimizer.step()
        for name in state.keys() - {"step"}:
            state[name].copy_(torch.from_numpy(columns[name]))
        if "step" in state:
            state["step"].fill_(t - 1)
        with torch.no_grad():
            param.copy_(torch.from_numpy(columns["param"]))
    param.grad = torch.from_numpy(columns["grad"].copy())
    optimizer.step()
    slots = {name: slot.numpy() for name, slot in state.items() if name != "step"}
    return optimizer.param_groups[0], {"param": param.detach().numpy(), **slots}


def numbers_of(configuration, options, t, dtype):
    found = {name: options[name] for name in NUMBERS if options.get(name)}
    if configuration.dialect == "keras":
        found["lr"] = float(np.float32(found["lr"]))
    rounded = configuration.known.ours.rule.rounded_scalars
    if rounded is not None:
        found |= rounded(options, t, getattr(torch, dtype.__name__))
    return {name: mpf(float(value)) for name, value in found.items()}


def off(value, found):
    return mpmath.inf if not np.isfinite(found) else abs(mpf(float(found)) - value)


@pytest.mark.parametrize(
    ("configuration", "dtype"), in_turn(configurations(), [np.float32, np.float64])
)
def test_a_step_from_a_hostile_state(configuration, dtype):
    mpmath.mp.dps = 60
    info = np.finfo(dtype)
    rounding, smallest, largest = map(float, (info.eps / 2, info.smallest_subnormal, info.max))
    for t, count in ((1, 10), (1000, 40)):
        columns = hostile(dtype, count, seed=t)
        options, found = stepped(configuration, columns, t)
        numbers = numbers_of(configuration, options, t, dtype)
        for row in range(len(columns["param"])):
            slots = {n: mpf(float(columns[n][row])) if t > 1 else mpf(0) for n in found}
            for name in STARTS.keys() & slots.keys() if t == 1 else ():
                slots[name] = mpf(float(dtype(options.get(STARTS[name], 0))))
            x = {"eps": mpf(0), "momentum": mpf(0), "one": mpf(1), "smallest": mpf(smallest)}
            x |= slots | numbers
            x |= {n: mpf(float(columns[n][row])) for n in ("param", "grad")}
            of = partial(true_step, configuration.name, t, options=options)
            true = of(x)
            assert true.keys() == found.keys()
            nearby = [of(x | {n: x[n] * (1 + UNITS * mpf(rounding))}) for n in x if x[n]]
            overflows = False
            for name in sorted(true, key=lambda name: name == "param"):
                got = float(found[name][row])
                if any(mpmath.isnan(other[name]) for other in (true, *nearby)):
                    assert np.isnan(got) or not all(mpmath.isnan(o[name]) for o in nearby)
                elif abs(true[name]) > largest:
                    assert abs(got) == np.inf, (name, row)
                    overflows = True
                elif name not in ("param", "momentum_buffer") or not overflows:
                    # What is less than the smallest number is lost, also before it is divided by
                    # epsilon. (A square that overflows is in the slot, and asserted there.)
                    divided = name in ("param", "momentum_buffer") and x["eps"]
                    lost = 4 * mpf(smallest) / (x["eps"] if divided else 1)
                    bound = lost + UNITS * rounding * abs(true[name])
                    bound += sum(abs(other[name] - true[name]) for other in nearby)
                    assert off(true[name], got) <= bound, (name, row, got, true[name], x)


def true_lr_t(lr, beta1, beta2, t):
    return lr * mpmath.sqrt(1 - beta2**t) / (1 - beta1**t)


def true_corrections(beta1, beta2, t, multiply):
    numbers = {"correction1": (beta1, t), "correction2": (beta2, t)}
    numbers["next_correction1"] = (beta1, t + 1)
    power = -1 if multiply else 1
    return {name: (1 - beta**count) ** power for name, (beta, count) in numbers.items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.9), (0.99, 0.9999)], ids=str)
@pytest.mark.parametrize("t", [1, 2, 10, 1000])
def test_scalars_in_the_parameters_precision(t, betas, dtype):
    """As exact as they can be where each decay is rounded, which with x64 is to float64."""
    mpmath.mp.dps = 60
    param = torch.nn.Parameter(torch.ones(1))
    unit, wide = (UNITS * mpf(float(np.finfo(kind).eps)) / 2 for kind in (dtype, np.float64))

    def rounded(cls, **options):
        (group,) = cls([param], betas=betas, **options).param_groups
        return cls.rule.rounded_scalars(group, t, getattr(torch, dtype.__name__))

    def check(found, formula, inputs, roundings):
        true = formula(inputs)
        nearby = [formula({**inputs, n: inputs[n] * (1 + roundings)}) for n in inputs]
        bound = unit * abs(true) + sum(abs(other - true) for other in nearby)
        assert off(true, found) <= bound
        assert found == dtype(found)

    decays = {"beta1": mpf(betas[0]), "beta2": mpf(betas[1])}
    inputs = decays | {"lr": mpf(float(np.float32(0.3)))}
    check(rounded(keras.Adam, lr=0.3)["lr_t"], lambda x: true_lr_t(**x, t=t), inputs, unit)
    for x64, roundings in ((False, unit), (True, wide)):
        found = rounded(optax.Adam, nesterov=True, x64=x64)
        how = {"t": t, "multiply": found.pop("multiply")}
        assert how["multiply"] == (x64 and dtype == np.float32)
        assert found.keys() == true_corrections(**decays, **how).keys()
        for name, value in found.items():
            check(
                value, lambda x, n=name, how=how: true_corrections(**x, **how)[n], decays, roundings
            )


def lose(cls, **options):
    """A tiny gradient after a huge one, by every way to run a step."""
    for way in ({}, {"foreach": False}, {"fused": True}, {"differentiable": True}):
        param = torch.ones(3)
        optimizer = cls([param], **options, **way)
        for value in (1e4, 1e-4):
            param.grad = torch.full((3,), value)
            optimizer.step()
        yield optimizer.state[param]


AVERAGES = [
    (optim.Adam, {"betas": (0.0, 0.0)}, ("exp_avg", "exp_avg_sq")),
    (optim.Adam, {"betas": (torch.tensor(0.0), torch.tensor(0.0))}, ("exp_avg", "exp_avg_sq")),
    (optim.AdamW, {"betas": (0.0, 0.0)}, ("exp_avg", "exp_avg_sq")),
    (optim.RMSprop, {"alpha": 0.0, "centered": True}, ("grad_avg", "square_avg")),
    (book.Adam, {"betas": (0.0, 0.0)}, ("exp_avg", "exp_avg_sq")),
    (book.RMSprop, {"alpha": 0.0}, ("square_avg",)),
    (keras.RMSprop, {"alpha": 0.0, "centered": True}, ("grad_avg", "square_avg")),
    (optax.RMSprop, {"alpha": 0.0, "centered": True}, ("grad_avg", "square_avg")),
    (optax.Adam, {"betas": (0.0, 0.0)}, ("exp_avg", "exp_avg_sq")),
]
"""All but Keras' Adam, which goes from the old average to the new one: there the old stays."""


@pytest.mark.parametrize(("cls", "options", "names"), AVERAGES)
def test_an_average_that_remembers_nothing_is_the_gradient(cls, options, names):
    grad = torch.full((3,), 1e-4)
    for state in lose(cls, **options):
        for name in names:
            square = name in ("exp_avg_sq", "square_avg")
            assert torch.equal(state[name], grad * grad if square else grad)


@pytest.mark.parametrize("cls", [optim.Adam, book.Adam])
def test_decays_that_are_traced_lose_no_gradient(cls):
    """Under vmap no branch could be chosen by their value."""

    def averages(beta1):
        adam = Functional(cls, betas=(beta1, torch.tensor(0.9)))
        params = torch.ones(3)
        state = adam.init(params)
        for value in (1e4, 1e-4):
            params, state = adam.update(torch.full((3,), value), state, params)
        return state["exp_avg"][0]

    found = vmap(averages)(torch.tensor([0.0, 0.5, 0.9]))
    assert found.tolist() == pytest.approx([1e-4, 2500.00005, 900.00001], rel=1e-6)
    assert found[0] == torch.tensor(1e-4)


def test_opposite_values_near_the_largest_have_an_average():
    """Their difference would overflow."""
    param = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = optim.Adam([param], betas=(0.5, 0.9))
    for sign in (1, -1):
        param.grad = torch.full_like(param, sign * 1.7e308)
        optimizer.step()
    assert optimizer.state[param]["exp_avg"].tolist() == [-4.25e307] * 2


@pytest.mark.parametrize("alpha", [0.1, 0.9, 0.99])
def test_centered_rmsprop_of_one_and_the_same_gradient_is_finite(alpha):
    """There the variance is 0 but for rounding, which must not make it negative."""
    grad = torch.from_numpy(np.random.default_rng(0).standard_normal(300))
    param = torch.nn.Parameter(torch.zeros_like(grad))
    optimizer = optim.RMSprop([param], alpha=alpha, centered=True)
    param.grad = grad
    optimizer.step()
    state = optimizer.state[param]
    state["grad_avg"].copy_(grad)
    state["square_avg"].copy_(grad * grad)
    optimizer.step()
    assert param.isfinite().all()
