"""Where tensors lie in memory, and their sizes, dtypes and layouts, read by machine code.

Asking a thousand tensors for shape, strides, dtype, device and address takes longer in Python than
their step. Here machine code asks torch's C interface, and Python only hands over the tensors.
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from llvmlite import binding, ir
from torch import Tensor

from .. import torch_private
from .llvm import I64, LOCK, Code, Function, Int, Library, Module

PLAIN = frozenset((Tensor, torch.nn.Parameter))
"""The types of ordinary tensors; a subclass may not have memory of its own."""
REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
CPU, CUDA = 0, 1
"""torch's numbers for devices."""
UNFIT = -1
"""The kind of a row that is not plain memory."""
MOST_COLUMNS = 7
"""The most columns that kernels take. Their dtypes, 6 bits each, and the device fit into a kind, a
64-bit number."""


class Places(NamedTuple):
    """Where rows of tensors lie: parameters with their gradients and slots.

    ``words`` has for each row the number of elements, then the address of each column; ``kinds``
    has for each row a number, equal for rows of the same device and dtypes, or ``UNFIT``. ``spans``
    has where each tensor begins, sorted, then where each of these ends; ``overlap`` says whether
    any two share memory; ``width`` is the number of columns.
    """

    words: array[int]
    kinds: array[int]
    spans: array[int]
    overlap: bool
    width: int

    def dtypes(self) -> tuple[torch.dtype, ...]:
        """The dtypes of the columns, where all rows are of one kind."""
        return dtypes_of(self.kinds[0], self.width)

    def device(self) -> torch.device:
        """The device of all rows, where they are of one kind."""
        number = self.kinds[0] >> 6 * self.width
        return torch.device("cuda", (number & 255) - 1) if number >> 8 == CUDA else HERE

    def of_one_kind(self) -> Iterable[Sequence[int]]:
        """The positions of the rows of each kind."""
        if self.kinds.count(self.kinds[0]) == len(self.kinds):
            return [range(len(self.kinds))]
        found: dict[int, list[int]] = {}
        for position, kind in enumerate(self.kinds):
            found.setdefault(kind, []).append(position)
        return found.values()

    def pick(self, rows: Sequence[int]) -> Places:
        words = np.frombuffer(self.words, dtype=np.int64).reshape(-1, 1 + self.width)
        kinds = array("q", [self.kinds[row] for row in rows])
        return self._replace(words=array("q", words[rows].tobytes()), kinds=kinds)


HERE = torch.device("cpu")


@functools.cache
def dtypes_of(kind: int, width: int) -> tuple[torch.dtype, ...]:
    codes = (kind >> 6 * column & 63 for column in reversed(range(width)))
    return tuple(map(dtype_of_code().__getitem__, codes))


@functools.cache
def is_for_kernels(kind: int, width: int) -> bool:
    """Whether kernels take rows of the kind. They do not mix float64 with 16-bit dtypes: on the way
    to 16 bits its values would be rounded twice."""
    if kind == UNFIT:
        return False
    dtypes = dtypes_of(kind, width)
    return torch.float64 not in dtypes or not {torch.float16, torch.bfloat16} & {*dtypes}


def zeros(count: int) -> array[int]:
    return array("q", bytes(8 * count))


def address(words: array[int] | array[float]) -> int:
    return words.buffer_info()[0]


def inspect(columns: Sequence[Sequence[Tensor]]) -> Places:
    """Where the rows of these parallel columns lie. All tensors are ``Tensor`` or ``Parameter``.

    A row is plain memory if its tensors are real and floating, on one device, of one shape and one
    layout that has neither gaps nor overlaps: then their elements correspond in memory order.
    """
    count, width = len(columns[0]), len(columns)
    if width > MOST_COLUMNS:
        return Places(
            zeros(count * (1 + width)), array("q", [UNFIT] * count), zeros(0), False, width
        )
    objects = array("q", map(id, chain.from_iterable(columns)))
    # Words, kinds and spans, one after the other.
    kinds, spans = count * (1 + width), count * (2 + width)
    found = zeros(spans + 2 * count * width)
    place = address(found)
    places = (place, place + 8 * kinds, place + 8 * spans)
    shared = reader().inspect(address(objects), count, width, *places)
    return Places(found[:kinds], found[kinds:spans], found[spans:], shared != 0, width)


def overlap(spans: array[int]) -> bool:
    """Whether any two of the spans share memory. They are sorted in place."""
    half = len(spans) // 2
    return bool(reader().overlap(address(spans), address(spans) + 8 * half, half))


def read_steps(steps: Sequence[Tensor]) -> tuple[array[int], array[float]] | None:
    """The step counts as ``count_steps`` takes them, and their values after the coming step. None
    unless all are one float32 or float64 number each, in the CPU's memory."""
    objects, values = array("q", map(id, steps)), array("d", bytes(8 * len(steps)))
    if reader().read_steps(address(objects), len(objects), address(values)):
        return None
    return objects, values


def count_steps(objects: array[int]) -> None:
    """Add one to each of the step counts that ``read_steps`` has read."""
    if objects:
        reader().count_steps(address(objects), len(objects))


@functools.cache
def dtype_of_code() -> dict[int, torch.dtype]:
    names = {dtype: str(dtype).removeprefix("torch.") for dtype in REAL}
    return {torch_private.constant(f"dtype_{name}"): dtype for dtype, name in names.items()}


@functools.cache
def reader() -> Library:
    """The machine code of this file. Raises ``RuntimeError`` if it misreads torch's tensors."""
    module = ir.Module("memory")
    ask = Asking(module)
    write_overlap(module)
    write_inspect(module, ask)
    write_steps(module, ask)
    library = Library(module, vectorize=False)
    # torch may change how its tensors lie in memory: try it on tensors that are known.
    known = torch.zeros(3, 5, dtype=torch.float64, device="cpu")[:, :4].t()
    tensors = [known, torch.nn.Parameter(known.contiguous())]
    each, words, kinds, spans = array("q", map(id, tensors)), zeros(4), zeros(2), zeros(4)
    library.inspect(address(each), 2, 1, *map(address, (words, kinds, spans)))
    place = tensors[1].data_ptr()
    seen = [*words, *spans, kinds[0], dtypes_of(kinds[1], 1)]
    if seen != [0, 0, 12, place, 0, place, 0, place + 96, UNFIT, (known.dtype,)]:
        raise RuntimeError(f"tensors of torch {torch.__version__} are not laid out as expected")
    return library


class Asking:
    """torch's C interface for tensors, called from machine code."""

    def __init__(self, module: Module) -> None:
        self.module: Module = module
        self.offset: int = torch_private.offset_of_handle()
        self.functions: dict[str, Function] = {}

    def __call__(self, code: Code, name: str, tensor: Int) -> Int:
        """What torch's ``get_<name>`` answers for the tensor's Python object; 0 if it fails."""
        if name not in self.functions:
            symbol, place = torch_private.function(f"get_{name}")
            with LOCK:
                binding.add_symbol(symbol, place)
            kind = ir.FunctionType(ir.IntType(32), [I64, I64])
            self.functions[name] = ir.Function(self.module, kind, symbol)
        answer = code.variable()
        handle = tensor + self.offset
        code.builder.call(self.functions[name], [handle.value, answer.value])
        return answer[0]


def write_inspect(module: Module, ask: Asking) -> None:
    code = Code(module, "inspect", 6)
    objects, count, width, words, kinds, spans = code.arguments
    ends = spans + count * width * 8
    fit, kind, smaller = code.variable(), code.variable(), code.variable()

    def require(condition: Int) -> None:
        fit[0] = fit[0] & condition

    def layout(tensor: Int) -> tuple[Int, Int, Int]:
        """Rank, sizes and strides. Some sparse and nested tensors have no sizes or strides."""
        rank, sizes = ask(code, "dim", tensor), ask(code, "sizes", tensor)
        strides = ask(code, "strides", tensor)
        there = (sizes != 0) & (strides != 0)
        require(there | (rank == 0))
        return there.if_else(rank, 0), sizes, strides

    with code.loop(count) as row:
        param = objects[row]
        fit[0] = 1
        rank, sizes, strides = layout(param)
        numel, device = ask(code, "numel", param), ask(code, "device_type", param)
        index = ask(code, "device_index", param)
        require(device <= CUDA)
        kind[0] = device * 256 + ((index + 1) & 255)
        # Neither gaps nor overlaps: a stride is the product of the sizes of all shorter strides.
        with code.loop(rank) as i:
            smaller[0] = 1
            with code.loop(rank) as j:
                shorter = (strides[j] <= strides[i]) & (j != i) & (sizes[j] != 1)
                smaller[0] = smaller[0] * shorter.if_else(sizes[j], 1)
            require((smaller[0] == strides[i]) | (sizes[i] == 1) | (numel == 0))
        line = row * (width + 1)
        words[line] = numel
        with code.loop(width) as column:
            tensor = objects[column * count + row]
            dtype, known, size = ask(code, "dtype", tensor), numel != numel, numel
            for number, each in dtype_of_code().items():
                known = known | (dtype == number)
                size = (dtype == number).if_else(each.itemsize, size)
            require(known)
            kind[0] = kind[0] * 64 + (dtype & 63)
            require(ask(code, "device_type", tensor) == device)
            require(ask(code, "device_index", tensor) == index)
            require(ask(code, "layout", tensor) == torch_private.constant("layout_strided"))
            own_rank, own_sizes, own_strides = layout(tensor)
            require(own_rank == rank)
            with code.when(fit[0]), code.loop(rank) as i:
                require(own_sizes[i] == sizes[i])
                require((own_strides[i] == strides[i]) | (sizes[i] == 1) | (numel == 0))
            with code.when(fit[0]):
                place = ask(code, "data_ptr", tensor)
                require((place != 0) | (numel == 0))
                words[line + column + 1] = place
                start = (numel == 0).if_else(0, place)
                spans[row * width + column] = start
                ends[row * width + column] = start + numel * size
        kinds[row] = fit[0].if_else(kind[0], UNFIT)
        with code.when(fit[0] == 0):
            words[line] = 0
            with code.loop(width) as column:
                words[line + column + 1] = 0
                spans[row * width + column] = 0
                ends[row * width + column] = 0
    shared = [spans.value, ends.value, (count * width).value]
    code.builder.ret(code.builder.call(module.get_global("overlap"), shared))


def write_steps(module: Module, ask: Asking) -> None:
    """``count_steps`` adds one to each count, ``read_steps`` writes what they will be after that.

    Both return how many they could not read.
    """
    for name, arguments in (("read_steps", 3), ("count_steps", 2)):
        code = Code(module, name, arguments)
        objects, count, *values = code.arguments
        unread, b = code.variable(count), code.builder
        with code.loop(count) as row:
            tensor = objects[row]
            dtype, here = ask(code, "dtype", tensor), ask(code, "device_type", tensor) == CPU
            single, start = ask(code, "numel", tensor) == 1, ask(code, "data_ptr", tensor)
            # Sparse tensors have no memory of their own.
            readable = here & single & (start != 0)
            for name_, kind in (("float32", ir.FloatType()), ("float64", ir.DoubleType())):
                with code.when(readable & (dtype == torch_private.constant(f"dtype_{name_}"))):
                    place = start.place(0, kind)
                    counted = b.fadd(b.load(place, typ=kind), kind(1))
                    if values:
                        double = ir.DoubleType()
                        wide = counted if kind == double else b.fpext(counted, double)
                        b.store(wide, values[0].place(row, double))
                    else:
                        b.store(counted, place)
                    unread[0] = unread[0] - 1
        b.ret(unread[0].value)


def write_overlap(module: Module) -> None:
    """``overlap(starts, ends, count)`` sorts spans by their starts (Shell's sort) and returns
    whether one ends after the next one starts."""
    code = Code(module, "overlap", 3)
    starts, ends, count = code.arguments
    gap, place, found = code.variable(count), code.variable(), code.variable()
    with code.repeat(lambda: gap[0] != 0):
        gap[0] = Int(code.builder, code.builder.lshr(gap[0].value, I64(1)))
        with code.when(gap[0] != 0), code.loop(count - gap[0]) as i:
            place[0] = i + gap[0]
            start, end = starts[place[0]], ends[place[0]]

            def is_behind() -> Int:
                reaches = gap[0] <= place[0]
                return reaches & (start < starts[reaches.if_else(place[0] - gap[0], 0)])

            with code.repeat(is_behind):
                before = place[0] - gap[0]
                starts[place[0]], ends[place[0]] = starts[before], ends[before]
                place[0] = before
            starts[place[0]], ends[place[0]] = start, end
    with code.loop(count - 1) as i:
        found[0] = found[0] | (starts[i + 1] < ends[i])
    code.builder.ret(found[0].value)
