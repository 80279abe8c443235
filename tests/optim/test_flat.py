"""``flat=True`` computes what a for loop computes, whatever happens to the tensors it has moved.

Each scenario is a training that does something between its steps. It runs twice, flat and by
``foreach=False``, and every parameter and slot must be the same to the bit.
"""

import copy
import io
import itertools
import multiprocessing

import pytest
import torch
from flat_scenarios import SCENARIOS, Training, network
from torch import nn

from torchopt_ref import optim


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
