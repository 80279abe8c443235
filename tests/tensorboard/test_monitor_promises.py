"""A monitor changes nothing of a training, leaves no trace, and works in every kind of loop."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from trainings import batches, cnn, mlp, with_batchnorm

import torchopt_ref.nn
import torchopt_ref.optim
from torchopt_ref.errors import UserError
from torchopt_ref.tensorboard import Monitor, NonFiniteError
from torchopt_ref.tensorboard.health import Health
from torchopt_ref.tensorboard.layers import Layers
from torchopt_ref.tensorboard.record import Record

ALL = tuple(Monitor.QUANTITIES)


def everything(model, optimizer):
    """All that a training leaves: parameters, buffers, gradients, slots and random state."""
    found = [*model.state_dict().values(), *(p.grad for p in model.parameters())]
    for state in optimizer.state.values():
        found += [torch.as_tensor(value) for value in state.values()]
    return [tensor.clone() for tensor in found if tensor is not None] + [torch.get_rng_state()]


MODELS = {
    "mlp": mlp,
    "dropout": lambda: mlp(between=lambda: nn.Dropout(0.3)),
    "batchnorm": with_batchnorm,
    "cnn": cnn,
    "in place": lambda: mlp(lambda: nn.ReLU(inplace=True), between=lambda: nn.Dropout(0.1)),
    "ours": lambda: nn.Sequential(
        *(nn.Linear(784, 50), torchopt_ref.nn.BatchNorm1d(50), nn.Tanh()),
        *(torchopt_ref.nn.Dropout(0.2), nn.Linear(50, 10)),
    ),
}
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, foreach=False),
    "fused": lambda p: torch.optim.AdamW(p, fused=True),
    "ours": lambda p: torchopt_ref.optim.Adam(p),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_training_is_bit_for_bit_the_same_with_and_without(name, rule, tmp_path):
    outcomes = []
    for monitored in (False, True):
        torch.manual_seed(0)
        model = MODELS[name]()
        optimizer = OPTIMIZERS[rule](model.parameters())
        monitor = Monitor(model, optimizer, tmp_path, every=7, record=ALL) if monitored else None
        with monitor or warnings.catch_warnings():
            for x, y in batches(100):
                optimizer.zero_grad()
                output = model(x + torch.rand(1))
                loss = nn.functional.cross_entropy(output, y)
                loss.backward()
                optimizer.step()
                if monitor:
                    monitor.log(loss=loss, output=output, target=y)
        outcomes.append(everything(model, optimizer))
    for without, with_it in zip(*outcomes, strict=True):
        assert torch.equal(without, with_it)


def hooks(model, optimizer):
    found = [*optimizer._optimizer_step_pre_hooks, *optimizer._optimizer_step_post_hooks]
    for module in model.modules():
        found += [*module._forward_hooks, *module._forward_pre_hooks, *module._backward_hooks]
    for param in model.parameters():
        found += [*(param._backward_hooks or {}), *(param._post_accumulate_grad_hooks or {})]
    return found


@pytest.mark.parametrize("end", [None, ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("in_the_middle", [False, True])
def test_no_hook_is_left(end, steps, in_the_middle, tmp_path):
    model = cnn()
    optimizer = torch.optim.Adam(model.parameters())

    def loop():
        with Monitor(model, optimizer, tmp_path, every=2) as monitor:
            assert hooks(model, optimizer)
            for x, y in batches(steps):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)
            if in_the_middle:
                model(x if steps else torch.zeros(2, 784))
            if end:
                raise end

    if end:
        with pytest.raises(end):
            loop()
    else:
        loop()
    assert hooks(model, optimizer) == []


def test_between_records_the_layers_have_no_hooks(tmp_path):
    model = cnn()
    optimizer = torch.optim.Adam(model.parameters())
    hooked = []
    with Monitor(model, optimizer, tmp_path, every=5):
        for step, (x, y) in enumerate(batches(12), start=1):
            inner = [m for m in model.modules() if m is not model and m._forward_hooks]
            if inner:
                hooked.append(step)
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert hooked == [1, 2, 4, 5, 10]


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
    """The discriminator steps twice for each step of the generator."""
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
    assert run.steps("update norm/[all of g]") == [1, 2, *range(3, 16, 3)]
    assert run.steps("update norm/[all of d]") == [1, 2, *range(3, 32, 3)]
    assert run.steps("gradient cosine/[all of d]")[-1] == 30
    assert set(run["learning rate/group 0 of g"].values()) == {np.float32(1e-3)}
    layers = {tag.partition("/")[2] for tag in run.scalars if tag.startswith("weight norm/")}
    assert layers == {
        *("g.0 Linear", "g.2 Linear", "d.0 Linear", "d.2 Linear", "[all of g]", "[all of d]")
    }
    assert set(run["gradient carried over"].values()) == {0.0}
    assert "loss/generator" in run.scalars
    assert run["parity drift/NumPy median of d"][30] < 10


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
    for name in ("used.0 Linear", "unused", "forgotten"):
        assert set(run[f"update to weight/{name}"].values()) == {0.0}
    assert min(run["update to weight/used.3 Linear"].values()) > 0


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
    with Monitor(model, optimizer, tmp_path, every=4, curves=70):
        for _ in range(4):
            model(torch.randn(4, 2)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    run = read(tmp_path)
    for quantity in ("activation mean", "batch norm mean shift", "dropout keep rate"):
        found = [tag for tag in run.scalars if tag.startswith(f"{quantity}/") and "[" not in tag]
        assert len(found) == 70, quantity
        assert found[0].startswith(f"{quantity}/0.0.")
        assert found[-1].startswith(f"{quantity}/61.1.")
    layers = [tag for tag in run.scalars if tag.startswith("update norm/") and "[" not in tag]
    assert layers == [f"update norm/{i}" for i in range(62)]
    assert len(run.scalars) < 1000


@pytest.mark.parametrize("curves", [5, 50])
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
    model = mlp(hidden=(20,))
    compiled = model
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
    assert "no activation layer was seen" in run.text("notes")
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


def test_raising_at_the_first_value_that_is_not_finite_leaves_the_parameters(tmp_path, read):
    model = mlp(hidden=(20,))
    optimizer = torch.optim.Adam(model.parameters())

    def loop():
        with Monitor(model, optimizer, tmp_path, nonfinite="raise"):
            for step, (x, y) in enumerate(batches(20), start=1):
                x[3, 5] = torch.nan if step == 13 else 0
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()

    with pytest.raises(NonFiniteError, match=r"step 13: .* input is the cause: 1 of its 50176"):
        loop()
    assert all(param.isfinite().all() for param in model.parameters())
    assert hooks(model, optimizer) == []
    assert "step 13" in read(tmp_path).text("not finite")


class Backward(torch.autograd.Function):
    """The identity, whose gradient is not finite in one step."""

    @staticmethod
    def forward(ctx, x, poisoned):
        ctx.poisoned = poisoned
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return (gradient * torch.inf if ctx.poisoned else gradient), None


def warned(*arguments, forward, steps=6):
    """The warnings of a monitored training; ``forward(step, x)`` is the model's output."""
    model, optimizer, folder = arguments
    with warnings.catch_warnings(record=True) as caught, Monitor(model, optimizer, folder):
        warnings.simplefilter("always")
        for step, (x, y) in enumerate(batches(steps), start=1):
            optimizer.zero_grad()
            nn.functional.cross_entropy(forward(step, x), y).backward()
            optimizer.step()
    return [str(each.message) for each in caught]


def test_a_gradient_born_in_a_backward_pass_is_named_by_the_layer_before_it(tmp_path):
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())

    def forward(step, x):
        return model[6:](Backward.apply(model[:6](x), step == 5))

    assert warned(model, optimizer, tmp_path, forward=forward) == [
        "not finite at step 5: the gradient of layer 3 Linear and of 1 other layer is not finite."
    ]


@pytest.mark.parametrize(("bad_step", "steps"), [(4, 6), (4, 4)])
def test_an_update_that_overflows_is_named_by_its_parameter_and_step(bad_step, steps, tmp_path):
    """By the step after it, or on leaving."""
    model = mlp(hidden=(20,))
    groups = [{"params": model[0].parameters()}, {"params": model[3].parameters()}]
    optimizer = torch.optim.SGD(groups, lr=0.1)

    def forward(step, x):
        optimizer.param_groups[1]["lr"] = torch.inf if step == bad_step else 0.1
        return model(x)

    assert warned(model, optimizer, tmp_path, forward=forward, steps=steps) == [
        "not finite at step 4: a parameter of layer 3 Linear is not finite after the step. "
        "Its gradients looked finite: the update overflowed."
    ]


def test_a_device_that_is_not_waited_for_is_read_at_the_record():
    """As on an accelerator, here on the CPU: the step is exact, the place is what is left of it."""
    model = mlp(hidden=(20,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    written = []
    layers = Layers({"": model}, {"": optimizer}, 50)
    health = Health(layers, "warn", False, lambda *found: written.append(found))
    for step, (x, y) in enumerate(batches(6), start=1):
        x[0, 0] = torch.inf if step == 3 else 0
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        health.check_gradients(optimizer, step)
        optimizer.step()
    assert written == []
    with pytest.warns(RuntimeWarning, match="step 3"):
        health.check_record(Record(6), optimizer)
    text = "step 3: a gradient is not finite; by now a parameter of layer 0 Linear and of 1 other"
    assert written == [(3, f"{text} layer is, too.")]


def test_a_loss_that_is_not_finite_is_seen_even_if_no_step_is_made(tmp_path):
    model = mlp(hidden=(20,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = torch.tensor(torch.nan)
    nan = pytest.warns(RuntimeWarning, match="step 1: the loss is nan")
    with Monitor(model, optimizer, tmp_path) as monitor, nan:
        monitor.log(loss=loss)


def test_a_failure_of_the_monitor_is_one_warning_and_training_goes_on(tmp_path):
    class Odd(nn.ReLU):
        __module__ = "odd.activations"

        def forward(self, x):
            return super().forward(x).as_subclass(Unfriendly)

    class Unfriendly(torch.Tensor):
        def mean(self, *args, **kwargs):
            raise ValueError("no mean today")

    model = nn.Sequential(nn.Linear(4, 4), Odd(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with warnings.catch_warnings(record=True) as caught, Monitor(model, optimizer, tmp_path) as m:
        warnings.simplefilter("always")
        for _ in range(3):
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
            m.log(loss=1.0)
        assert hooks(model, optimizer) == []
    messages = [str(each.message) for each in caught if "monitor" in str(each.message)]
    assert messages == [
        "the monitor stopped at step 0, training goes on: ValueError('no mean today')"
    ]


def test_what_ended_the_training_is_not_hidden_by_what_is_found_on_leaving(tmp_path):
    model = mlp(hidden=(5,))
    optimizer = torch.optim.SGD(model.parameters(), lr=torch.inf)

    def loop(end):
        with Monitor(model, optimizer, tmp_path, nonfinite="raise"):
            for x, y in batches(1):
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
            if end:
                raise end

    with pytest.raises(KeyboardInterrupt):
        loop(KeyboardInterrupt)
    with pytest.raises(NonFiniteError, match="not finite after the step"):
        loop(None)


def test_a_gradient_that_the_sentinels_miss_is_seen_at_the_record(tmp_path):
    """One element of one weight, in a column that is not looked at, in a step that is recorded."""
    model = mlp(hidden=(20,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def poison(gradient):
        gradient[3, 7] = torch.inf
        return gradient

    def forward(step, x):
        if step == 4:
            model[3].weight.register_hook(poison)
        return model(x)

    assert warned(model, optimizer, tmp_path, forward=forward) == [
        "not finite at step 4: the gradient of layer 3 Linear is not finite."
    ]


def test_the_graph_of_a_training_under_autocast(tmp_path, read, capsys):
    """What autocast keeps of the weights would be constants of the trace."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, record=["graph"]):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(torch.ones(2, 4)).sum()
        loss.backward()
        optimizer.step()
    run = read(tmp_path)
    assert run.tags["graph"]
    assert not run.has_text("notes")
    assert capsys.readouterr().out == ""


def test_a_graph_that_cannot_be_traced_is_a_note(tmp_path, read, capsys):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 1)

        def forward(self, *, x):
            return self.linear(x)

    model = Odd()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, record=["graph", "updates"]):
        model(x=torch.ones(2, 4)).sum().backward()
        optimizer.step()
    run = read(tmp_path)
    assert "The graph cannot be traced" in run.text("notes")
    assert capsys.readouterr().out == ""
    assert run.steps("update norm/linear") == [1]


def test_mistakes(tmp_path):
    model = mlp(hidden=(5,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UserError, match="unknown quantity 'activation': did you mean 'activations"):
        Monitor(model, optimizer, tmp_path, record=["activation"])
    with pytest.raises(UserError, match="unknown quantity 'drfit': did you mean 'drift'"):
        Monitor(model, optimizer, tmp_path, record="drfit")
    with pytest.raises(UserError, match="every must be at least 1, not 0"):
        Monitor(model, optimizer, tmp_path, every=0)
    with pytest.raises(UserError, match="did you mean 'raise'"):
        Monitor(model, optimizer, tmp_path, nonfinite="rise")
    with pytest.raises(UserError, match="needs at least one optimizer"):
        Monitor(model, [], tmp_path)
    with pytest.raises(UserError, match="output and target together"):
        Monitor(model, optimizer, tmp_path).log(output=torch.ones(2, 2))
    with pytest.raises(UserError, match="within `with Monitor"):
        Monitor(model, optimizer, tmp_path).log(loss=1.0)
