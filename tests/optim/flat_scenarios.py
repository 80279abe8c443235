"""Trainings that do something between their steps, by name in ``SCENARIOS``."""

import collections
import copy
import io

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
