"""Every engine computes the same, to the bit, whatever the parameters look like."""

import importlib
import itertools
import warnings

import pytest
import torch
from torch import nn

from torchopt_ref import optim
from torchopt_ref.testing import check_parity, configurations
from torchopt_ref.testing.configurations import ENGINES as PROVEN

fused_module = importlib.import_module("torchopt_ref.optim.engines.fused")

CLASSES = [optim.SGD, optim.Momentum, optim.AdaGrad, optim.RMSprop, optim.Adam, optim.AdamW]
ENGINES = {
    "per_tensor": {"foreach": False},
    "default": {},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "differentiable": {"differentiable": True},
}
by_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
by_engine = pytest.mark.parametrize("engine", ENGINES)
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def laid_out(kind, dtype=torch.float32, seed=0):
    """A tensor of each kind, with the values of a normal distribution."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(shape, generator=generator).to(dtype)

    makers = {
        "vector": lambda: randn(7),
        "scalar": lambda: randn(),
        "one": lambda: randn(1),
        "empty": lambda: randn(0, 3),
        "transposed": lambda: randn(5, 4).t(),
        "every second": lambda: randn(10, 6)[::2],
        "slice": lambda: randn(6, 8)[1:5, 2:7],
        "channels last": lambda: randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "large": lambda: randn(300, 150),
        "very large": lambda: randn(150_001),
    }
    return makers[kind]()


KINDS = (
    "vector", "scalar", "one", "empty", "transposed", "every second", "slice", "channels last",
    "large", "very large",
)  # fmt: skip


def steps(cls, make_params, make_grads, count=3, **options):
    """Parameters and states after some steps."""
    params = make_params()
    tracked = options.get("differentiable")
    params = [param.requires_grad_(not tracked) for param in params]
    optimizer = cls(params, lr=0.1, **options)
    for step in range(count):
        for param, grad in zip(params, make_grads(step, params), strict=True):
            param.grad = grad
        optimizer.step()
    states = [optimizer.state.get(param, {}) for param in params]
    return [param.detach() for param in params], states


def assert_same(one, other):
    for (param, state), (expected, expected_state) in zip(
        zip(*one, strict=True), zip(*other, strict=True), strict=True
    ):
        assert torch.equal(param, expected)
        assert state.keys() == expected_state.keys()
        for name, slot in state.items():
            assert torch.equal(slot, expected_state[name]), name
            assert slot.dtype == expected_state[name].dtype


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "per_tensor"])
@by_class
def test_every_layout_and_dtype_in_one_group(cls, engine):
    dtypes = (*FLOATS, torch.complex64) if engine != "fused" else FLOATS

    def make_params():
        return [laid_out(kind, dtype) for kind in KINDS for dtype in dtypes]

    def make_grads(step, params):
        kinds = [(kind, dtype) for kind in KINDS for dtype in dtypes]
        return [laid_out(kind, dtype, seed=step + 1) for kind, dtype in kinds]

    results = [
        steps(cls, make_params, make_grads, weight_decay=0.1, **ENGINES[name])
        for name in (engine, "per_tensor")
    ]
    assert_same(*results)


@by_engine
@by_class
def test_a_layout_changes_nothing(cls, engine):
    def contiguous(tensors):
        return [tensor.detach().contiguous().clone() for tensor in tensors]

    def make_params():
        return [laid_out(kind) for kind in KINDS]

    def make_grads(step, params):
        return [laid_out(kind, seed=step + 1) for kind in KINDS]

    results = [
        steps(cls, make_params, make_grads, **ENGINES[engine]),
        steps(
            cls,
            lambda: contiguous(make_params()),
            lambda step, params: contiguous(make_grads(step, params)),
            foreach=False,
        ),
    ]
    assert_same(*results)


@by_engine
@by_class
def test_gradients_of_another_layout(cls, engine):
    """Expanded, transposed, channels last: against the same gradients as the parameter lies."""
    shapes = ((4, 5), (2, 3, 4, 5), (400, 100))

    def make_params():
        generator = torch.Generator().manual_seed(0)
        return [torch.randn(shape, generator=generator) for shape in shapes]

    def odd(step, params):
        generator = torch.Generator().manual_seed(step + 1)
        return [
            torch.randn(1, 1, generator=generator).expand(4, 5),
            torch.randn(2, 3, 4, 5, generator=generator).to(memory_format=torch.channels_last),
            torch.randn(100, 400, generator=generator).t(),
        ]

    def even(step, params):
        return [grad.contiguous().clone() for grad in odd(step, params)]

    assert_same(
        steps(cls, make_params, odd, **ENGINES[engine]),
        steps(cls, make_params, even, foreach=False),
    )


@by_engine
@by_class
def test_parameters_without_gradient_stand_still_and_count_nothing(cls, engine):
    """Each parameter misses other steps: as if each had an optimizer of its own."""

    def gradient(step, index):
        if (step + index) % 3 == 0:
            return None
        return torch.randn(50, generator=torch.Generator().manual_seed(10 * step + index))

    def make_params():
        generator = torch.Generator().manual_seed(0)
        return [torch.randn(50, generator=generator) for _ in range(4)]

    together = steps(
        cls,
        make_params,
        lambda step, params: [gradient(step, index) for index in range(4)],
        count=7,
        **ENGINES[engine],
    )
    for index in range(4):
        (param,), (state,) = steps(
            cls,
            lambda index=index: [make_params()[index]],
            lambda step, params, index=index: [gradient(step, index)],
            count=7,
            foreach=False,
        )
        assert torch.equal(together[0][index], param)
        for name, slot in state.items():
            assert torch.equal(together[1][index][name], slot)


@by_engine
@by_class
def test_parameters_that_need_no_gradient_are_kept_and_left_alone(cls, engine):
    frozen = nn.Parameter(torch.ones(3), requires_grad=False)
    moving = torch.ones(3, requires_grad=engine != "differentiable")
    optimizer = cls([frozen, moving], lr=0.1, **ENGINES[engine])
    moving.grad = torch.ones(3)
    optimizer.step()
    assert torch.equal(frozen, torch.ones(3))
    assert not torch.equal(moving, torch.ones(3))
    assert len(optimizer.state_dict()["param_groups"][0]["params"]) == 2


@by_engine
@by_class
def test_gradients_are_not_written(cls, engine):
    param = torch.ones(40_000, requires_grad=engine != "differentiable")
    param.grad = torch.linspace(-1, 1, 40_000)
    optimizer = cls([param], lr=0.1, weight_decay=0.1, maximize=True, **ENGINES[engine])
    optimizer.step()
    assert torch.equal(param.grad, torch.linspace(-1, 1, 40_000))


@by_engine
@by_class
def test_slots_of_another_dtype_than_the_parameter(cls, engine):
    """Wider: the step is that of the widest. Narrower: rounded to be stored. Either stays."""
    for param_dtype, slot_dtype in (
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.bfloat16),
        (torch.float32, torch.float64),
    ):
        outcomes = []
        for options in (ENGINES[engine], {"foreach": False}):
            torch.manual_seed(0)
            param = torch.randn(50).to(param_dtype)
            optimizer = cls([param.requires_grad_(not options.get("differentiable"))], **options)
            param.grad = torch.randn(50).to(param_dtype)
            optimizer.step()
            saved = optimizer.state_dict()
            for state in saved["state"].values():
                for name in state.keys() - {"step"}:
                    state[name] = state[name].to(slot_dtype)
            optimizer.load_state_dict(saved)
            optimizer.step()
            outcomes.append(([param.detach()], [dict(optimizer.state[param])]))
            assert param.dtype == param_dtype
            for name in optimizer.state[param].keys() - {"step"}:
                assert optimizer.state[param][name].dtype == slot_dtype
        assert_same(*outcomes)


def test_a_step_of_fused_compiles_once_for_all_sizes_and_numbers(no_native):
    """New sizes, lr, steps and group values: no new graph."""
    torch.compiler.reset()
    fused_module.kernel.cache_clear()
    counters = torch._dynamo.utils.counters
    counters.clear()
    for sizes in ((3, 40_000), (70_000, 70_000, 5, 5), (1,), (2, 0, 33_000), (50_000,) * 9):
        params = [torch.ones(size, requires_grad=True) for size in sizes]
        optimizer = optim.Adam(params, lr=0.1 / len(sizes), weight_decay=0.1, fused=True)
        for step in range(3):
            optimizer.param_groups[0]["lr"] /= 2
            optimizer.param_groups[0]["betas"] = (0.5 + step / 10, 0.9)
            for param in params:
                param.grad = torch.ones_like(param)
            optimizer.step()
    assert counters["stats"]["unique_graphs"] == 2  # one piece, and eight
    assert not counters["graph_break"]


def test_without_a_compiler_fused_warns_once_and_computes_the_same(monkeypatch, no_native):
    def no_compiler(*args, **kwargs):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", no_compiler)
    fused_module.kernel.cache_clear()
    fused_module.warn_once.cache_clear()
    make_params = lambda: [laid_out("vector"), laid_out("very large")]  # noqa: E731
    make_grads = lambda step, params: [param.detach() for param in params]  # noqa: E731
    with pytest.warns(UserWarning, match="fused=True runs uncompiled.*no C\\+\\+ compiler") as seen:
        slow = steps(optim.Adam, make_params, make_grads, fused=True)
    assert len(seen) == 1
    fused_module.kernel.cache_clear()
    assert_same(slow, steps(optim.Adam, make_params, make_grads, foreach=False))


def test_fused_survives_changes_of_the_global_state():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for mode in ("plain", "autocast", "inference", "threads"):
            param = torch.ones(50_000, requires_grad=True)
            param.grad = torch.full_like(param, 0.5)
            optimizer = optim.Adam([param], lr=0.1, fused=True)
            threads = torch.get_num_threads()
            if mode == "autocast":
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    optimizer.step()
            elif mode == "inference":
                with torch.inference_mode():
                    optimizer.step()
            else:
                torch.set_num_threads(1 if mode == "threads" else threads)
                optimizer.step()
                torch.set_num_threads(threads)
            torch.testing.assert_close(param.detach(), torch.full((50_000,), 0.9))


CASES = [
    pytest.param(
        each,
        engine,
        dtype,
        id=f"{each.optimizer}-{each.convention}-{each.options}-{engine}-{dtype}",
        marks=marks,
    )
    for number, (each, engine) in enumerate(itertools.product(configurations(), PROVEN))
    for place, dtype in enumerate(("float16", "float32", "float64"))
    for marks in [() if (number + place) % 3 == 0 else pytest.mark.slow]
]
"""Each engine with each option set and with each dtype by default; all three at once are slow."""


@pytest.mark.parametrize(("configuration", "engine", "dtype"), CASES)
def test_parity_of_every_engine(configuration, engine, dtype):
    report = check_parity(
        lambda params: configuration.ours(params, **PROVEN[engine]),
        configuration.reference(),
        steps=20,
        dtype=dtype,
    )
    assert (report.max_ulp_param, report.max_ulp_state) == (0, 0)
