"""The learning-rate range test in any loop: what it suggests, and that it leaves nothing behind."""

import copy
import json
import math
import random
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import nn

from tests.thinned import in_turn
from torchopt_ref import optim
from torchopt_ref.train import lr_range_test


class Quadratic(nn.Module):
    """sum(L x^2) / 2: a step of SGD multiplies x by 1 - lr L, and diverges above 2 / L."""

    def __init__(self, *curvatures, offset=0.0):
        super().__init__()
        self.x = nn.Parameter(torch.ones(len(curvatures), dtype=torch.float64))
        self.curvatures = torch.tensor(curvatures, dtype=torch.float64)
        self.offset = offset

    def forward(self):
        return (self.curvatures * self.x**2).sum() / 2 + self.offset


def steps_of(model, optimizer):
    def step():
        optimizer.zero_grad()
        loss = model()
        loss.backward()
        optimizer.step()
        return loss

    return step


def found_for(model, optimizer, **options):
    return lr_range_test(steps_of(model, optimizer), optimizer, model, **options)


@pytest.mark.parametrize("largest", [0.1, 7.0, 300.0, 2e4])
@pytest.mark.parametrize("others", [(), (0.3, 0.01), (1e-4,)])
@pytest.mark.parametrize("steps", [80, 200])
def test_the_suggestion_is_below_the_rate_that_diverges_and_not_far_below(largest, others, steps):
    """Also where the steepest direction has long converged when its rate begins to diverge."""
    model = Quadratic(largest, *(largest * each for each in others))
    found = found_for(model, torch.optim.SGD([model.x], lr=1.0), steps=steps, highest=1e3)
    diverges = 2 / largest
    assert diverges / 10 <= found.suggestion < diverges


@pytest.mark.parametrize("offset", [-1e3, 0.0, 1e3])
def test_a_loss_may_be_negative(offset):
    model = Quadratic(10.0, offset=offset)
    found = found_for(model, torch.optim.SGD([model.x], lr=1.0))
    assert 0.02 <= found.suggestion < 0.2
    assert len(found.rates) < 200
    assert found.ended


def test_rates_grow_by_one_factor():
    model = Quadratic(1e-9)
    optimizer = optim.SGD([model.x], lr=0.5)
    seen = []

    def step():
        seen.append(optimizer.param_groups[0]["lr"])
        return 1.0

    found = lr_range_test(step, optimizer, model, lowest=1e-4, highest=1.0, steps=81)
    assert found.rates == seen
    assert found.rates[0] == 1e-4
    assert found.rates[-1] == pytest.approx(1.0)
    assert np.diff(np.log10(seen)) == pytest.approx(0.05)
    assert found.losses == [1.0] * 81 == found.smoothed


def test_groups_keep_their_ratio_and_tensors_their_place():
    first, second = (nn.Parameter(torch.ones(2)) for _ in range(2))
    rate = torch.tensor(0.5)
    groups = [{"params": [first], "lr": 0.05}, {"params": [second], "lr": rate}]
    optimizer = torch.optim.Adam(groups, lr=1.0, capturable=False, foreach=False)
    seen = []

    def step():
        seen.append([float(group["lr"]) for group in optimizer.param_groups])
        assert optimizer.param_groups[1]["lr"] is rate
        return 1.0

    found = lr_range_test(step, optimizer, nn.ParameterList([first, second]))
    assert [each for _, each in seen] == pytest.approx(found.rates)
    assert [each for each, _ in seen] == pytest.approx([each / 10 for each in found.rates])
    assert optimizer.param_groups[0]["lr"] == 0.05
    assert optimizer.param_groups[1]["lr"] is rate
    assert rate == 0.5


def test_the_smoothed_loss_is_the_median_around():
    model = Quadratic(1.0)
    losses = iter([float(k * k % 17) for k in range(50)])
    found = lr_range_test(
        lambda: next(losses), optim.SGD([model.x], lr=1.0), model, lowest=1.0, highest=2.0, steps=50
    )
    assert found.smoothed[20] == sorted(found.losses[16:25])[4]
    assert found.smoothed[0] == sorted(found.losses[:5])[2]


class Net(nn.Module):
    """With all that a pass may change: statistics, a buffer that is bound anew, one that was None,
    one that cannot be written, chance, whether it trains."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3))
        self.head = nn.Linear(8, 1)
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.register_buffer("seen", torch.tensor([-0.0, float("nan")]))
        self.register_buffer("lazy", None)
        self.register_buffer("mask", torch.ones(1).expand(5))
        self.register_buffer("unsaved", torch.zeros(2), persistent=False)

    def forward(self, x):
        self.seen = self.seen + 1
        self.lazy = torch.ones(1)
        self.unsaved += 1
        self.body.eval() if random.random() < 0.1 else self.body.train()
        return self.head(self.body(x + float(np.random.randn())))


def bits(value):
    """What is compared of a model, an optimizer or numbers: all bits, and which object it is."""
    if isinstance(value, torch.Tensor):
        return id(value), value.detach().clone().contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return [(id(k) if isinstance(k, torch.Tensor) else k, bits(v)) for k, v in value.items()]
    if isinstance(value, list | tuple):
        return [bits(each) for each in value]
    return value


def everything(model, optimizer):
    return (
        bits([p for group in optimizer.param_groups for p in group["params"]]),
        bits([p.grad for p in model.parameters()]),
        bits(dict(model.named_parameters())),
        bits([(name, b) for m in model.modules() for name, b in m._buffers.items()]),
        [module.training for module in model.modules()],
        bits(dict(optimizer.state)),
        bits(optimizer.param_groups),
        bits(optimizer.defaults),
        bits(torch.get_rng_state()[None])[1],
        np.random.get_state()[1].tobytes(),
        random.getstate(),
    )


OPTIMIZERS = {
    "ours": lambda groups: optim.Adam(groups, lr=1e-3),
    "torch": lambda groups: torch.optim.SGD(groups, lr=1e-2, momentum=0.9, nesterov=True),
    "rate in a tensor": lambda groups: torch.optim.Adam(groups, lr=torch.tensor(0.01)),
    "lists in its state": lambda groups: torch.optim.LBFGS(groups[0]["params"], max_iter=2),
}


@pytest.mark.parametrize(
    ("made", "ending"),
    in_turn(
        [(name, trained) for name in OPTIMIZERS for trained in (True, False)],
        [None, ZeroDivisionError, KeyboardInterrupt],
    ),
)
def test_all_is_as_before_bit_for_bit(made, ending):
    name, trained = made
    torch.manual_seed(0)
    model = Net()
    weights = [each for each in model.parameters() if each.requires_grad]
    optimizer = OPTIMIZERS[name]([{"params": weights[:3]}, {"params": weights[3:], "lr": 0.1}])
    x, y = torch.randn(16, 4), torch.randn(16, 1)

    def closure():
        optimizer.zero_grad(set_to_none=random.random() < 0.5)
        loss = (model(x) - y).square().mean()
        loss.backward()
        return loss

    if trained:
        optimizer.step(closure)
        model.lazy = None
    model.body[2].eval()
    calls = []

    def step():
        calls.append(1)
        loss = optimizer.step(closure)
        optimizer.param_groups[0]["momentum"] = 0.1
        optimizer.defaults["lr"] = 3.0
        if ending and len(calls) == 60:
            raise ending
        return loss

    before = everything(model, optimizer)
    scheduled = copy.deepcopy(optimizer.state_dict())
    if ending:
        with pytest.raises(ending):
            lr_range_test(step, optimizer, model)
    else:
        lr_range_test(step, optimizer, model)
    assert len(calls) >= 50
    after = everything(model, optimizer)
    if name == "lists in its state":  # their own tensors may be others, but not their values
        assert str(optimizer.state_dict()) == str(scheduled)
        before, after = before[:5] + before[6:], after[:5] + after[6:]
    assert after == before


def test_others_are_restored_and_a_training_goes_on_as_if_it_had_not_been():
    def train(with_test):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 1))
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=2)
        average = torch.optim.swa_utils.AveragedModel(model)

        def step():
            optimizer.zero_grad()
            loss = model(torch.randn(8, 3)).square().mean()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            average.update_parameters(model)
            return loss.item()

        for _ in range(3):
            step()
        if with_test:
            lr_range_test(step, optimizer, model, others=[scaler, average])
        losses = [step() for _ in range(5)]
        return losses, scaler.state_dict(), bits(average.state_dict())

    plain, tested = train(False), train(True)
    assert tested[:2] == plain[:2]
    assert [v[1] for _, v in tested[2]] == [v[1] for _, v in plain[2]]


def noise(kind, steps=200):
    draw = {
        "normal": lambda: random.gauss(2, 0.1),
        "exponential": lambda: random.expovariate(1),
        "Cauchy": lambda: math.tan(math.pi * (random.random() - 0.5)),
        "constant": lambda: 2.3,
    }[kind]
    return [draw() for _ in range(steps)]


def of_losses(losses, **options):
    model, left = Quadratic(1.0), iter(losses)
    optimizer = optim.SGD([model.x], lr=1.0)
    return lr_range_test(lambda: next(left), optimizer, model, **options)


@pytest.mark.parametrize("kind", ["normal", "exponential", "Cauchy", "constant"])
def test_noise_gives_no_suggestion(kind):
    random.seed(0)
    for _ in range(20):
        found = of_losses(noise(kind))
        assert found.suggestion is None
        assert "did not fall" in found.reason or "lowest rates" in found.reason


@pytest.mark.parametrize("spread", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("sign", [0.0, -7.0])
def test_a_fall_is_found_in_noise(spread, sign):
    """The loss is least near 0.02; single losses far off do not matter."""
    random.seed(0)
    rates = [1e-7 * 10 ** (8 * k / 199) for k in range(200)]
    for _ in range(10):
        losses = [
            (2.3 / (1 + r / 1e-3) + (r / 0.05) ** 2) * math.exp(random.gauss(0, spread)) + sign
            for r in rates
        ]
        losses[3] = losses[130] = 50.0
        found = of_losses(losses)
        assert 0.002 <= found.suggestion <= 0.02


@pytest.mark.parametrize(("back", "divisor"), [(136, 10), (199, 3)])
def test_the_suggestion_is_a_third_of_the_best_rate_or_a_tenth_of_that_which_undoes_it(
    back, divisor
):
    losses = np.interp(range(200), [0, 60, 130, back], [2.0, 2.0, 1.0, 2.0]).tolist()
    losses[0] = 9.0  # a single one, which does not say where the loss began
    found = of_losses(losses)
    least = found.smoothed.index(min(found.smoothed))
    assert 126 <= least <= 130
    chosen = found.rates[back if divisor == 10 else least]
    assert found.suggestion == float(f"{chosen / divisor:.2g}")


def falling(k):
    return 2.0 - k / 200


REASONS = {
    "not finite at once": ([math.nan] * 200, "the loss was nan before the first step"),
    "infinite at once": ([math.inf] * 200, "the loss was inf before the first step"),
    "rises at once": ([10.0**k for k in range(200)], "the lowest rates: begin below 1e-07"),
    "a batch is not finite": ([2.0] * 30 + [math.nan], "not risen: look at the data of step 31"),
    "rises soon": ([2.0] * 9 + [2.0 * 2**k for k in range(191)], "begin below 1e-07"),
    "only rises": ([2.0 + k / 100 for k in range(200)], "did not fall by more than its noise"),
    "falls to the end": ([falling(k) for k in range(200)], "still falling .* go beyond 10"),
    "falls nearly to the end": (
        [falling(k) for k in range(198)] + [1.9] * 2,
        "still falling .* go beyond 10",
    ),
}


@pytest.mark.parametrize("name", REASONS)
def test_without_a_suggestion_the_reason_is_said(name):
    losses, reason = REASONS[name]
    found = of_losses(losses)
    assert found.suggestion is None
    assert re.search(reason, found.reason)
    assert found.words().startswith("No suggestion: ")


def test_it_stops_where_the_loss_is_not_finite_or_far_above_the_first():
    nan = of_losses([falling(k) for k in range(150)] + [math.nan] * 50)
    assert len(nan.losses) == 151
    assert "nan" in nan.ended
    assert nan.suggestion is not None
    assert "where the loss was nan" in nan.reason
    far = of_losses([falling(k) for k in range(150)] + [9.0] * 50)
    assert 151 < len(far.losses) < 160
    assert "9" in far.ended
    assert far.suggestion is not None
    spike = of_losses([falling(k) if k != 120 else 1e6 for k in range(200)])
    assert len(spike.losses) == 200


MISTAKES = {
    "no loss": (lambda _: None, {}, TypeError, "must return its loss"),
    "many losses": (lambda _: torch.ones(2), {}, TypeError, "must return its loss"),
    "backwards": (lambda _: 1.0, {"lowest": 1.0, "highest": 0.1}, ValueError, "lowest < highest"),
    "from zero": (lambda _: 1.0, {"lowest": 0.0}, ValueError, "lowest < highest"),
    "few": (lambda _: 1.0, {"steps": 49}, ValueError, "at least 50"),
    "a schedule": (
        lambda optimizer: optimizer.param_groups[0].update(lr=0.1) or 1.0,
        {},
        ValueError,
        "leave schedulers out",
    ),
}


@pytest.mark.parametrize("rate", [-1.0, math.nan, math.inf])
def test_a_group_whose_rate_is_none_is_refused(rate):
    model = Quadratic(1.0)
    optimizer = optim.SGD([model.x], lr=0.25)
    optimizer.param_groups[0]["lr"] = rate
    with pytest.raises(ValueError, match="at least 0 and finite"):
        found_for(model, optimizer)


@pytest.mark.parametrize("name", MISTAKES)
def test_what_cannot_be_is_refused(name):
    returned, options, error, message = MISTAKES[name]
    model = Quadratic(1.0)
    optimizer = optim.SGD([model.x], lr=0.25)
    with pytest.raises(error, match=message):
        lr_range_test(lambda: returned(optimizer), optimizer, model, **options)
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_the_outcome_as_a_figure_and_as_json():
    found = of_losses([falling(k) for k in range(150)] + [math.nan] * 50)
    read = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert read["suggestion"] == found.suggestion
    assert read["losses"][-1] is None
    for outcome in (found, *(of_losses(losses) for losses, _ in REASONS.values())):
        root = ElementTree.fromstring(outcome.svg("a < b & c"))
        texts = [each.text for each in root.iter() if each.tag.endswith("}text")]
        assert "learning rate (logarithmic)" in texts
        assert "training loss" in texts
        assert "a < b & c" in texts
        marks = [each for each in root.iter() if each.get("class") == "mark"]
        assert len(marks) == (outcome.suggestion is not None)
        assert not marks or f"{outcome.suggestion:g}" in texts
        assert not re.search("nan|inf", "".join(each.get("d", "") for each in root.iter()))


@pytest.mark.parametrize(
    "losses",
    [
        [1e-14 * (1 - k / 300) for k in range(200)],
        [1e3 + 1e-2 * (1 - k / 300) for k in range(200)],
        [1e16 - 2.0 * k for k in range(200)],
        [5e-324 * (400 - k) for k in range(200)],
        [1.7e308] * 100 + [-1.7e308] * 100,
    ],
    ids=["tiny", "all alike", "alike to the last bit", "the least", "the largest"],
)
def test_the_figure_names_its_ticks_apart_whatever_the_losses_are(losses):
    root = ElementTree.fromstring(of_losses(losses).svg())
    found = [each.text for each in root.iter() if each.get("text-anchor") == "end"]
    assert 2 <= len(found) == len({*found}) <= 9


def test_in_the_figure_the_fall_takes_most_of_the_height_and_decades_have_room():
    losses = [falling(k) for k in range(150)] + [1e9] * 50
    root = ElementTree.fromstring(of_losses(losses, lowest=1e-15, highest=1e5).svg())
    _, curve = (each.get("d") for each in root.iter() if each.get("class") == "line")
    heights = [float(point.split()[1]) for point in curve[1:].split("L")]
    assert max(heights) - heights[0] > 100
    names = [each for each in root.iter() if re.fullmatch(r"0\.\d*1|1e-?\d+|10*", each.text or "")]
    places = sorted(float(each.get("x")) for each in names if each.get("text-anchor") == "middle")
    assert len(places) > 5
    assert np.diff(places).min() > 40
