"""``flat=True`` computes what a for loop computes, whatever happens to the tensors it has moved.

Each scenario is a training that does something between its steps. It runs twice, flat and by
``foreach=False``, and every parameter and slot must be the same to the bit.
"""

import collections
import copy
import io
import itertools
import multiprocessing

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from torchopt_ref import optim


def network():
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3), nn.Tanh(), nn.Linear(3, 2))
    for param in model.parameters():
        param.data = torch.randn(param.shape, generator=generator)
    return model


class Training:
    def __init__(self, cls=optim.AdamW, model=None, **options):
        self.model = network() if model is None else model
        self.optimizer = cls(self.model.parameters(), lr=0.05, **options)
        self.generator = torch.Generator().manual_seed(1)

    def backward(self, part=None, **options):
        model = self.model if part is None else part
        dtype = next(model.parameters()).dtype
        wide = next(model.parameters()).shape[-1]
        x = torch.randn(4, wide, generator=self.generator).to(dtype)
        y = model(x)
        mse_loss(y, torch.ones_like(y)).backward(**options)

    def steps(self, count=3, part=None, **clear):
        for _ in range(count):
            self.optimizer.zero_grad(**clear)
            self.backward(part)
            self.optimizer.step()


SCENARIOS = {}


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


@scenario
def plain(training):
    training.steps(5)


@scenario
def gradients_set_to_zero(training):
    training.steps(5, set_to_none=False)


@scenario
def gradients_kept(training):
    training.steps()
    for _ in range(4):
        training.backward()
        training.optimizer.step()


@scenario
def steps_without_backward(training):
    training.steps()
    training.optimizer.step()
    training.optimizer.step()


@scenario
def gradients_cleared_by_the_model(training):
    training.steps()
    for _ in range(4):
        training.model.zero_grad()
        training.backward()
        training.optimizer.step()


@scenario
def a_layer_without_gradient_for_some_steps(training):
    training.steps(4)
    training.steps(3, part=training.model[:3])
    training.steps(3)
    training.steps(1, part=training.model[:1])
    training.steps(1)


@scenario
def zeroed_gradients_of_an_untouched_layer(training):
    training.steps(4)
    training.optimizer.zero_grad()
    training.backward(training.model[:1])
    training.optimizer.zero_grad(set_to_none=False)
    training.optimizer.step()


@scenario
def a_true_gradient_of_zero(training):
    training.steps(4)
    training.optimizer.zero_grad()
    (0.0 * sum(param.sum() for param in training.model[:3].parameters())).backward()
    training.optimizer.step()


@scenario
def a_frozen_layer(training):
    training.steps(4)
    training.model[0].requires_grad_(False)
    training.steps(4)
    training.model[0].requires_grad_(True)
    training.steps(4)


@scenario
def a_gradient_of_the_users(training):
    training.steps()
    for _ in range(3):
        training.optimizer.zero_grad()
        training.backward()
        for param in training.model.parameters():
            param.grad = param.grad.clamp(-0.01, 0.01)
        training.optimizer.step()


@scenario
def a_gradient_removed(training):
    training.steps()
    training.optimizer.zero_grad()
    training.backward()
    training.model[0].weight.grad = None
    training.optimizer.step()
    training.steps()


@scenario
def a_gradient_with_other_memory(training):
    training.steps()
    for _ in range(2):
        training.optimizer.zero_grad()
        training.backward()
        for param in training.model.parameters():
            param.grad.data = param.grad.data * 0.5
        training.optimizer.step()
    training.steps()


@scenario
def a_gradient_written_by_way_of_its_data(training):
    training.steps()
    training.optimizer.zero_grad()
    for param in training.model.parameters():
        if param.grad is None:
            param.grad = torch.zeros_like(param)
        param.grad.data.view(-1)[-1] = 1.0
    training.optimizer.step()


@scenario
def a_transposed_gradient(training):
    training.steps()
    training.optimizer.zero_grad()
    training.backward()
    for param in training.model.parameters():
        if param.ndim == 2:
            param.grad = param.grad.t().contiguous().t()
    training.optimizer.step()


@scenario
def clipped(training):
    training.steps()
    for _ in range(3):
        training.optimizer.zero_grad()
        training.backward()
        nn.utils.clip_grad_norm_(training.model.parameters(), 0.1)
        training.optimizer.step()


@scenario
def accumulated(training):
    training.steps()
    for _ in range(3):
        training.optimizer.zero_grad()
        for _ in range(4):
            training.backward()
        training.optimizer.step()


@scenario
def scaled(training):
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for _ in range(4):
        training.optimizer.zero_grad()
        y = training.model(torch.ones(3, 5))
        scaler.scale(y.square().mean()).backward()
        scaler.unscale_(training.optimizer)
        scaler.step(training.optimizer)
        scaler.update()


@scenario
def a_graph_of_the_gradients(training):
    training.steps()
    for _ in range(2):
        training.optimizer.zero_grad()
        training.backward(create_graph=True)
        sum(param.grad.square().sum() for param in training.model.parameters()).backward()
        training.optimizer.step()


@scenario
def hooks(training):
    for param in training.model.parameters():
        param.register_hook(lambda grad: grad * 0.5)

    def clip(param):
        param.grad.clamp_(-0.01, 0.01)

    training.model[0].weight.register_post_accumulate_grad_hook(clip)
    training.steps(5)


@scenario
def a_closure(training):
    def closure():
        training.optimizer.zero_grad()
        loss = training.model(torch.ones(2, 5)).square().mean()
        loss.backward()
        return loss

    for _ in range(4):
        training.optimizer.step(closure)


@scenario
def parameters_exchanged(training):
    training.steps()
    kept = [param.detach().clone() for param in training.model.parameters()]
    for param in training.model.parameters():
        param.data = param.data * 0.5
    training.steps(1)
    for param, value in zip(training.model.parameters(), kept, strict=True):
        param.data = value
    training.steps()


@scenario
def parameters_exchanged_between_backward_and_step(training):
    training.steps()
    training.optimizer.zero_grad()
    training.backward()
    for param in training.model.parameters():
        param.data = param.data + 1.0
    training.optimizer.step()
    training.steps()


@scenario
def a_parameter_of_another_shape(training):
    training.steps()
    training.model[0].weight.data = training.model[0].weight.data[:, :4]
    training.optimizer.state[training.model[0].weight].clear()
    training.steps()


@scenario
def parameters_written(training):
    training.steps()
    with torch.no_grad():
        for param in training.model.parameters():
            param.mul_(0.5)
    training.steps()


@scenario
def a_slot_exchanged(training):
    training.steps()
    entry = training.optimizer.state[training.model[0].weight]
    entry["exp_avg"] = entry["exp_avg"] * 0.5
    training.steps(2)
    entry["exp_avg_sq"].data = entry["exp_avg_sq"].data * 0.5
    training.steps(2)


@scenario
def a_slot_exchanged_while_a_layer_is_untouched(training):
    training.steps()
    training.optimizer.zero_grad()
    entry = training.optimizer.state[training.model[0].weight]
    entry["exp_avg"] = entry["exp_avg"] * 0.5
    training.backward(training.model[:1])
    training.optimizer.step()
    training.optimizer.step()


@scenario
def a_step_written(training):
    training.steps()
    training.optimizer.state[training.model[0].weight]["step"].fill_(100)
    training.steps()


@scenario
def another_learning_rate(training):
    training.steps()
    training.optimizer.param_groups[0]["lr"] = 0.001
    training.steps()


@scenario
def a_further_group(training):
    extra = nn.Linear(5, 5)
    nn.init.ones_(extra.weight)
    nn.init.ones_(extra.bias)
    training.steps()
    training.optimizer.add_param_group({"params": extra.parameters(), "lr": 0.5})
    training.model.insert(0, extra)
    training.steps()


@scenario
def double(training):
    training.steps()
    training.model.double()
    for entry in training.optimizer.state.values():
        for name in entry.keys() - {"step"}:
            entry[name] = entry[name].double()
    training.steps()


@scenario
def double_between_zero_grad_and_backward(training):
    training.steps()
    training.optimizer.zero_grad()
    training.model.double()
    for entry in training.optimizer.state.values():
        for name in entry.keys() - {"step"}:
            entry[name] = entry[name].double()
    training.backward(training.model[:3])
    training.optimizer.step()
    training.steps()


@scenario
def half_precision(training):
    training.model.bfloat16()
    training.steps(5)


@scenario
def half_precision_with_wide_slots(training):
    training.model.bfloat16()
    training.steps(2)
    for entry in training.optimizer.state.values():
        for name in entry.keys() - {"step"}:
            entry[name] = entry[name].float()
    training.steps(4)


@scenario
def a_state_of_the_users(training):
    training.optimizer.state = kept = collections.defaultdict(dict)
    training.steps()
    kept[training.model[0].weight]["exp_avg"] = torch.ones(7, 5)
    training.steps()


@scenario
def shared_memory(training):
    training.steps()
    training.model.share_memory()
    assert training.model[0].weight.is_shared()
    training.steps()
    assert training.model[0].weight.is_shared()


@scenario
def a_checkpoint_loaded(training):
    training.steps()
    file = io.BytesIO()
    torch.save([training.model.state_dict(), training.optimizer.state_dict()], file)
    training.steps()
    file.seek(0)
    model, optimizer = torch.load(file, weights_only=True)
    training.optimizer.zero_grad()
    training.model.load_state_dict(model)
    training.optimizer.load_state_dict(optimizer)
    # Those without a gradient now must not move.
    training.backward(training.model[:1])
    training.optimizer.step()
    training.steps()


@scenario
def a_copy(training):
    training.steps()
    training.model, training.optimizer = copy.deepcopy((training.model, training.optimizer))
    training.steps()


@scenario
def pickled(training):
    training.steps()
    file = io.BytesIO()
    torch.save((training.model, training.optimizer), file)
    file.seek(0)
    training.model, training.optimizer = torch.load(file, weights_only=False)
    training.steps()


@scenario
def several_kinds_of_parameters(training):
    params = [
        *training.model.parameters(),
        nn.Parameter(torch.ones(3, dtype=torch.float64)),
        nn.Parameter(torch.ones(2, dtype=torch.complex64)),
        nn.Parameter(torch.ones(0)),
        nn.Parameter(torch.ones(2, dtype=torch.float64)),
    ]
    (group,) = training.optimizer.param_groups
    training.model = nn.ParameterList(params)
    training.optimizer = type(training.optimizer)(
        params, lr=0.05, flat=group["flat"], foreach=group["foreach"]
    )
    for _ in range(4):
        training.optimizer.zero_grad()
        sum(param.abs().square().sum() for param in params).backward()
        training.optimizer.step()


@scenario
def channels_last(training):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2))
    model(torch.ones(1, 3, 5, 5))
    with torch.no_grad():
        for param in model.parameters():
            param.copy_(torch.linspace(-1, 1, param.numel()).view(param.shape))
    training.model = model.to(memory_format=torch.channels_last)
    (group,) = training.optimizer.param_groups
    training.optimizer = type(training.optimizer)(
        model.parameters(), flat=group["flat"], foreach=group["foreach"]
    )
    for _ in range(4):
        training.optimizer.zero_grad()
        training.model(torch.ones(2, 3, 5, 5)).square().sum().backward()
        training.optimizer.step()


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("looked_at", [False, True], ids=["", "state-looked-at"])
def test_a_flat_training_is_that_of_a_for_loop(name, looked_at):
    flat, loop = Training(flat=True), Training(foreach=False)
    for training in (flat, loop):
        if looked_at:
            assert not training.optimizer.state
        SCENARIOS[name](training)
    assert_same_training(flat, loop)


def assert_same_training(flat, loop):
    pairs = zip(flat.model.parameters(), loop.model.parameters(), strict=True)
    for mine, theirs in pairs:
        assert torch.equal(mine, theirs)
        ours, expected = flat.optimizer.state[mine], loop.optimizer.state[theirs]
        assert ours.keys() == expected.keys()
        assert all(torch.equal(ours[key], expected[key]) for key in ours)


def trained(**options):
    training = Training(flat=True, **options)
    training.steps()
    return training


def spans(tensors):
    return [(t.data_ptr(), t.data_ptr() + t.numel() * t.element_size()) for t in tensors]


def are_neighbours(tensors):
    """Whether each begins at the next multiple of 64 bytes after the one before."""
    pairs = itertools.pairwise(spans(tensors))
    return all(start == end + (-end % 64) for (_, end), (start, _) in pairs)


def test_parameters_gradients_and_slots_lie_in_one_piece_of_memory_each():
    training = trained()
    training.optimizer.zero_grad()
    params = list(training.model.parameters())
    state = training.optimizer.state
    columns = [params, [param.grad for param in params]]
    columns += [[state[param][name] for param in params] for name in ("exp_avg", "exp_avg_sq")]
    assert all(map(are_neighbours, columns))


def test_a_gradient_stays_the_same_tensor_across_zero_grad():
    training = trained()
    training.optimizer.zero_grad()
    before = [param.grad for param in training.model.parameters()]
    training.backward()
    training.optimizer.step()
    assert all(grad.any() for grad in before)
    training.optimizer.zero_grad()
    after = [param.grad for param in training.model.parameters()]
    assert all(a is b for a, b in zip(before, after, strict=True))
    assert not any(grad.any() for grad in after)


def test_checkpoints_are_no_larger():
    def size(something):
        file = io.BytesIO()
        torch.save(something, file)
        return len(file.getvalue())

    flat, loop = trained(), Training(foreach=False)
    loop.steps()
    for training in (flat, loop):
        training.sizes = [
            size(training.model[2].bias),
            size(training.model.state_dict()),
            size(training.optimizer.state_dict()["state"][1]["exp_avg"]),
            size(training.optimizer.state_dict()["state"]),
        ]
    assert flat.sizes == loop.sizes


def test_a_parameter_that_somebody_else_sees_is_not_moved():
    """An alias (a state dict that is kept, an average, an untrained twin) goes on seeing it."""
    training = Training(flat=True)
    alias = training.model[0].weight.detach()
    before = spans([alias])
    training.steps()
    assert spans([training.model[0].weight]) == before
    assert torch.equal(alias, training.model[0].weight)
    del alias


def test_parameters_that_are_parts_of_a_vector_stay_there():
    def vector_training(**options):
        vector = torch.linspace(-1, 1, 12)
        params = [nn.Parameter(vector[:5]), nn.Parameter(vector[5:])]
        optimizer = optim.Adam(params, lr=0.1, **options)
        for _ in range(4):
            optimizer.zero_grad()
            sum(param.square().sum() for param in params).backward()
            optimizer.step()
        return vector

    assert torch.equal(vector_training(flat=True), vector_training(foreach=False))


def test_overlapping_parameters_take_their_steps_one_after_the_other():
    def overlapping(**options):
        first = nn.Parameter(torch.linspace(-1, 1, 6))
        second = nn.Parameter(first.data[2:])
        optimizer = optim.SGD([first, second], lr=0.1, momentum=0.9, **options)
        for _ in range(4):
            optimizer.zero_grad()
            (first.square().sum() + second.square().sum()).backward()
            optimizer.step()
        return first

    assert torch.equal(overlapping(flat=True), overlapping(foreach=False))


def test_a_sparse_gradient_stays_sparse():
    def embedded(**options):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(10, 3, sparse=True), nn.Linear(3, 1))
        optimizer = optim.SGD(model.parameters(), lr=0.1, **options)
        for _ in range(4):
            optimizer.zero_grad()
            model(torch.tensor([1, 2, 2])).sum().backward()
            assert model[0].weight.grad.is_sparse
            optimizer.step()
        return list(model.parameters())

    pairs = zip(embedded(flat=True), embedded(foreach=False), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs)


def test_a_dense_gradient_becomes_sparse():
    def changing(**options):
        training = Training(optim.SGD, **options)
        training.steps()
        training.optimizer.zero_grad()
        for param in training.model.parameters():
            param.grad = torch.ones_like(param).to_sparse()
        training.optimizer.step()
        training.steps()
        return training

    assert_same_training(changing(flat=True), changing(foreach=False))


def test_a_layer_used_twice():
    def shared(**options):
        middle = nn.Linear(5, 5)
        nn.init.eye_(middle.weight)
        nn.init.ones_(middle.bias)
        training = Training(model=nn.Sequential(middle, nn.Tanh(), middle), **options)
        training.steps(5)
        assert training.model[0] is training.model[2]
        return training

    assert_same_training(shared(flat=True), shared(foreach=False))


def test_assigned_parameters_are_no_longer_the_optimizers_as_in_torch():
    training = trained()
    values = {key: value.clone() for key, value in training.model.state_dict().items()}
    training.model.load_state_dict(values, assign=True)
    old = [param.detach().clone() for param in training.optimizer.param_groups[0]["params"]]
    training.steps(2)
    for param, value in zip(training.model.parameters(), values.values(), strict=True):
        assert torch.equal(param, value)
    for param, value in zip(training.optimizer.param_groups[0]["params"], old, strict=True):
        assert torch.equal(param, value)


def test_other_processes_see_the_steps_of_shared_parameters():
    training = Training(flat=True)
    training.steps()
    training.model.share_memory()
    seen = training.model[0].weight.detach()
    training.steps()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=lambda: queue.put(seen.sum().item()))
    child.start()
    assert queue.get(timeout=30) == training.model[0].weight.sum().item()
    child.join()


def test_autograd_notices_that_a_saved_parameter_has_changed():
    training = trained()
    training.optimizer.zero_grad()
    weight = training.model[0].weight
    product = (weight * weight).sum()
    training.backward()
    training.optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def test_autograd_notices_that_a_saved_gradient_has_been_cleared():
    training = trained()
    training.optimizer.zero_grad()
    training.backward()
    factor = torch.ones(7, 5, requires_grad=True)
    product = (training.model[0].weight.grad * factor).sum()
    training.optimizer.zero_grad()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def test_two_optimizers_and_two_groups():
    def adversaries(**options):
        first, second = network(), network()
        groups = [{"params": first[:3].parameters()}, {"params": first[3:].parameters(), "lr": 0.1}]
        optimizers = [
            optim.AdamW(groups, **options),
            optim.SGD(second.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1, **options),
        ]
        x = torch.linspace(-1, 1, 20).view(4, 5)
        for index in range(12):
            mine = optimizers[index % 3 == 0]
            mine.zero_grad()
            (first(x) * second(x)).sum().backward()
            mine.step()
        return [*first.parameters(), *second.parameters()]

    pairs = zip(adversaries(flat=True), adversaries(foreach=False), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs)


def test_the_flag_is_obeyed_at_any_time():
    flat, loop = Training(flat=True), Training(foreach=False)
    for training in (flat, loop):
        training.steps()
    flat.optimizer.param_groups[0]["flat"] = False
    for training in (flat, loop):
        training.steps()
        training.optimizer.zero_grad()
    assert all(param.grad is None for param in flat.model.parameters())
    flat.optimizer.param_groups[0]["flat"] = True
    for training in (flat, loop):
        training.steps()
        training.optimizer.zero_grad()
    assert all(param.grad is not None for param in flat.model.parameters())
    assert_same_training(flat, loop)


@pytest.mark.parametrize("position", [1, -1])
def test_a_parameter_taken_out_of_a_group(position):
    flat, loop = Training(flat=True), Training(foreach=False)
    for training in (flat, loop):
        training.steps()
        training.optimizer.param_groups[0]["params"].pop(position)
        training.steps()
    assert_same_training(flat, loop)


@pytest.mark.parametrize("cls", [optim.SGD, optim.Momentum, optim.AdaGrad, optim.RMSprop])
def test_every_optimizer(cls):
    flat, loop = Training(cls, flat=True), Training(cls, foreach=False)
    for training in (flat, loop):
        training.steps(5)
    assert_same_training(flat, loop)


def test_without_a_compiler(no_native):
    # Options of their own, so that no other test has compiled them or seen their warning.
    options = {"eps": 0.03125, "amsgrad": True, "weight_decay": 0.1}
    flat, loop = Training(flat=True, **options), Training(foreach=False, **options)
    with torch.compiler.set_stance("force_eager"):
        flat.steps(5)
    loop.steps(5)
    assert_same_training(flat, loop)


@pytest.mark.parametrize("other", ["foreach", "fused", "capturable", "differentiable"])
def test_options_that_exclude_each_other(other):
    with pytest.raises(RuntimeError, match=f"`flat` and `{other}` cannot be `True` together"):
        optim.Adam(network().parameters(), flat=True, **{other: True})


def test_a_state_goes_to_torch_and_back():
    flat, theirs = trained(), Training(torch.optim.AdamW)
    theirs.model.load_state_dict(flat.model.state_dict())
    theirs.optimizer.load_state_dict(flat.optimizer.state_dict())
    for mine, other in zip(flat.model.parameters(), theirs.model.parameters(), strict=True):
        entry, expected = theirs.optimizer.state[other], flat.optimizer.state[mine]
        assert all(torch.equal(entry[name], expected[name]) for name in expected)
    again = Training(flat=True)
    again.model.load_state_dict(theirs.model.state_dict())
    again.optimizer.load_state_dict(copy.deepcopy(theirs.optimizer.state_dict()))
    again.generator = flat.generator.clone_state()
    for training in (flat, again):
        training.steps()
    assert_same_training(again, flat)
