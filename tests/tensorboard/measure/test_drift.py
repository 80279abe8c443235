"""How far an optimizer is from the NumPy reference while it trains."""

import pytest
import torch
from torch import nn

import torchopt_ref.nn
import torchopt_ref.optim
from tests.tensorboard.trainings import RECORDED, batches, mlp, watched_by_hand
from torchopt_ref.sides import BY_NAME, KNOWN
from torchopt_ref.tensorboard import Monitor


def test_drift_is_0_for_our_optimizers(tmp_path, read):
    for known in KNOWN:
        model = mlp(hidden=(20,))
        folder = tmp_path / known.name
        optimizer = known.ours(model.parameters())
        watched_by_hand(model, optimizer, folder, steps=10, record=["drift"])
        run = read(folder)
        assert run["parity drift/NumPy largest"] == dict.fromkeys(RECORDED[:5], 0), folder
        assert run["parity drift/float64 largest"][10] > 0
        assert run["parity drift/float64 median"][10] < 1e4


HOSTILE = [
    ("keras.AdamW", {"amsgrad": True, "weight_decay": 0.1}),
    ("keras.SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("keras.RMSprop", {"centered": True, "momentum": 0.9}),
    ("optax.RMSprop", {"eps_in_sqrt": False, "initial_scale": 1.0, "bias_correction": True}),
    ("optax.AdamW", {"nesterov": True, "x64": True, "eps_root": 1e-8}),
    ("optax.Adagrad", {}),
    ("AdamW", {}),
]


@pytest.mark.parametrize(("name", "options"), HOSTILE)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_drift_is_0_with_every_option_in_each_precision(name, options, dtype, tmp_path, read):
    """Groups of two weight decays and two precisions, and a learning rate that changes."""
    torch.manual_seed(0)
    first, second = (torch.nn.Parameter(torch.randn(5, 5).to(dtype)) for _ in range(2))
    third = torch.nn.Parameter(torch.randn(5))
    groups = [{"params": [first]}, {"params": [second, third], "lr": 0.1}]
    if "weight_decay" in options:
        groups[1]["weight_decay"] = 0.0
    optimizer = BY_NAME[name].ours(groups, lr=0.03, **options)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    model = nn.ParameterList([first, second, third])
    with Monitor(model, optimizer, tmp_path, every=4, record=["drift"]):
        for _ in range(8):
            for param in model:
                param.grad = torch.randn_like(param) * 10 ** (3 * torch.randn_like(param))
            optimizer.step()
            scheduler.step()
    run = read(tmp_path)
    assert {*run["parity drift/NumPy largest"].values()} == {0}
    assert run["parity drift/float64 largest"][8] > 0


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "RMSprop", "Adam", "AdamW"])
def test_drift_of_torchs_optimizers_is_small(name, tmp_path, read):
    model = mlp(hidden=(20,))
    options = {"momentum": 0.9, "nesterov": True} if name == "SGD" else {}
    optimizer = getattr(torch.optim, name)(
        model.parameters(), lr=0.01, weight_decay=0.01, **options
    )
    watched_by_hand(model, optimizer, tmp_path, record=["drift"])
    assert 0 <= read(tmp_path)["parity drift/NumPy median"][30] < 100


def test_drift_sees_another_learning_rate(tmp_path, read):
    """Parameters nudged after each step are taken over; a nudge inside of the step is drift."""

    for where in ("between", "inside"):
        model = mlp(hidden=(20,))
        optimizer = torchopt_ref.optim.SGD(model.parameters(), lr=0.1)

        def nudge(*_, model=model):
            with torch.no_grad():
                model[0].weight.mul_(1.0001)

        if where == "inside":
            optimizer.register_step_post_hook(nudge)
        with Monitor(model, optimizer, tmp_path / where, every=10, record=["drift"]):
            for x, y in batches(20):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
                if where == "between":
                    nudge()
    assert read(tmp_path / "between")["parity drift/NumPy largest"][20] == 0
    assert read(tmp_path / "inside")["parity drift/NumPy largest"][20] > 100


@pytest.mark.parametrize(("dtype", "bits"), [(torch.bfloat16, torch.int16), (torch.float64, int)])
def test_drift_counts_values_of_the_parameters_precision(dtype, bits, tmp_path, read):
    param = nn.Parameter(torch.ones(5, dtype=dtype))
    param.grad = torch.zeros_like(param)
    optimizer = torchopt_ref.optim.SGD([param])
    optimizer.register_step_post_hook(lambda *_: param.data.view(bits).add_(1))
    with Monitor(nn.ParameterList([param]), optimizer, tmp_path, every=4, record=["drift"]):
        for _ in range(8):
            optimizer.step()
    # The reference repeats the recorded step and the two before it.
    assert read(tmp_path)["parity drift/NumPy largest"] == {1: 1, 2: 1, 4: 2, 8: 3}


@pytest.mark.parametrize("layout", [torch.clone, lambda data: data.t().contiguous().t()])
def test_parameters_may_move_between_steps(layout, tmp_path, read):
    model = mlp(hidden=(20,))
    optimizer = torchopt_ref.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, every=10, record=["drift"]):
        for x, y in batches(20):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            model[0].weight.data = layout(model[0].weight.data)
    assert read(tmp_path)["parity drift/NumPy largest"][20] == 0


def test_drift_goes_on_from_an_optimizers_state(tmp_path, read):
    model = mlp(hidden=(20,))
    optimizer = torchopt_ref.optim.Adam(model.parameters())
    watched_by_hand(model, optimizer, tmp_path / "first", steps=7)
    watched_by_hand(model, optimizer, tmp_path / "second", record=["drift"])
    assert read(tmp_path / "second")["parity drift/NumPy largest"][30] == 0


def test_an_optimizer_without_a_reference_has_no_drift_but_a_note(tmp_path, read):
    model = mlp(hidden=(20,))
    watched_by_hand(model, torch.optim.Adamax(model.parameters()), tmp_path)
    run = read(tmp_path)
    assert not [tag for tag in run.scalars if "drift" in tag]
    assert "Adamax has no NumPy reference" in run.text("notes")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_a_parameter_whose_gradients_come_later(dtype, tmp_path, read):
    """Without slots it is omitted; with fewer steps than the first, too."""
    first, second = (nn.Parameter(torch.randn(5, dtype=dtype)) for _ in range(2))
    optimizer = torchopt_ref.optim.Adam([first, second])
    model = nn.ParameterList([first, second])
    with Monitor(model, optimizer, tmp_path, every=4, record=["drift"]):
        for step in range(1, 13):
            first.grad = torch.randn(5, dtype=dtype)
            second.grad = torch.randn(5, dtype=dtype) if step > 5 else None
            optimizer.step()
    run = read(tmp_path)
    assert not run.has_text("notes")
    assert run["parity drift/NumPy largest"] == {1: 0, 2: 0, 4: 0, 8: 0, 12: 0}
