"""What goes into a model, what comes out of it and what is trained, as computed by hand."""

import pytest
import torch
from torch import nn

from tests.tensorboard.trainings import batches, mlp
from torchopt_ref.tensorboard import Monitor
from torchopt_ref.tensorboard.read.inspection import inspect


def stepped(model, folder, inputs, every=1):
    """A step for each input, of which a tuple has several passes; the outputs."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    outputs = []
    with Monitor(model, optimizer, folder, every=every):
        for given in inputs:
            for x in given if isinstance(given, tuple) else (given,):
                output = model(x)
                outputs.append(output.detach().double().numpy())
                output.square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    return outputs


@pytest.mark.parametrize("shape", [(6,), (5, 6), (5, 3, 6)], ids=str)
def test_the_input_of_the_first_pass(shape, tmp_path, read):
    first, second = 3 * torch.randn(2, *shape) + 7
    stepped(nn.Linear(6, 2), tmp_path, [(first, second), (second, first)])
    run = read(tmp_path)
    for step, x in {1: first, 2: second}.items():
        x = x.double().numpy()
        assert run["model input/mean"][step] == pytest.approx(x.mean(), rel=1e-5)
        assert run["model input/std"][step] == pytest.approx(x.std(), rel=1e-5)
        between = x.std(0).max()
        assert run["model input/std between samples"][step] == pytest.approx(between, rel=1e-5)


def test_samples_that_are_the_same_differ_by_nothing_and_one_sample_from_none(tmp_path, read):
    x = torch.randn(6)
    stepped(nn.Linear(6, 2), tmp_path, [x.expand(4, 6), x[None], x.expand(4, 6) + torch.eye(4, 6)])
    between = read(tmp_path)["model input/std between samples"]
    assert list(between) == [1, 3]
    assert between[1] == 0 < between[3]


def test_what_is_finite_is_not_called_otherwise_because_a_sum_overflows(tmp_path, read):
    """Of squares, here; what float32 cannot hold is drawn as the largest that it can."""
    x = torch.tensor([[1e300, 0], [-1e300, 0]], dtype=torch.float64)
    stepped(nn.Sequential(nn.Hardtanh(), nn.Linear(2, 2).double()), tmp_path, [x])
    run, most = read(tmp_path), torch.finfo(torch.float32).max
    assert run["model input/std"][1] == most
    assert run["model input/std between samples"][1] == most


def test_input_that_is_no_dense_float(tmp_path, read):
    tokens = torch.tensor([[1, 2], [3, 8]])
    stepped(nn.Sequential(nn.Embedding(9, 3), nn.Flatten()), tmp_path / "tokens", [tokens])
    run = read(tmp_path / "tokens")
    assert run["model input/mean"][1] == 3.5
    assert run["model input/std between samples"][1] == 3
    assert inspect(tmp_path / "tokens").history.facts()["floating input"] is False


class Fed(nn.Module):
    """Of another kind of input or output than dense numbers."""

    def __init__(self, takes, gives):
        super().__init__()
        self.takes, self.gives = takes, gives
        self.weight = nn.Parameter(torch.randn(4, 3))

    def forward(self, x):
        return self.gives(self.takes(x) @ self.weight)


DENSE = torch.randn(5, 4)


@pytest.mark.parametrize(
    ("x", "takes", "gives"),
    [
        (DENSE.to_sparse(), torch.Tensor.to_dense, nn.Identity()),
        (DENSE.to_sparse_csr(), torch.Tensor.to_dense, nn.Identity()),
        (
            torch.nested.nested_tensor([DENSE[0], DENSE[1]]),
            lambda x: torch.stack(list(x.unbind())),
            nn.Identity(),
        ),
        (torch.ones(5, 0), lambda x: DENSE, nn.Identity()),
        (torch.ones(0, 4), nn.Identity(), nn.Identity()),
        (DENSE.cfloat().conj(), torch.real, nn.Identity()),
        (DENSE, nn.Identity(), torch.Tensor.to_sparse),
        (DENSE, nn.Identity(), torch.Tensor.cfloat),
        (DENSE > 0, torch.Tensor.float, nn.Identity()),
    ],
    ids=[
        *("sparse", "sparse rows", "nested", "no features", "no samples", "conjugate"),
        *("sparse output", "complex output", "bool"),
    ],
)
def test_whatever_goes_in_or_comes_out_the_monitor_goes_on(x, takes, gives, tmp_path, read):
    model = Fed(takes, gives)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, every=1):
        for _ in range(3):
            output = model(x)
            output = output.to_dense() if output.is_sparse else output
            output.abs().sum().backward()
            optimizer.step()
    assert len(read(tmp_path)["weight norm/[all]"]) == 3


def test_the_share_of_steps_whose_input_is_that_of_the_step_before(tmp_path, read):
    """Of those whose passes are seen: 5 and 11 to 17 are not, so 6 and 18 have none before."""
    batch = dict(enumerate([0, 0, 1, 2, 2, 2, 2, 3, 4, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 6], start=1))
    x = torch.rand(7, 9, 4)
    again = x + 1
    # The second pass of a step, such as of a micro-batch, is not looked at.
    stepped(nn.Linear(4, 2), tmp_path, [(x[each], again[0]) for each in batch.values()], every=10)
    expected = {2: 1.0, 4: 0.0, 8: 1 / 2, 10: 0.0, 20: 1 / 2}
    assert read(tmp_path)["model input/repeated"] == pytest.approx(expected)


def test_a_batch_with_one_other_sample_is_another(tmp_path, read):
    x = torch.rand(1000, 50)
    other = x.clone()
    other[777, 7] += 1
    stepped(nn.Linear(50, 2), tmp_path, [x, other, x[:500], x[:500].clone()])
    assert read(tmp_path)["model input/repeated"] == {2: 0, 3: 0, 4: 1}


def test_a_batch_in_another_order_is_another(tmp_path, read):
    x = torch.arange(60.0).reshape(20, 3)
    other = torch.cat([x[:1], x[1:].flip(0)])
    stepped(nn.Linear(3, 2), tmp_path, [x, other, other])
    assert read(tmp_path)["model input/repeated"] == {2: 0, 3: 1}


@pytest.mark.parametrize("end", [nn.Identity(), nn.ReLU()])
def test_the_output(end, tmp_path, read):
    model = nn.Sequential(nn.Linear(6, 4), end)
    outputs = stepped(model, tmp_path, [(torch.randn(8, 6), torch.randn(8, 6))] * 2)
    run = read(tmp_path)
    for step, y in {1: outputs[0], 2: outputs[2]}.items():
        assert run["model output/smallest"][step] == pytest.approx(y.min(), rel=1e-6)
        assert run["model output/largest"][step] == pytest.approx(y.max(), rel=1e-6)
        assert run["model output/zeros"][step] == (y == 0).mean()
        assert run["model output/is a distribution"][step] == 0
    assert (run["model output/zeros"][1] > 0.2) == isinstance(end, nn.ReLU)


class Negative(nn.Module):
    """Adds up to 1, but is none."""

    def forward(self, x):
        return x.softmax(1) * 2 - 1 / x.shape[1]


@pytest.mark.parametrize(
    ("end", "shape", "expected"),
    [
        (nn.Softmax(1), (5, 6), 1),
        (nn.Softmax(-1), (5, 3, 6), 1),
        (nn.Softmax(1), (5, 3, 6), 1),
        (nn.Softmax(0), (6, 5, 6), 0),
        (nn.LogSoftmax(1), (5, 6), 0),
        (nn.Sigmoid(), (5, 6), 0),
        (nn.Hardsigmoid(), (5, 6), 0),
        (Negative(), (5, 6), 0),
    ],
)
def test_whether_the_output_is_a_distribution(end, shape, expected, tmp_path, read):
    stepped(nn.Sequential(nn.Linear(6, 6), end), tmp_path, [torch.randn(shape)])
    assert read(tmp_path)["model output/is a distribution"] == {1: expected}


def test_the_first_tensor_of_several_outputs_is_looked_at(tmp_path, read):
    class Two(nn.Linear):
        def forward(self, x):
            return {"scores": super().forward(x), "other": x + 100}

    model = Two(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, every=1):
        output = model(x=torch.randn(4, 3))["scores"]
        output.sum().backward()
        optimizer.step()
    run = read(tmp_path)
    assert run["model output/largest"][1] == pytest.approx(output.max().item())
    assert "model input/mean" in run.scalars


def modes(model, folder, read):
    """The curve of a training that leaves training mode in its third step."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    with Monitor(model, optimizer, folder, every=1):
        for step in range(1, 5):
            model.train(step != 3)
            model(torch.randn(8, 4)).sum().backward()
            optimizer.step()
    run = read(folder)
    return run["training mode"] if "training mode" in run.scalars else None


def frozen(norm):
    return norm.requires_grad_(False)


@pytest.mark.parametrize(
    ("layer", "has_modes"),
    [
        (nn.Dropout(0.5), True),
        (nn.Dropout(0.0), False),
        (nn.BatchNorm1d(4), True),
        (nn.BatchNorm1d(4, affine=False), True),
        (frozen(nn.BatchNorm1d(4)), False),
        (nn.BatchNorm1d(4, track_running_stats=False), False),
        (nn.LayerNorm(4), False),
    ],
    ids=lambda value: str(value),
)
def test_training_mode_is_that_of_models_that_have_two(layer, has_modes, tmp_path, read):
    found = modes(nn.Sequential(nn.Linear(4, 4), layer), tmp_path, read)
    assert found == ({1: 1, 2: 1, 3: 0, 4: 1} if has_modes else None)


class Hidden(nn.Module):
    """With layers in a plain list, which torch does not look into."""

    def __init__(self):
        super().__init__()
        self.first, self.rest = nn.Linear(784, 7), [nn.Linear(7, 6), nn.Linear(6, 10)]

    def forward(self, x):
        x = self.first(x)
        for layer in self.rest:
            x = layer(x)
        return x


@pytest.mark.parametrize("given", [False, True])
def test_parameters_that_no_module_and_no_optimizer_has(given, tmp_path):
    model = Hidden()
    extra = [param for layer in model.rest for param in layer.parameters()] if given else []
    optimizer = torch.optim.SGD([*model.parameters(), *extra], lr=0.1)
    with Monitor(model, optimizer, tmp_path, every=1) as monitor:
        for x, y in batches(5):
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)
    seen = inspect(tmp_path)
    outside = seen.history.facts()["parameters outside of the model"]
    assert sorted(outside) == ([] if given else ["10", "10 x 6", "6", "6 x 7"])
    kinds = [each.kind for each in seen.findings]
    assert kinds == ([] if given else ["layers in no param group"])


def test_parameters_that_the_input_was_computed_of_are_not_the_models(tmp_path):
    """Of a head or a critic that alone is watched."""
    encoder, head = nn.Linear(784, 8), nn.Linear(8, 10)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    with Monitor(head, optimizer, tmp_path, every=1):
        for x, y in batches(3):
            nn.functional.cross_entropy(head(encoder(x).relu()), y).backward()
            optimizer.step()
    assert inspect(tmp_path).history.facts()["parameters outside of the model"] == []


def test_what_is_trained_by_two_optimizers(tmp_path):
    first, second = mlp(hidden=(5,)), nn.ModuleDict({"a": nn.Linear(784, 10)})
    second["b"] = nn.Linear(2, 2)
    second["c"] = nn.Linear(2, 2).requires_grad_(False)
    groups = [
        {"params": first[0].parameters(), "lr": 0.5},
        {"params": first[3].parameters(), "maximize": True},
    ]
    optimizers = {
        "one": torch.optim.SGD(groups, lr=0.1, momentum=0.9),
        "two": torch.optim.AdamW(second["a"].parameters(), lr=0.01, eps=1e-6),
    }
    with Monitor({"f": first, "s": second}, optimizers, tmp_path, every=1):
        for x, y in batches(3):
            nn.functional.cross_entropy(first(x) + second["a"](x), y).backward()
            for optimizer in optimizers.values():
                optimizer.step()
                optimizer.zero_grad()
    facts = inspect(tmp_path).history.facts()
    assert facts["layers of each optimizer"] == {
        "one": ["f.0 Linear", "f.3 Linear"],
        "two": ["s.a"],
    }
    assert facts["frozen layers"] == ["s.c"]
    assert facts["layers in no param group"] == ["s.b"]
    assert facts["parameters outside of the model"] == []
    assert facts["floating input"] is True
    found = [
        (each["optimizer"], each["lr"], each["maximize"], each.get("momentum"), each.get("eps"))
        for each in facts["param groups"]
    ]
    assert found == [
        ("SGD", 0.5, False, 0.9, None),
        ("SGD", 0.1, True, 0.9, None),
        ("AdamW", 0.01, False, None, 1e-6),
    ]
    assert facts["param groups"][2]["beta2"] == 0.999


def test_what_is_trained_by_one_optimizer_is_all(tmp_path):
    model = nn.Linear(4, 2)
    stepped(model, tmp_path, [torch.ones(2, 4)])
    assert inspect(tmp_path).history.facts()["layers of each optimizer"] == {"all": ["Linear"]}
