"""``torch.compile`` of the step, and of a whole training step.

What is traced is looked at without making code of it (``aot_eager``), which takes some seconds for
each graph; what makes code is slow.
"""

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.backends.common import aot_autograd

from tests.thinned import only
from torchopt_ref import optim

BACKENDS = ("aot_eager", "inductor")
CASES = [
    (optim.SGD, {"momentum": 0.9, "dampening": 0.5}),
    (optim.keras.Adam, {"weight_decay": 0.1}),
]
OTHERS = [
    (optim.Adam, {"amsgrad": True, "weight_decay": 0.1}),
    (optim.AdaGrad, {"lr_decay": 0.1}),
    (optim.RMSprop, {"centered": True, "momentum": 0.9}),
    (optim.AdamW, {}),
    (optim.book.Momentum, {}),
    (optim.book.Adam, {}),
    (optim.optax.Adam, {"nesterov": True}),
]


def twins(cls, options):
    """The same model twice, each with its optimizer, and the data.

    In float64, where a wrong formula differs by far more than torch's root, which rounds as the
    machine likes.
    """
    torch.manual_seed(0)
    layers = nn.Linear(10, 2), nn.Tanh()
    models = [copy.deepcopy(nn.Sequential(*layers)).double() for _ in range(2)]
    lr = torch.tensor(0.01, dtype=torch.float64)
    optimizers = [cls(model.parameters(), lr=lr.clone(), **options) for model in models]
    return models, optimizers, torch.randn(8, 10, dtype=torch.float64)


@pytest.fixture
def stats():
    torch.compiler.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    yield counters
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("backend", "cls", "options"),
    only(
        [("aot_eager", *case) for case in CASES],
        [(backend, *case) for backend in BACKENDS for case in CASES + OTHERS],
    ),
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_the_compiled_step_is_the_eager_step_in_one_graph(backend, cls, options, stats):
    """With dampening the first step is another one, also in torch: two graphs."""
    models, optimizers, x = twins(cls, options)
    step = torch.compile(optimizers[0].step, fullgraph=True, backend=backend)
    for _ in range(4):
        for model in models:
            model.zero_grad()
            model(x).square().sum().backward()
        step()
        optimizers[1].step()
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"].mul_(0.9)
        for mine, eager in zip(models[0].parameters(), models[1].parameters(), strict=True):
            torch.testing.assert_close(mine, eager, rtol=1e-11, atol=1e-13)
    assert stats["stats"]["unique_graphs"] == (2 if options.get("dampening") else 1)
    assert not stats["graph_break"]


def compiled_first_step(**backend):
    """Parameter and optimizer after a step whose graph makes the slot."""
    param = torch.ones(3, requires_grad=True)
    param.grad = torch.tensor([1.0, 2.0, 3.0])
    optimizer = optim.SGD([param], lr=0.1, momentum=0.9, dampening=0.5)
    torch.compile(optimizer.step, fullgraph=True, **backend)()
    return param, optimizer


def test_what_is_added_to_a_new_slot_is_not_added_to_zero(stats):
    """The compiler would take zero plus the gradient for the gradient.

    So it must not know that the slot is zero: the graph subtracts a tensor that it gets.
    """

    def look(module, inputs):
        (slot,) = (node for node in module.graph.nodes if "full_like" in node.name)
        (use,) = slot.users
        assert use.target is torch.ops.aten.sub.Tensor
        assert [use.args[0], use.args[1].op] == [slot, "placeholder"]
        seen.append(use)
        return module.forward

    seen = []
    compiled_first_step(backend=aot_autograd(fw_compiler=look))
    assert seen


@pytest.mark.slow
def test_a_slot_made_in_the_graph_has_memory_of_its_own(stats):
    """As code, for whose sake the graph is what the test before wants."""
    param, optimizer = compiled_first_step()
    buffer = optimizer.state[param]["momentum_buffer"]
    assert torch.equal(buffer, param.grad)
    assert buffer.data_ptr() != param.grad.data_ptr()


@pytest.mark.parametrize(
    "cls", only([optim.Adam], [optim.SGD, optim.AdaGrad, optim.Adam, optim.keras.Adam])
)
def test_an_optimizer_made_in_a_compiled_function(cls, stats):
    models, _, x = twins(optim.SGD, {})

    def training(model):
        optimizer = cls(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        return optimizer

    compiled = torch.compile(training, backend="aot_eager")(models[0])
    plain = training(models[1])
    for mine, eager in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(mine, eager, rtol=1e-11, atol=1e-13)
        assert compiled.state[mine].keys() == plain.state[eager].keys()


@pytest.mark.parametrize("backend", only(["aot_eager"], BACKENDS))
def test_a_compiled_training_step(backend, stats):
    models, optimizers, x = twins(optim.AdamW, {})

    def training_step(model, optimizer):
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    compiled = torch.compile(training_step, backend=backend)
    for _ in range(4):
        loss = compiled(models[0], optimizers[0])
        expected = training_step(models[1], optimizers[1])
        torch.testing.assert_close(loss, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.cuda
def test_a_cuda_graph_of_a_capturable_step():
    params = [torch.ones(50, device="cuda", requires_grad=True) for _ in range(2)]
    optimizers = [
        optim.Adam([params[0]], lr=torch.tensor(0.1, device="cuda"), capturable=True),
        optim.Adam([params[1]], lr=0.1),
    ]
    for param in params:
        param.grad = torch.ones_like(param)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        optimizers[0].step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizers[0].step()
    for _ in range(3):
        graph.replay()
    for _ in range(4):
        optimizers[1].step()
    torch.testing.assert_close(params[0], params[1])


@pytest.mark.cuda
def test_a_cuda_graph_of_another_step_is_refused():
    param = torch.ones(5, device="cuda", requires_grad=True)
    param.grad = torch.ones_like(param)
    optimizer = optim.Adam([param])
    optimizer.step()
    with (
        pytest.raises(RuntimeError, match="capturable is False"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        optimizer.step()


def test_capturable_without_a_device_that_captures_is_refused():
    param = torch.ones(5, requires_grad=True)
    param.grad = torch.ones(5)
    for cls in (optim.RMSprop, optim.Adam, optim.AdamW):
        with pytest.raises(AssertionError, match="If capturable=True, params and state_steps"):
            cls([param], capturable=True).step()
