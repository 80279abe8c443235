"""The CPU's kernel against NumPy, bit for bit, however the work is divided and by whomever."""

import multiprocessing
import operator
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from torch import nn

from numpy_ref.bfloat16 import to_bfloat16
from numpy_ref.optimizers import Adam as ReferenceAdam
from torchopt_ref import optim
from torchopt_ref.optim import Rule
from torchopt_ref.optim.engines import cpu, memory
from torchopt_ref.optim.engines.cpu import CHUNK, SHARE
from torchopt_ref.optim.engines.formula import Form, formula
from torchopt_ref.optim.exact import sqrt

F16, BF16, F32, F64 = torch.float16, torch.bfloat16, torch.float32, torch.float64


def rule_of(update):
    return Rule(update, lambda group: {}, lambda *_: {}, counts=False)


def launch(rule, columns, slots=(), **scalars):
    """One step by the kernel, without an optimizer around it."""
    form = Form.of(rule, slots, scalars)
    rows = memory.inspect(columns)
    assert memory.UNFIT not in rows.kinds
    cpu.update(cpu.compiled(form, rows.dtypes()), rows, [formula(form).evaluate(scalars)])


def anything(count, dtype, seed=0):
    """Random bits (denormals, infinities and NaN among them), and every pair of special numbers:
    with seed 0 the first of each pair, with 1 the second."""
    raw = np.random.default_rng(seed).bytes(count * np.dtype(dtype).itemsize)
    tiny, large = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    special = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, tiny, -tiny, large, -large]
    pairs = np.array([[a, b] for a in special for b in special], dtype)
    return np.concatenate([np.frombuffer(raw, dtype), pairs[:, seed]])


def assert_bits(got, expected):
    """Equal bits, but for those of a NaN, and with the sign of zeros."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got[known]), np.signbit(expected[known]))


def one(name):
    """A rule that is one operation of gradient and slot, and NumPy's way to say the same."""
    functions = {
        "add": (operator.add, np.add),
        "sub": (operator.sub, np.subtract),
        "mul": (operator.mul, np.multiply),
        "div": (operator.truediv, np.divide),
        "maximum": (torch.maximum, np.maximum),
        "where": (lambda a, b: torch.where(a > b, b, -b), lambda a, b: np.where(a > b, b, -b)),
        "neg": (lambda a, b: -a, lambda a, b: -a),
        "sqrt": (lambda a, b: sqrt(a), lambda a, b: np.sqrt(a)),
    }
    function, numpys = functions[name]
    return rule_of(lambda p, g, s: (function(g, s["s"]), {"s": s["s"]})), numpys


OPERATIONS = ("add", "sub", "mul", "div", "maximum", "where", "neg", "sqrt")


def check_operation(name, dtype):
    rule, numpys = one(name)
    a, b = anything(20_000, dtype, seed=0), anything(20_000, dtype, seed=1)
    param = torch.zeros(len(a), dtype=torch.from_numpy(a[:1].copy()).dtype)
    tensors = [param, torch.from_numpy(a.copy()), torch.from_numpy(b.copy())]
    launch(rule, [[each] for each in tensors], ("s",))
    with np.errstate(all="ignore"):
        expected = numpys(a, b)
    assert_bits(param.numpy(), expected)
    assert_bits(tensors[2].numpy(), b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_of_any_two_numbers(name, dtype):
    check_operation(name, dtype)


def test_a_maximum_with_nan_from_either_side():
    rule, _ = one("maximum")
    param, inf, nan = torch.ones(6), torch.inf, torch.nan
    one_, other = (
        torch.tensor([nan, 1.0, nan, -inf, -0.0, 3.0]),
        torch.tensor([inf, nan, nan, nan, 0.0, -3.0]),
    )
    launch(rule, [[param], [one_], [other]], ("s",))
    assert param.isnan().tolist() == [True, True, True, True, False, False]
    assert param[4:].tolist() == [0.0, 3.0]


STORE = rule_of(lambda p, g, s: (g, {}))
"""The gradient becomes the parameter, rounded to its dtype."""


def stored(values, dtype):
    param = torch.zeros(values.shape, dtype=dtype)
    launch(STORE, [[param], [torch.from_numpy(values)]])
    return param


def between(dtype):
    """Around each number of a narrow dtype: itself, its neighbours in float32, and halfway to the
    next one, with the neighbours of that."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype).float().numpy()
    finite = np.sort(every[np.isfinite(every)])
    middle = (finite[:-1] / 2 + finite[1:] / 2).astype(np.float32)
    points = np.concatenate([every, middle])
    up, down = np.float32([np.inf, -np.inf])
    with np.errstate(all="ignore"):
        around = [points, np.nextafter(points, up), np.nextafter(points, down)]
    return np.concatenate([*around, anything(2**18, "float32")])


def test_rounding_to_bfloat16():
    values = between(BF16)
    assert_bits(stored(values, BF16).float().numpy(), to_bfloat16(values))


def test_rounding_to_float16():
    values = between(F16)
    with np.errstate(all="ignore"):
        expected = values.astype(np.float16)
    assert_bits(stored(values, F16).numpy(), expected)


def test_rounding_to_float32():
    with np.errstate(all="ignore"):
        scaled = between(F16).astype(np.float64) * 1e-38
        values = np.concatenate([anything(2**16, "float64"), scaled])
        expected = values.astype(np.float32)
    assert_bits(stored(values, F32).numpy(), expected)


@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
def test_widening_changes_no_number(dtype):
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
    param = torch.zeros(2**16)
    launch(STORE, [[param], [every]])
    assert_bits(param.numpy(), every.float().numpy())


def test_float64_beside_a_narrow_dtype_is_not_for_kernels():
    """By way of float32 it would be rounded twice."""
    for narrow in (F16, BF16):
        seen = memory.inspect([[torch.zeros(3, dtype=narrow)], [torch.zeros(3, dtype=F64)]])
        assert not memory.is_for_kernels(seen.kinds[0], seen.width)


def test_numbers_are_rounded_where_they_meet_the_tensors():
    """A float64 number times a float32 tensor: as NumPy does it, in float32."""
    rule = Rule(lambda p, g, s, *, lr: (p - lr * g, {}), lambda group: {}, lambda *_: {})
    grad = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    param = torch.ones(1000)
    launch(rule, [[param], [torch.from_numpy(grad)]], lr=0.1)
    assert_bits(param.numpy(), np.ones(1000, np.float32) - 0.1 * grad)


# What a kernel could get wrong, and that the comparisons above would notice.


def with_operation(wrong):
    right = cpu.operation

    def operation(b, target, *operands):
        made = wrong(b, target, *operands)
        return right(b, target, *operands) if made is None else made

    return "operation", operation


def swapped(b, target, *operands):
    return b.fadd(*operands) if target is operator.sub else None


def by_reciprocal(b, target, *operands):
    if target is not operator.truediv:
        return None
    return b.fmul(operands[0], b.fdiv(operands[1].type(1.0), operands[1]))


def without_nan(b, target, *operands):
    if target is not torch.maximum:
        return None
    return b.select(b.fcmp_ordered(">", *operands), *operands)


def or_equal(b, target, *operands):
    return b.fcmp_ordered(">=", *operands) if target is operator.gt else None


def or_nan(b, target, *operands):
    return b.fcmp_unordered(">", *operands) if target is operator.gt else None


def the_other(b, target, *operands):
    return b.select(operands[0], *operands[:0:-1]) if target is torch.where else None


def no_sign_of_zero(b, target, *operands):
    return b.fsub(operands[0].type(0.0), operands[0]) if target is operator.neg else None


def estimated_root(b, target, *operands):
    if target is not torch.sqrt:
        return None
    kind = operands[0].type
    power = b.module.declare_intrinsic("llvm.pow", [kind])
    return b.call(power, [operands[0], kind(0.5)])


def truncated(b, value, dtype, real_rounded=cpu.rounded):
    if dtype != BF16:
        return real_rounded(b, value, dtype)
    return b.trunc(b.lshr(b.bitcast(value, cpu.I32), cpu.I32(16)), cpu.I16)


def half_away(b, value, dtype, real_rounded=cpu.rounded):
    """Ties not to even."""
    if dtype != BF16:
        return real_rounded(b, value, dtype)
    up = b.add(b.bitcast(value, cpu.I32), cpu.I32(0x8000))
    nan = b.fcmp_unordered("uno", value, value)
    return b.trunc(b.select(nan, cpu.I32(0x7FC0), b.lshr(up, cpu.I32(16))), cpu.I16)


def nan_becomes_infinity(b, value, dtype, real_rounded=cpu.rounded):
    if dtype != BF16:
        return real_rounded(b, value, dtype)
    bits = b.bitcast(value, cpu.I32)
    odd = b.and_(b.lshr(bits, cpu.I32(16)), cpu.I32(1))
    near = b.lshr(b.add(b.add(bits, cpu.I32(0x7FFF)), odd), cpu.I32(16))
    return b.trunc(near, cpu.I16)


MUTATIONS = [
    pytest.param(with_operation(swapped), lambda: check_operation("sub", "float32"), id="sub"),
    pytest.param(
        with_operation(by_reciprocal), lambda: check_operation("div", "float32"), id="div"
    ),
    pytest.param(
        with_operation(without_nan), lambda: check_operation("maximum", "float32"), id="maximum"
    ),
    *(
        pytest.param(
            with_operation(wrong), lambda: check_operation("where", "float32"), id=wrong.__name__
        )
        for wrong in (or_equal, or_nan, the_other)
    ),
    pytest.param(
        with_operation(no_sign_of_zero), lambda: check_operation("neg", "float32"), id="neg"
    ),
    pytest.param(
        with_operation(estimated_root), lambda: check_operation("sqrt", "float64"), id="sqrt"
    ),
    pytest.param(("rounded", truncated), test_rounding_to_bfloat16, id="truncated"),
    pytest.param(("rounded", half_away), test_rounding_to_bfloat16, id="half away"),
    pytest.param(("rounded", nan_becomes_infinity), test_rounding_to_bfloat16, id="nan"),
]


@pytest.mark.parametrize(("mutation", "check"), MUTATIONS)
def test_a_wrong_kernel_is_noticed(mutation, check, monkeypatch):
    name, wrong = mutation
    monkeypatch.setattr(cpu, name, wrong)
    monkeypatch.setattr(cpu, "compiled", cpu.compiled.__wrapped__)
    with pytest.raises(AssertionError):
        check()


# How the work is divided.


@pytest.fixture
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


by_threads = pytest.mark.parametrize("threads", [1, 2, 4], indirect=True)

TALLY = rule_of(lambda p, g, s: (p + g, {}))


def check_division(sizes):
    """Each element is visited once: what is there afterwards are the whole numbers."""
    params = [torch.arange(size, dtype=F64) for size in sizes]
    launch(TALLY, [params, [torch.ones(size, dtype=F64) for size in sizes]])
    for param in params:
        assert torch.equal(param, torch.arange(1, len(param) + 1, dtype=F64))


@by_threads
@pytest.mark.parametrize(
    "sizes",
    [
        [1],
        [0],
        [0, 0, 0],
        [CHUNK - 1],
        [CHUNK],
        [CHUNK + 1],
        [SHARE - 1],
        [2 * SHARE - 1],
        [2 * SHARE],
        [2 * SHARE + 1],
        [4 * SHARE + 3],
        [1] * 3000 + [4 * SHARE],
        [4 * SHARE] + [1] * 3000,
        [0, 2 * SHARE, 0, 0, 2 * SHARE, 0],
        [CHUNK] * 5,
        [CHUNK + 1, CHUNK - 1] * 2,
        [CHUNK - 1, 1, 0, 1] * 3,
        [SHARE, 5, 0, 3 * CHUNK, SHARE + 1, 3],
    ],
    ids=lambda sizes: f"{len(sizes)} of {max(sizes)}",
)
def test_every_element_is_visited_once(sizes, threads):
    check_division(sizes)


SIZES = (3, 2 * SHARE + 5, 0, CHUNK, 4 * SHARE)


class Training:
    """Two steps of Adam. What ``last_step`` does is nothing but a step."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.params = [nn.Parameter(torch.randn(size, generator=generator)) for size in SIZES]
        self.optimizer = optim.Adam(self.params, lr=0.1)
        self.give_gradients(generator)
        self.optimizer.step()
        self.give_gradients(generator)

    def give_gradients(self, generator):
        for param in self.params:
            param.grad = torch.randn(param.shape, generator=generator)

    def last_step(self):
        self.optimizer.step()
        return self.params


def trained():
    return Training().last_step()


def reference():
    generator = torch.Generator().manual_seed(0)

    def draw():
        return {
            index: torch.randn(size, generator=generator).numpy()
            for index, size in enumerate(SIZES)
        }

    arrays, optimizer = draw(), ReferenceAdam(lr=0.1)
    for _ in range(2):
        optimizer.update(arrays, draw())
    return list(arrays.values())


@pytest.fixture(scope="module")
def expected():
    return reference()


def check_training(params, expected):
    for param, array in zip(params, expected, strict=True):
        np.testing.assert_array_equal(param.detach().numpy(), array)


@by_threads
def test_a_training_by_threads_is_the_references(threads, expected):
    check_training(trained(), expected)


def test_the_number_of_threads_may_change_between_steps(expected):
    before = torch.get_num_threads()
    try:
        for count in (2, 1, 4, 3, 2):
            torch.set_num_threads(count)
            check_training(trained(), expected)
    finally:
        torch.set_num_threads(before)


def test_threads_of_python_step_at_once(expected):
    """Each has an optimizer of its own; they share torch's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    found = [None] * 4
    go = threading.Barrier(len(found))

    def work(index):
        go.wait()
        found[index] = trained()

    workers = [threading.Thread(target=work, args=(index,)) for index in range(len(found))]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
    finally:
        torch.set_num_threads(before)
    for params in found:
        check_training(params, expected)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@needs_fork
@forks
@pytest.mark.parametrize("threads", [2], indirect=True)
def test_a_fork_steps_without_torchs_threads(threads, expected):
    """They are not in the child; torch's own operations would wait for them for ever."""
    training = Training()
    torch.ones(1_000_000).add_(1)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            check_training(training.last_step(), expected)
            status = 0
        finally:
            os._exit(status)
    waiter = threading.Timer(60, os.kill, (child, signal.SIGKILL))
    waiter.start()
    _, status = os.waitpid(child, 0)
    waiter.cancel()
    assert status == 0
    assert not cpu.FORKED
    check_training(training.last_step(), expected)


@needs_fork
@forks
def test_a_fork_while_another_thread_compiles():
    form, done = (
        Form.of(rule_of(lambda param, grad, slots: (param - grad, {})), (), {}),
        threading.Event(),
    )

    kept = []  # As kernels are; llvmlite takes its lock also where it frees one.

    def compile_on():
        while not done.is_set():
            kept.append(cpu.compiled.__wrapped__(form, (F32, F32)))

    other = threading.Thread(target=compile_on)
    other.start()
    try:
        for _ in range(3):
            time.sleep(0.01)
            child = os.fork()
            if child == 0:
                signal.alarm(10)
                kept.append(cpu.compiled.__wrapped__(form, (F32, F32)))
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        done.set()
        other.join()


@needs_fork
@forks
@pytest.mark.parametrize("threads", [2], indirect=True)
def test_a_process_of_multiprocessing_steps(threads, expected):
    training = Training()
    child = multiprocessing.get_context("fork").Process(
        target=lambda: check_training(training.last_step(), expected)
    )
    child.start()
    child.join(60)
    child.kill()
    assert child.exitcode == 0


AT_EXIT = """
import atexit, torch
from torchopt_ref import optim

torch.set_num_threads({threads})
param = torch.nn.Parameter(torch.zeros(2 * {share}))
optimizer = optim.SGD([param], lr=1.0)

def step():
    param.grad = torch.ones_like(param)
    optimizer.step()

{before}
atexit.register(lambda: (step(), print((param == param[0]).all().item(), param[0].item())))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("before", "value"), [("", -1.0), ("step()", -2.0)])
def test_a_step_at_the_interpreters_end(before, value):
    code = AT_EXIT.format(threads=2, share=SHARE, before=before)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert (done.stdout, done.stderr) == (f"True {value}\n", "")
