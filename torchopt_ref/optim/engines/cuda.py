"""A formula as a Triton kernel: one launch for all tensors of a batch, bit for bit as on the CPU.

``source`` writes the kernel as text, ``kernel`` makes it a function of Triton, and ``update``
launches it with one table of integers that says where the tensors lie. Triton is imported when a
kernel is first needed.
"""

import functools
import importlib
import linecache
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from .formula import Form, Formula, formula
from .memory import Places

BLOCK = 1024
"""Elements of one block of threads."""

WORDS = 128
"""Integers that one launch of ``write`` takes as arguments."""

OPTIONS: dict[str, Any] = {"num_warps": 4, "enable_fp_fusion": False}
"""The options of each launch of ``update``. A fused multiply-add would round once where a rule
rounds twice."""

TYPES = {
    torch.float16: "tl.float16",
    torch.bfloat16: "tl.int16",
    torch.float32: "tl.float32",
    torch.float64: "tl.float64",
}
"""The Triton type in which each dtype is loaded and stored. bfloat16 is converted by integer
operations: Triton's interpreter, in which the tests run kernels without a GPU, would truncate it
instead of rounding, and lose its denormals."""

EXPRESSIONS: dict[Any, tuple[str, str]] = {
    operator.add: ("{} + {}",) * 2,
    operator.sub: ("{} - {}",) * 2,
    operator.mul: ("{} * {}",) * 2,
    operator.truediv: ("tl.math.div_rn({}, {})", "{} / {}"),
    # Not `-x`: older versions of Triton compute `0 - x`, which is never -0.
    operator.neg: ("{} * -1.0",) * 2,
    torch.maximum: ("tl.maximum({}, {}, propagate_nan=tl.PropagateNan.ALL)",) * 2,
    torch.sqrt: ("tl.math.sqrt_rn({})", "tl.sqrt({})"),
    operator.gt: ("{} > {}",) * 2,
    torch.where: ("tl.where({}, {}, {})",) * 2,
}
"""For each operation of a rule, the expressions for float32 and for float64 that are rounded as
IEEE-754 prescribes."""

HELPERS = '''
@triton.jit
def widened(bits):
    """bfloat16 as float32."""
    return (bits.to(tl.int32) << 16).to(tl.float32, bitcast=True)


@triton.jit
def narrowed(x):
    """float32 as bfloat16, rounded to nearest even."""
    bits = x.to(tl.int32, bitcast=True)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return tl.where(x == x, rounded, 0x7FC0).to(tl.int16)


@triton.jit
def pointer(address, TYPE: tl.constexpr, ALIGNED: tl.constexpr):
    found = address.to(tl.pointer_type(TYPE))
    return tl.multiple_of(found, 16) if ALIGNED else found


@triton.jit
def row_of(block, table, rows):
    """The row that the block belongs to: the last whose first block is at or before it."""
    row = block * 0
    end = rows
    while row + 1 < end:
        middle = (row + end) >> 1
        reached = tl.load(table + middle) <= block
        row = tl.where(reached, middle, row)
        end = tl.where(reached, end, middle)
    return row
'''

KERNEL = """

@triton.jit
def elements(table, rows, numbers, start, size, WHOLE: tl.constexpr):
    at = start + tl.arange(0, {block})
    mask = None if WHOLE else at < size
{body}


@triton.jit(do_not_specialize=["table", "numbers", "rows", "stride"])
def update(table, numbers, rows, stride):
    block = tl.program_id(0)
    row = row_of(block, table, rows)
    table += row
    numbers += row * stride
    start = (block - tl.load(table)) * {block}
    size = tl.load(table + rows)
    step = tl.load(table + 2 * rows)
    if (start == 0) & (step != 0):
        count = step.to(tl.pointer_type(tl.float32))
        tl.store(count, tl.load(count) + 1)
    # A thread loads 16 bytes at once only if there is no mask and addresses are aligned.
    if (start + {block} <= size) & (({addresses}) % 16 == 0):
        elements(table, rows, numbers, start, size, True)
    else:
        elements(table, rows, numbers, start, size, False)
"""


def source(known: Formula, dtypes: tuple[torch.dtype, ...]) -> str:
    """The text of the kernel for columns of these dtypes: parameter, gradient, slots.

    It computes in float64 if any of them is, else in float32. Values are widened when they are read
    and rounded once when they are written; numbers are rounded before they meet a tensor.
    """
    double = torch.float64 in dtypes
    real = "tl.float64" if double else "tl.float32"
    addresses = [f"tl.load(table + {3 + index} * rows)" for index in range(len(dtypes))]
    names: dict[Any, str] = {}
    body = []
    for index, (node, dtype) in enumerate(zip(known.columns, dtypes, strict=True)):
        body.append(f"p{index} = pointer({addresses[index]}, {TYPES[dtype]}, WHOLE) + at")
        value = f"tl.load(p{index}, mask=mask)"
        value = f"widened({value})" if dtype == torch.bfloat16 else value
        body.append(f"v{index} = {value}.to({real})")
        names[node] = f"v{index}"
    for index, node in enumerate(known.inputs):
        body.append(f"n{index} = tl.load(numbers + {index}).to({real})")
        names[node] = f"n{index}"
    for index, node in enumerate(known.calls):
        operands = (
            names[arg] if isinstance(arg, fx.Node) else constant(arg, real) for arg in node.args
        )
        body.append(f"t{index} = {EXPRESSIONS[node.target][double].format(*operands)}")
        names[node] = f"t{index}"
    # Results are written when everything has been read.
    for place, node in known.results.items():
        value = names[node]
        if dtypes[place] == torch.bfloat16:
            value = f"narrowed({value})"
        body.append(f"tl.store(p{place}, {value}.to({TYPES[dtypes[place]]}), mask=mask)")
    return HELPERS + KERNEL.format(
        block=BLOCK,
        body="\n".join(f"    {line}" for line in body),
        addresses=" | ".join(addresses),
    )


def constant(value: Any, real: str) -> str:
    """A literal number of the rule, as an expression of Triton."""
    return f'tl.full((), float("{float(value)!r}"), tl.float64).to({real})'


def compiled(text: str, name: str) -> Any:
    """The function ``name`` that ``text`` defines. Triton reads its source by ``linecache``."""
    triton = importlib.import_module("triton")
    file = f"<{__name__}.{name} {hash(text)}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    namespace = {"__name__": __name__, "triton": triton, "tl": triton.language}
    exec(compile(text, file, "exec"), namespace)
    return namespace[name]


@functools.cache
def kernel(form: Form, dtypes: tuple[torch.dtype, ...]) -> Any:
    """The kernel of a form that has a formula, for columns of these dtypes."""
    known = formula(form)
    assert known is not None
    return compiled(source(known, dtypes), "update")


@functools.cache
def write() -> Any:
    """A kernel that writes its arguments to memory, ``WORDS`` integers."""
    words = [f"w{index}" for index in range(WORDS)]
    # Without a declared type Triton would compile a kernel for each type that fits the values.
    arguments = ", ".join(f"{word}: tl.int64" for word in words)
    body = "".join(f"    tl.store(out + {index}, {word})\n" for index, word in enumerate(words))
    head = f"@triton.jit(do_not_specialize={['out', *words]})\ndef write(out, {arguments}):\n"
    return compiled(head + body, "write")


def written(words: list[int], device: torch.device) -> Tensor:
    """The words on the device, passed as arguments of launches, which a CUDA graph records."""
    parts = [words[start : start + WORDS] for start in range(0, len(words), WORDS)]
    out = torch.empty(len(parts), WORDS, dtype=torch.int64, device=device)
    for line, part in zip(out, parts, strict=True):
        write()[(1,)](line, *part, *[0] * (WORDS - len(part)))
    return out.view(-1)


@functools.cache
def unavailable(device: torch.device) -> str | None:
    """Why no kernel runs on the device; None where one does.

    ``write`` is run to find out. That also loads it, which is impossible during a capture.
    """
    try:
        triton = importlib.import_module("triton")
        if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 6):
            return f"Triton {triton.__version__} flushes denormals to zero; 3.6 does not"
        with torch.cuda.device(device):
            written([0], device)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def on_device(numbers: list[list[Any]], count: int, device: torch.device) -> Any:
    """``numbers`` for ``update``: unchanged, or as one tensor if any of them is on the device."""
    if not any(isinstance(number, Tensor) for number in numbers[0]):
        return numbers
    # Filled on the device: a copy from the host could not be captured.
    each = [
        number.to(torch.float64)
        if isinstance(number, Tensor)
        else torch.full((), number, dtype=torch.float64, device=device)
        for number in numbers[0]
    ]
    return torch.stack([number.expand(count) for number in each], dim=1)


def update(
    kernel: Any, rows: Places, steps: Sequence[int], numbers: Sequence[Sequence[float]] | Tensor
) -> None:
    """Take one step of all rows, in place, by one launch on the current stream of their device.

    The rows have the kernel's dtypes, and do not overlap. ``steps`` has for each row the address of
    its step count (float32, on the device), to which the kernel adds 1, or 0 if there is none.
    ``numbers`` has the values of the formula's ``inputs``: one list for all rows, or one for each;
    or, where the host may not read them, a float64 tensor on the device with a line for each row.
    """
    count = len(rows.kinds)
    words = np.frombuffer(rows.words, dtype=np.int64).reshape(count, 1 + rows.width)
    sizes = words[:, 0]
    # An empty tensor gets a block too, which adds 1 to its step count.
    ends = np.cumsum(np.maximum(1, -(-sizes // BLOCK)))
    table = np.concatenate([[0], ends[:-1], sizes, steps, words[:, 1:].T.ravel()])
    before, stride = len(table), len(numbers[0]) if len(numbers) > 1 else 0
    if not isinstance(numbers, Tensor):
        table = np.append(table, np.array(numbers, dtype=np.float64).ravel().view(np.int64))
    device = rows.device()
    with torch.cuda.device(device):
        if torch.cuda.is_current_stream_capturing():
            on_device = written(table.tolist(), device)
        else:
            on_device = torch.from_numpy(table).to(device, non_blocking=True)
        if not isinstance(numbers, Tensor):
            numbers = on_device[before : len(table)].view(torch.float64)
        kernel[(int(ends[-1]),)](on_device, numbers, count, stride, **OPTIONS)
