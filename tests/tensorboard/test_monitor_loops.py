"""A monitor works in every kind of loop, with every kind of model."""

import copy
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.tensorboard.trainings import UNDRAWN, Layers, batches, mlp, with_batchnorm
from tests.thinned import only
from torchopt_ref.tensorboard import Monitor


def test_gradient_accumulation_counts_all_samples_and_the_first_micro_batch(tmp_path, read):
    model = mlp(hidden=(20,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    outputs = []
    model[1].register_forward_hook(lambda module, inputs, output: outputs.append(output.mean()))
    with Monitor(model, optimizer, tmp_path, every=4) as monitor:
        for i, (x, y) in enumerate(batches(32, size=16)):
            loss = nn.functional.cross_entropy(model(x), y) / 4
            loss.backward()
            monitor.log(loss=loss * 4)
            if i % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
    run = read(tmp_path)
    assert run.steps("loss") == [1, 2, 4, 8]
    assert not [tag for tag in run.scalars if "#" in tag]
    means = run["activation mean/1 ReLU"]
    for step in (1, 2, 4, 8):
        assert means[step] == pytest.approx(outputs[4 * (step - 1)].item())
    assert set(run["gradient carried over"].values()) == {0.0}
    whole = run["step time/whole step [ms]"][8]
    assert run["speed/samples per second"][8] == pytest.approx(64e3 / whole)


def gan():
    generator = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 784))
    discriminator = nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 1))
    return generator, discriminator


@pytest.mark.parametrize("order", ["gd", "dg"])
def test_two_optimizers_of_a_gan(order, tmp_path, read):
    """The discriminator steps twice for each step of the generator, first.

    Points stand at the steps of the optimizer that was named first.
    """
    parts = dict(zip("gd", gan(), strict=True))
    optimizers = {
        "g": torch.optim.Adam(parts["g"].parameters(), lr=1e-3),
        "d": torch.optim.SGD(parts["d"].parameters(), lr=1e-2),
    }
    bce = nn.functional.binary_cross_entropy_with_logits
    names = {name: parts[name] for name in order}
    with Monitor(names, {n: optimizers[n] for n in order}, tmp_path, every=3) as monitor:
        for i, (x, _) in enumerate(batches(32)):
            optimizers["d"].zero_grad(set_to_none=False)
            fake = parts["g"](torch.randn(64, 8))
            real_loss = bce(parts["d"](x), torch.ones(64, 1))
            (real_loss + bce(parts["d"](fake.detach()), torch.zeros(64, 1))).backward()
            optimizers["d"].step()
            if i % 2:
                optimizers["g"].zero_grad()
                loss = bce(parts["d"](parts["g"](torch.randn(64, 8))), torch.ones(64, 1))
                loss.backward()
                optimizers["g"].step()
                monitor.log(**{"loss/generator": loss})
    run = read(tmp_path)
    recorded_g, recorded_d = [1, 2, *range(3, 16, 3)], [1, 2, *range(3, 32, 3)]
    if order == "gd":
        recorded_d = [max((step - 1) // 2, 1) for step in recorded_d]
    else:
        recorded_g = [2 * step for step in recorded_g]
    assert run.steps("update norm/[all of g]") == recorded_g
    assert run.steps("update norm/[all of d]") == recorded_d
    assert run.steps("gradient cosine/[all of d]")[-1] == recorded_d[-1]
    assert set(run["learning rate/group 0 of g"].values()) == {np.float32(1e-3)}
    layers = {tag.partition("/")[2] for tag in run.scalars if tag.startswith("weight norm/")}
    assert layers == {
        *("g.0 Linear", "g.2 Linear", "d.0 Linear", "d.2 Linear", "[all of g]", "[all of d]")
    }
    assert set(run["gradient carried over"].values()) == {0.0}
    assert "loss/generator" in run.scalars
    assert run["parity drift/NumPy median of d"][recorded_d[-1]] < 10


ACTIVATIONS = ("activation", "dead units", "saturated")


class Checkpointed(nn.Module):
    """Layers that are run again in the backward pass, one, in a shared place, or the whole."""

    def __init__(self, reentrant, whole):
        super().__init__()
        self.reentrant, self.whole = reentrant, whole
        self.first = nn.Linear(784, 20)
        self.block = nn.Sequential(nn.ReLU(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 20))
        self.last = nn.Sequential(nn.ReLU(), nn.Linear(20, 10))

    def forward(self, x):
        if self.reentrant is None:
            return self.last(self.block(self.block(self.first(x))))
        run = partial(checkpoint, use_reentrant=self.reentrant)
        x = run(self.block, run(self.block, self.first(x)))
        return run(self.last, x) if self.whole else self.last(x)


@pytest.mark.parametrize("whole", only([True], [False, True]))
def test_activation_checkpointing_counts_each_layer_and_sample_once(whole, tmp_path, read):
    """Also in micro-batches, of which the first is measured."""
    found = {}
    for reentrant in (None, False, True):
        torch.manual_seed(0)
        model = Checkpointed(reentrant, whole)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        folder = tmp_path / str(reentrant)
        with Monitor(model, optimizer, folder, every=1, record=UNDRAWN) as monitor:
            for i, (x, y) in enumerate(batches(6, size=16)):
                output = model(x)
                loss = nn.functional.cross_entropy(output, y)
                loss.backward()
                monitor.log(loss=loss, output=output, target=y)
                if i % 2:
                    optimizer.step()
                    optimizer.zero_grad()
        run = read(folder)
        found[reentrant] = {
            tag: run[tag]
            for tag in run.scalars
            if not tag.startswith(("step time", "speed", "memory", "parity drift"))
        }
    plain = found[None]
    assert {tag for tag in plain if "#" in tag and tag.startswith("activation std")} == {
        "activation std/block.0 ReLU #2",
        "activation std/block.2 Tanh #2",
    }
    # Sums in another order differ by about 1e-7, of which the drift makes whole ULPs.
    assert found[False].keys() == plain.keys()
    for tag in plain:
        assert found[False][tag] == pytest.approx(plain[tag], rel=1e-5), tag
    # The block's second place is run again before its first.
    shared = {tag for tag in plain if "/block." in tag and tag.startswith(ACTIVATIONS)}
    assert found[True].keys() == plain.keys()
    for tag in plain.keys() - shared:
        assert found[True][tag] == pytest.approx(plain[tag], rel=1e-5), tag
    for tag in shared:
        other = tag.removesuffix(" #2") if tag.endswith(" #2") else f"{tag} #2"
        assert found[True][other] == pytest.approx(plain[tag], rel=1e-5), tag


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_whole_model_under_activation_checkpointing(reentrant, tmp_path, read):
    torch.manual_seed(0)
    model = mlp(hidden=(20, 20))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, every=4):
        for x, y in batches(8, size=16):
            output = checkpoint(model, x.requires_grad_(), use_reentrant=reentrant)
            nn.functional.cross_entropy(output, y).backward()
            optimizer.step()
            optimizer.zero_grad()
    run = read(tmp_path)
    assert not [tag for tag in run.scalars if "#" in tag]
    assert run.steps("activation gradient std/1 ReLU") == [1, 2, 4, 8]
    whole = run["step time/whole step [ms]"]
    assert run["speed/samples per second"][8] == pytest.approx(16e3 / whole[8])


def test_frozen_and_unused_layers_stand_still(tmp_path, read):
    model = nn.ModuleDict({"used": mlp(hidden=(20,)), "unused": nn.Linear(3, 3)})
    model["used"][0].requires_grad_(False)
    model["forgotten"] = nn.Linear(3, 3)
    of_optimizer = [*model["used"].parameters(), *model["unused"].parameters()]
    optimizer = torch.optim.AdamW(of_optimizer)
    with Monitor(model, optimizer, tmp_path, every=4):
        for x, y in batches(8):
            nn.functional.cross_entropy(model["used"](x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    run = read(tmp_path)
    assert set(run["update to weight/unused"].values()) == {0.0}
    assert "gradient norm/unused" not in run.scalars
    assert min(run["update to weight/used.3 Linear"].values()) > 0
    for name in ("used.0 Linear", "forgotten"):
        assert f"update to weight/{name}" not in run.scalars
    assert "**layers in no param group**: forgotten" in run.text("diagnosis")


def test_a_layer_that_is_used_now_and_then_is_compared_when_it_can_be(tmp_path, read):
    """Its gradient in step 4 has none before it."""
    model = nn.ModuleDict({"always": nn.Linear(784, 10), "even": nn.Linear(784, 10)})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, every=4):
        for step, (x, y) in enumerate(batches(4), start=1):
            output = model["always"](x)
            if step % 2 == 0:
                output = output + model["even"](x)
            nn.functional.cross_entropy(output, y).backward()
            optimizer.step()
            optimizer.zero_grad()
    run = read(tmp_path)
    assert "gradient cosine/even" not in run.scalars
    assert run["gradient cosine/[all]"] == run["gradient cosine/always"]
    assert run["update to weight/even"][1] == 0 < run["update to weight/even"][4]


def test_a_shared_layer_is_one_layer(tmp_path, read):
    shared = nn.Linear(20, 20)
    model = nn.Sequential(nn.Linear(784, 20), shared, nn.ReLU(), shared, nn.Linear(20, 10))
    model[4].weight.data = model[4].weight.data
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    relu = model[2]
    model.insert(4, relu)
    with Monitor(model, optimizer, tmp_path, every=4):
        for x, y in batches(4):
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    run = read(tmp_path)
    norms = {tag for tag in run.scalars if tag.startswith("weight norm/") and "[" not in tag}
    assert norms == {f"weight norm/{each}" for each in ("0 Linear", "1 Linear", "5 Linear")}
    activations = {tag for tag in run.scalars if tag.startswith("activation mean/")}
    assert activations == {"activation mean/2 ReLU", "activation mean/2 ReLU #2"}


def test_tied_weights_belong_to_the_first_layer(tmp_path, read):
    embed, out = nn.Embedding(20, 8), nn.Linear(8, 20, bias=False)
    out.weight = embed.weight
    model = nn.Sequential(embed, nn.Flatten(), nn.Linear(24, 8), out)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path):
        model(torch.randint(20, (4, 3))).sum().backward()
        optimizer.step()
    tags = {tag for tag in read(tmp_path).scalars if tag.startswith("weight norm/")}
    assert tags == {f"weight norm/{name}" for name in ("0 Embedding", "2 Linear", "[all]")}


def test_three_thousand_tensors_do_not_make_three_thousand_curves(tmp_path, read):
    def block():
        parts = (nn.Linear(2, 2), nn.ReLU(), nn.BatchNorm1d(2), nn.Dropout(0.1), nn.Linear(2, 2))
        return nn.Sequential(*parts, *(nn.Linear(2, 2) for _ in range(9)))

    model = nn.Sequential(*(nn.Sequential(block(), block()) for _ in range(62)))
    assert len(list(model.parameters())) == 2976
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, curves=70):
        model(torch.randn(4, 2)).sum().backward()
        optimizer.step()
    run = read(tmp_path)
    for quantity in ("activation mean", "batch norm mean shift", "dropout keep rate"):
        found = [tag for tag in run.scalars if tag.startswith(f"{quantity}/") and "[" not in tag]
        assert len(found) == 70, quantity
        assert found[0].startswith(f"{quantity}/0.0.")
        assert found[-1].startswith(f"{quantity}/61.1.")
    layers = [tag for tag in run.scalars if tag.startswith("update norm/") and "[" not in tag]
    assert layers == [f"update norm/{i}" for i in range(62)]
    assert len(run.scalars) < 1000


@pytest.mark.parametrize("curves", [2, 50])
def test_a_flat_model_keeps_evenly_spaced_curves(curves, tmp_path, read):
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(101)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, curves=curves, record=["updates"]):
        model(torch.randn(4, 2)).sum().backward()
        optimizer.step()
    tags = [tag for tag in read(tmp_path).scalars if tag.startswith("update norm/")]
    assert len(tags) == curves + 1
    assert "update norm/0 Linear" in tags
    assert "update norm/100 Linear" in tags


@pytest.mark.parametrize("fused", [False, True])
def test_amp_with_a_gradient_scaler(fused, tmp_path, read):
    """The gradients' norms are those without the scale; a skipped step is no step, no finding."""
    torch.manual_seed(0)
    model = mlp(hidden=(20,))
    optimizer = torch.optim.AdamW(model.parameters(), fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=1000)
    taken = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with Monitor(model, optimizer, tmp_path, every=1) as monitor:
            for x, y in batches(12):
                optimizer.zero_grad()
                with torch.autocast("cpu", torch.bfloat16):
                    loss = nn.functional.cross_entropy(model(x), y)
                before = [p.detach().clone() for p in model.parameters()]
                scaler.scale(16 * loss).backward()
                scale = scaler.get_scale()
                grads = [p.grad.detach() / scale for p in model.parameters()]
                scaler.step(optimizer)
                scaler.update()
                monitor.log(loss=loss)
                pairs = zip(before, model.parameters(), strict=True)
                if any(not torch.equal(a, b) for a, b in pairs):
                    taken.append(torch.stack([g.norm() for g in grads]).norm().item())
    run = read(tmp_path)
    assert 0 < len(taken) < 12
    norms = [value for value in run["gradient norm/[all]"].values() if np.isfinite(value)]
    assert norms[-len(taken) :] == pytest.approx(taken, rel=1e-4)
    assert not run.has_text("not finite")


def test_low_precision_parameters(tmp_path, read):
    model = mlp(hidden=(20,)).bfloat16()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, every=2):
        for x, y in batches(4):
            before = [p.detach().float() for p in model.parameters()]
            nn.functional.cross_entropy(model(x.bfloat16()).float(), y).backward()
            optimizer.step()
            optimizer.zero_grad()
            after = [p.detach().float() for p in model.parameters()]
    updates = torch.cat([(a - b).ravel() for a, b in zip(before, after, strict=True)])
    run = read(tmp_path)
    assert run["update norm/[all]"][4] == pytest.approx(updates.norm().item(), rel=1e-5)
    assert "activation std/1 ReLU" in run.scalars


@pytest.mark.parametrize("how", ["function", "method"])
def test_under_compile_layers_are_left_alone_with_a_note(how, tmp_path, read):
    torch._dynamo.reset()
    model = compiled = Layers(*mlp(hidden=(20,)))
    if how == "method":
        model.compile(backend="eager")
    else:
        compiled = torch.compile(model, backend="eager")
    optimizer = torch.optim.Adam(model.parameters())
    torch._dynamo.utils.counters.clear()
    with Monitor(compiled, optimizer, tmp_path, every=2) as monitor:
        for x, y in batches(6):
            loss = nn.functional.cross_entropy(compiled(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]
    run = read(tmp_path)
    assert "The model is compiled" in run.text("notes")
    assert not [tag for tag in run.scalars if tag.startswith("activation")]
    assert run.steps("update to weight/0 Linear") == [1, 2, 4, 6]
    assert run.steps("gradient cosine/0 Linear") == [2, 4, 6]
    assert run.steps("loss") == [1, 2, 4, 6]


def test_compiled_functions_around_the_model_and_the_step(tmp_path, read):
    model = mlp(hidden=(20,))
    optimizer = torch.optim.Adam(model.parameters())
    torch._dynamo.utils.counters.clear()

    @torch.compile(backend="eager")
    def loss_of(x, y):
        return nn.functional.cross_entropy(model(x), y)

    @torch.compile(backend="eager")
    def step():
        optimizer.step()

    with Monitor(model, optimizer, tmp_path, every=2) as monitor:
        for x, y in batches(6):
            loss = loss_of(x, y)
            loss.backward()
            step()
            optimizer.zero_grad()
            monitor.log(loss=loss)
    run = read(tmp_path)
    assert run.text("notes").count("no activation layer was seen") == 1
    assert not [tag for tag in run.scalars if tag.startswith("activation")]
    for tag in ("loss", "update to weight/0 Linear", "gradient norm/[all]"):
        assert run.steps(tag) == [1, 2, 4, 6]


def test_a_step_with_a_closure(tmp_path, read):
    model = mlp(hidden=(20,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    norms = []
    with Monitor(model, optimizer, tmp_path, every=2) as monitor:
        for x, y in batches(6):

            def closure(x=x, y=y):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x), y)
                loss.backward()
                monitor.log(loss=loss)
                return loss

            optimizer.step(closure)
            norms.append(torch.cat([p.grad.ravel() for p in model.parameters()]).norm().item())
    run = read(tmp_path)
    assert run.steps("loss") == [1, 2, 4, 6]
    assert run["gradient norm/[all]"][6] == pytest.approx(norms[5])
    assert "gradient cosine/[all]" not in run.scalars
    assert "activation mean/1 ReLU" in run.scalars
    assert run["parity drift/NumPy median"][6] < 10


def test_lbfgs(tmp_path, read):
    model = nn.Linear(784, 10)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
    with Monitor(model, optimizer, tmp_path, every=2):
        for x, y in batches(2):

            def closure(x=x, y=y):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x), y)
                loss.backward()
                return loss

            optimizer.step(closure)
    assert read(tmp_path).steps("update norm/Linear") == [1, 2]


def test_evaluation_is_not_seen(tmp_path, read):
    torch.manual_seed(0)
    outcomes = []
    model = with_batchnorm()
    start = copy.deepcopy(model.state_dict())
    for evaluate in (False, True):
        model.load_state_dict(start)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with Monitor(model, optimizer, tmp_path / str(evaluate), every=3) as monitor:
            for x, y in batches(6):
                loss = nn.functional.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                if evaluate:
                    model.eval()
                    with torch.no_grad():
                        model(x * 100)
                    model.train()
                monitor.log(loss=loss)
        run = read(tmp_path / str(evaluate))
        timed = ("step time", "speed", "memory")
        outcomes.append({t: run[t] for t in run.scalars if not t.startswith(timed)})
    assert outcomes[0] == outcomes[1]


def test_nothing_is_recorded_of_functional_activations_but_a_note(tmp_path, read):
    model = nn.Sequential(nn.Linear(784, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path):
        model(torch.ones(2, 784)).relu().sum().backward()
        optimizer.step()
    assert "no activation layers" in read(tmp_path).text("notes")


def test_embedding_with_sparse_gradients(tmp_path, read):
    model = nn.Sequential(nn.Embedding(50, 8, sparse=True), nn.Flatten(), nn.Linear(24, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, every=2):
        for _ in range(4):
            model(torch.randint(50, (16, 3))).square().sum().backward()
            norm = model[0].weight.grad.to_dense().norm().item()
            optimizer.step()
            optimizer.zero_grad()
    run = read(tmp_path)
    assert run["gradient norm/0 Embedding"][4] == pytest.approx(norm)
    assert "no dense gradient" in run.text("notes")


def test_complex_parameters(tmp_path, read):
    weight = nn.Parameter(torch.randn(4, 4, dtype=torch.complex64))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    with Monitor(nn.ReLU(), optimizer, tmp_path, every=2):
        for _ in range(4):
            (weight.abs() ** 2).sum().backward()
            norm = torch.linalg.vector_norm(weight.grad).item()
            optimizer.step()
            optimizer.zero_grad()
    run = read(tmp_path)
    assert run["gradient norm/[not in the model]"][4] == pytest.approx(norm)
    assert run["gradient cosine/[all]"][4] == pytest.approx(1)
