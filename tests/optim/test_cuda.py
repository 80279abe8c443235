"""The CUDA engine, without a GPU: run by Triton's interpreter, and read as PTX.

The interpreter shows that the generated text computes the rule, bit for bit; the PTX, that what is
compiled from it rounds each of its operations as IEEE-754 prescribes and joins none of them.
"""

import itertools
import operator
import re
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import pytest
import torch

from tests.thinned import in_turn, only
from torchopt_ref.optim import Rule
from torchopt_ref.optim.engines import cuda, memory
from torchopt_ref.optim.engines.formula import Form, formula
from torchopt_ref.optim.exact import sqrt
from torchopt_ref.sides import configurations
from torchopt_ref.testing.parity.workload import extreme

triton = pytest.importorskip("triton", reason="Triton is not installed")
if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 6):
    pytest.skip("the kernels are for Triton 3.6 or newer", allow_module_level=True)

CPU = torch.device("cpu")
CASES = list(configurations())
PLAIN = [each for each in CASES if not each.options]
DTYPES = {
    "float32": (torch.float32, torch.float32),
    "float64": (torch.float64, torch.float64),
    "float16": (torch.float16, torch.float16),
    "bfloat16": (torch.bfloat16, torch.bfloat16),
    "mixed": (torch.bfloat16, torch.float32),
}
"""Of parameter and gradient, and of slots."""

SIZES = (5, 0, 1, cuda.BLOCK + 3, 2 * cuda.BLOCK)
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class Recipe(NamedTuple):
    """What a configuration's optimizer does to a parameter."""

    rule: Rule
    group: dict

    @classmethod
    def of(cls, configuration):
        optimizer = configuration.ours([torch.ones(1, requires_grad=True)])
        (group,) = optimizer.param_groups
        return cls(optimizer.rule, group)

    def scalars(self, step, dtype=torch.float32):
        return self.rule.all_scalars(self.group, step, int(step == 1), dtype)

    def form(self, dtype=torch.float32):
        return form_of(self.rule, self.rule.slots(self.group), self.scalars(2, dtype))


def form_of(rule, slots, scalars):
    return Form.of(rule, tuple(slots), scalars)


def columns(form, dtypes):
    return (dtypes[0],) * 2 + (dtypes[1],) * len(form.slots)


def plain(update):
    return Rule(update, lambda group: {}, lambda *_: {}, counts=False)


def keep(param, grad, slots):
    return grad, {}


def descend(param, grad, slots, *, lr):
    return param - lr * grad, {}


@pytest.fixture
def interpreted(monkeypatch):
    """Kernels are made for Triton's interpreter, which runs them on the CPU."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    made = (cuda.kernel, cuda.write, cuda.unavailable)
    for each in made:
        each.cache_clear()
    yield
    for each in made:
        each.cache_clear()


def drawn(rng, size, dtype, step, device=CPU):
    """Hard values: of all magnitudes, denormal, not finite. Not aligned, if there are many."""
    like = np.zeros(size, {torch.float16: "e", torch.float64: "d"}.get(dtype, "f"))
    values = torch.from_numpy(extreme(rng, like, step))
    if size > 100:
        values[10:14] = torch.tensor([np.nan, np.inf, -np.inf, -0.0])
    shift = int(size == 2 * cuda.BLOCK)
    return torch.empty(size + shift, dtype=dtype, device=device)[shift:].copy_(values)


def launch(form, rows, numbers, steps=None):
    seen = memory.inspect([*zip(*rows, strict=True)])
    kernel = cuda.kernel(form, seen.dtypes())
    counts = [0 if step is None else step.data_ptr() for step in steps or [None] * len(rows)]
    with np.errstate(all="ignore"):
        cuda.update(kernel, seen, counts, numbers)


def numbers_of(form, scalars):
    return [formula(form).evaluate(scalars)]


def eager(rule, form, row, scalars):
    """What the rule makes of a row: widened, computed by torch and NumPy, rounded once."""
    real = torch.float64 if torch.float64 in {tensor.dtype for tensor in row} else torch.float32
    param, grad, *slots = (tensor.to(real) for tensor in row)
    new_param, new = rule(param, grad, dict(zip(form.slots, slots, strict=True)), **scalars)
    results = [new_param, grad, *(new[name] for name in form.slots)]
    return [each.to(tensor.dtype) for each, tensor in zip(results, row, strict=True)]


def assert_same_bits(found, expected):
    """Zeros have signs; a NaN is a NaN."""
    nan = expected.isnan()
    assert torch.equal(found.isnan(), nan)
    kind = INTEGERS[expected.element_size()]
    assert torch.equal(found[~nan].view(kind), expected[~nan].view(kind))


def distinct():
    """The cases without those whose formula another one has, with other numbers."""
    found = {}
    for case in CASES:
        known = formula(Recipe.of(case).form())
        assert known is not None, f"{case} has an operation that kernels do not have"
        found.setdefault(cuda.source(known, (torch.float32,) * len(known.columns)), case)
    return list(found.values())


FORMULAS = distinct()


by_dtype = pytest.mark.parametrize(("configuration", "dtype"), in_turn(FORMULAS, DTYPES))
"""What differs between dtypes, loading and rounding, is the same text for every formula."""


def check_steps(configuration, dtypes, device, sizes=SIZES):
    recipe, wide = Recipe.of(configuration), torch.promote_types(torch.float32, dtypes[0])
    form = recipe.form(wide)
    rng = np.random.default_rng(0)
    initial = recipe.rule.slots(recipe.group).values()
    rows = []
    for size in sizes:
        param = drawn(rng, size, dtypes[0], 0, device)
        slots = [torch.full_like(param, value, dtype=dtypes[1]) for value in initial]
        rows.append([param, param, *slots])
    counts = [torch.zeros((), device=device) if index % 2 else None for index in range(len(rows))]
    for step in (1, 2):  # the first, and one with what it remembered
        for row in rows:
            row[1] = drawn(rng, len(row[0]), dtypes[0], step, device)
        scalars = recipe.scalars(step, wide)
        expected = [eager(recipe.rule, form, [t.cpu() for t in row], scalars) for row in rows]
        launch(form, rows, numbers_of(form, scalars), counts)
        for row, same in zip(rows, expected, strict=True):
            for tensor, other in zip(row, same, strict=True):
                assert_same_bits(tensor.cpu(), other)
        assert all(count is None or count == step for count in counts)


@by_dtype
def test_kernel_equals_the_rule(configuration, dtype, interpreted):
    """Several blocks by two formulas only: what finds an element is the same text for all."""
    sizes = SIZES if str(configuration) in ("SGD()", "Adam()") else (5, 200)
    check_steps(configuration, DTYPES[dtype], CPU, sizes)


@pytest.mark.parametrize("configuration", only(PLAIN, CASES), ids=str)
def test_kernel_equals_the_reference(configuration, interpreted):
    recipe = Recipe.of(configuration)
    form = recipe.form()
    rng = np.random.default_rng(1)
    param = drawn(rng, 200, torch.float32, 0)
    slots = [torch.full((200,), float(v)) for v in recipe.rule.slots(recipe.group).values()]
    reference = configuration.reference()
    params = {"p": param.numpy().copy()}
    for step in (1, 2, 3):
        grad = drawn(rng, 200, torch.float32, step)
        reference.update(params, {"p": grad.numpy().copy()})
        launch(form, [[param, grad, *slots]], numbers_of(form, recipe.scalars(step)))
        assert_same_bits(param, torch.from_numpy(params["p"]))
        for name, slot in zip(form.slots, slots, strict=True):
            assert_same_bits(slot, torch.from_numpy(reference.state["p"][name]))


@pytest.mark.parametrize(
    ("narrow", "wide"),
    in_turn([torch.float16, torch.bfloat16], [torch.float32, torch.float64]),
)
def test_every_half_is_widened_exactly(narrow, wide, interpreted):
    halves = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(narrow)
    found = torch.empty(2**16, dtype=wide)
    launch(form_of(plain(keep), (), {}), [[found, halves]], [[]])
    assert_same_bits(found, halves.to(wide))


@pytest.mark.parametrize("narrow", [torch.float16, torch.bfloat16], ids=str)
def test_float32_is_rounded_to_nearest_even(narrow, interpreted):
    """Bits of all kinds; halfway between two neighbours, where that is even or odd."""
    bits = np.random.default_rng(0).integers(-(2**31), 2**31, 2**15, dtype=np.int64)
    lost = 16 if narrow == torch.bfloat16 else 13
    bits[::2] = (bits[::2] >> lost << lost) + (1 << lost - 1)
    values = torch.from_numpy(bits.astype(np.int32)).view(torch.float32)
    found = torch.empty(len(values), dtype=narrow)
    launch(form_of(plain(keep), (), {}), [[found, values]], [[]])
    assert_same_bits(found, values.to(narrow))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_every_operation_and_numbers_in_the_rule(dtype, interpreted):
    def update(param, grad, slots, *, lr):
        root = sqrt(torch.maximum(param, slots["a"]) / 3)
        chosen = torch.where(grad > lr, torch.where(param > slots["a"], -grad, 0.3), grad)
        return 0.1 - lr * chosen, {"a": root + (2 - slots["a"] * 1e-30) / (grad * grad + lr)}

    rule = plain(update)
    rng = np.random.default_rng(0)
    row = [drawn(rng, 300, dtype, step) for step in range(3)]
    row[2][20:23] = torch.tensor([np.nan, 0.0, -0.0])
    form = form_of(rule, ("a",), {"lr": 0.3})
    expected = eager(rule, form, [each.clone() for each in row], {"lr": 0.3})
    launch(form, [row], [[0.3]])
    for tensor, other in zip(row, expected, strict=True):
        assert_same_bits(tensor, other)


def test_negation_keeps_the_sign_of_zero(interpreted):
    row = [torch.ones(3), torch.tensor([0.0, -0.0, 1.0])]
    launch(form_of(plain(lambda param, grad, slots: (-grad, {})), (), {}), [row], [[]])
    assert_same_bits(row[0], torch.tensor([-0.0, 0.0, -1.0]))


def test_nothing_beside_a_tensor_is_written(interpreted):
    beside = torch.zeros(cuda.BLOCK)
    launch(form_of(plain(keep), (), {}), [[beside[4:9], torch.ones(5)]], [[]])
    assert beside.nonzero().flatten().tolist() == [4, 5, 6, 7, 8]


@pytest.mark.parametrize(("capturing", "on_device"), in_turn([True, False], [False, True]))
def test_the_table_as_arguments_and_numbers_on_the_device(
    capturing, on_device, interpreted, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
    form = form_of(plain(descend), (), {"lr": 0.1})
    rows = [[torch.full((n,), float(n)), torch.ones(n)] for n in range(1, 70)]
    counts = [torch.zeros(()) for _ in rows]
    launch(
        form, rows, torch.full((69, 1), 0.1, dtype=torch.float64) if on_device else [[0.1]], counts
    )
    for n, (param, _) in enumerate(rows, 1):
        assert_same_bits(param, torch.full((n,), float(n)) - 0.1 * torch.ones(n))
    assert all(count == 1 for count in counts)


def test_values_compile_no_other_kernel():
    """A capture may compile none: what its arguments are must not differ from the steps before."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import make_backend
    from triton.runtime.jit import create_function_from_signature

    backend = make_backend(GPUTarget("cuda", 80, 32))

    def key(function, *args):
        bind = create_function_from_signature(function.signature, function.params, backend)
        return bind(*args)[1]

    words = torch.zeros(2 * cuda.WORDS, dtype=torch.int64)
    values = [0, 1, 16, -1, 2**31, 2**40, 2**63 - 1, -(2**63)] * (cuda.WORDS // 8)
    expected = key(cuda.write(), words, *[0] * cuda.WORDS)
    assert key(cuda.write(), words[1:], *values) == expected
    assert {kind for kind, _ in expected[1:]} == {"i64"}
    update = cuda.kernel(form_of(plain(keep), (), {}), (torch.float32,) * 2)
    numbers = words.view(torch.float64)
    keys = [key(update, words[n:], numbers[n:], n, n - 1) for n in (1, 2, 16, 17)]
    assert all(each == keys[0] for each in keys)


def test_an_old_triton_is_not_used(interpreted, monkeypatch):
    assert cuda.unavailable(CPU) is None
    cuda.unavailable.cache_clear()
    monkeypatch.setattr(triton, "__version__", "3.5.1")
    assert cuda.unavailable(CPU) == "Triton 3.5.1 flushes denormals to zero; 3.6 does not"


def test_a_machine_that_cannot_compile_says_why(interpreted, monkeypatch):
    def fails(words, device):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(cuda, "written", fails)
    assert cuda.unavailable(CPU) == "RuntimeError: no compiler"


EXACT = re.compile(
    r"(add|sub|mul|div|sqrt)\.rn\.f(32|64)"
    r"|max\.NaN\.f32"
    # float64 has no such maximum: it is chosen by comparisons.
    r"|max\.f64|setp\.(nan|num|eq|gt)\.f(32|64)|selp\.f(32|64)|neg\.f(32|64)"
    r"|cvt\.f32\.f16|cvt\.f64\.f(16|32)"
    r"|cvt\.rn\.f32\.f64|cvt\.rn\.f16\.f(32|64)|cvt\.rn\.f16x2\.f32"
)
"""Instructions of PTX with floating-point operands that a kernel may consist of."""


def inexact(text):
    instructions = re.findall(r"^\s*(?:@!?%p\d+\s+)?([a-z][\w.]*)\s", text, re.MULTILINE)
    floating = [each for each in instructions if re.search(r"\.b?f\d", each)]
    assert floating
    return {each for each in floating if not EXACT.fullmatch(each)}


@pytest.fixture
def ptx(monkeypatch, tmp_path):
    """``ptx(form, dtypes, arch)``: the kernel's, compiled anew, and not assembled."""
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.compiler import CUDABackend
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(CUDABackend, "make_cubin", lambda *_: b"")

    def compiled(form, dtypes, arch, **options):
        function = cuda.compiled(cuda.source(formula(form), columns(form, dtypes)), "update")
        signature = {"table": "*i64", "numbers": "*fp64", "rows": "i32", "stride": "i32"}
        made = triton.compile(
            ASTSource(function, signature),
            target=GPUTarget("cuda", arch, 32),
            options=cuda.OPTIONS | options,
        )
        return made.asm["ptx"]

    return compiled


def check_instructions(text):
    assert inexact(text) == set()
    # 16 bytes are loaded at once, where no address has a remainder.
    assert re.search(r"ld\.global\.v[24]\.b(32|64)", text)
    assert re.search(r"and\.b64 .*, 15;", text)


def named(name):
    return next(each for each in FORMULAS if str(each) == name)


ALL = named("RMSprop(centered=True,momentum=0.9,maximize=True)")
"""Its formula has all operations but a choice."""
CHOICE = named("optax.Adagrad()")
AMSGRAD = Recipe.of(named("Adam(amsgrad=True)")).form()


@pytest.mark.parametrize(
    ("configuration", "dtype"),
    only(
        [*((ALL, dtype) for dtype in DTYPES), (CHOICE, "float32"), (CHOICE, "float64")],
        itertools.product(FORMULAS, DTYPES),
    ),
    ids=str,
)
def test_compiled_operations_are_exact(configuration, dtype, ptx):
    check_instructions(ptx(Recipe.of(configuration).form(), DTYPES[dtype], 80))


def test_compiled_operations_are_exact_on_a_newer_gpu(ptx):
    check_instructions(ptx(AMSGRAD, DTYPES["float32"], 90))


def test_fused_operations_are_noticed(ptx):
    assert "fma.rn.f32" in inexact(ptx(AMSGRAD, DTYPES["float32"], 80, enable_fp_fusion=True))


@pytest.mark.parametrize(
    ("operation", "expression", "instruction"),
    [
        (operator.truediv, "{} / {}", "div.full.f32"),
        (torch.sqrt, "tl.sqrt({})", "sqrt.approx.ftz.f32"),
        (torch.maximum, "tl.maximum({}, {})", "max.f32"),
    ],
)
def test_inexact_operations_are_noticed(operation, expression, instruction, ptx, monkeypatch):
    monkeypatch.setitem(cuda.EXPRESSIONS, operation, (expression, expression))
    assert inexact(ptx(AMSGRAD, DTYPES["float32"], 80)) == {instruction}


@pytest.fixture
def gpu():
    device = torch.device("cuda", torch.cuda.current_device())
    assert cuda.unavailable(device) is None
    return device


@pytest.mark.cuda
@pytest.mark.parametrize("dtypes", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("configuration", FORMULAS, ids=str)
def test_a_gpu_has_the_bits_of_the_cpu(configuration, dtypes, gpu):
    check_steps(configuration, dtypes, gpu)


@pytest.mark.cuda
@pytest.mark.parametrize("on_device", [False, True])
def test_a_graph_replays_the_step(on_device, gpu):
    """With the numbers of the capture, or with those that are on the device when it is replayed."""
    rule = plain(descend)
    form = form_of(rule, (), {"lr": 0.1})
    rng = np.random.default_rng(0)
    rows = [[drawn(rng, n, torch.float32, step, gpu) for step in (0, 1)] for n in range(1, 200)]
    counts = [torch.zeros((), device=gpu) for _ in rows]
    lr = torch.full((len(rows), 1), 0.1, dtype=torch.float64, device=gpu)
    numbers = lr if on_device else [[0.1]]
    expected = [[tensor.cpu() for tensor in row] for row in rows]

    def follow(value):
        for row in expected:
            row[0] = eager(rule, form, row, {"lr": value})[0]

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        launch(form, rows, numbers, counts)
    torch.cuda.current_stream().wait_stream(stream)
    follow(0.1)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        launch(form, rows, numbers, counts)
    for step in (2, 3, 4):
        for row, same in zip(rows, expected, strict=True):
            same[1] = drawn(rng, len(row[1]), torch.float32, step)
            row[1].copy_(same[1])
        lr.fill_(0.1 * step)
        graph.replay()
        follow(0.1 * step if on_device else 0.1)
    for row, same in zip(rows, expected, strict=True):
        assert_same_bits(row[0].cpu(), same[0])
    assert all(count == 4 for count in counts)


@pytest.mark.cuda
def test_more_elements_than_an_int32_counts(gpu):
    size = 2**31 + 5
    if torch.cuda.mem_get_info(gpu)[0] < 7 * size:
        pytest.skip("too little memory on the device")
    param = torch.zeros(size, dtype=torch.float16, device=gpu)
    grad = torch.zeros(size, dtype=torch.float16, device=gpu)
    grad[[0, 2**30, 2**31 - 1, -1]] = torch.tensor([1.0, 2.0, 3.0, 4.0], device=gpu).half()
    launch(form_of(plain(keep), (), {}), [[param, grad]], [[]])
    assert torch.equal(param, grad)
