"""A formula as C++, compiled by the machine's own compiler: one call for any number of vectors."""

import ctypes
import functools
import operator
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from .formula import Form, Formula, formula
from .vectors import Piece, is_cpu_memory, is_plain

CXX_TYPES = {torch.float32: "float", torch.float64: "double"}
NUMPY_TYPES = {torch.float32: np.float32, torch.float64: np.float64}

EXPRESSIONS: dict[Any, str] = {
    operator.add: "{} + {}",
    operator.sub: "{} - {}",
    operator.mul: "{} * {}",
    operator.truediv: "{} / {}",
    operator.neg: "-{}",
    torch.maximum: "maximum({}, {})",
    torch.sqrt: "std::sqrt({})",
}
"""An operation of a rule, and the C++ that rounds it as IEEE-754 prescribes."""

FLAGS = (
    *("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"),
    # No multiply-add in one rounding; nothing that only costs speed when results are the same.
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
)

GRAIN = 1 << 15
"""Elements that are worth a thread, as in torch's own kernels."""

SOURCE = Template("""
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <omp.h>

using real = $real;

static inline real maximum(real a, real b) { return a != a || a > b ? a : b; }

static void update(int64_t n, real* const* piece, int64_t start, const real* numbers) {
$pointers
$numbers
  #pragma omp simd
  for (int64_t i = 0; i < n; i++) {
$body
  }
}

extern "C" void step(int64_t pieces, const int64_t* sizes, real* const* vectors,
                     const real* numbers, int64_t threads) {
  int64_t total = 0;
  for (int64_t k = 0; k < pieces; k++) total += sizes[k];
  int wanted = std::max<int64_t>(1, std::min<int64_t>(threads, total / $grain));
  #pragma omp parallel num_threads(wanted)
  {
    const int64_t me = omp_get_thread_num(), all = omp_get_num_threads();
    const int64_t from = total * me / all, to = total * (me + 1) / all;
    for (int64_t k = 0, at = 0; k < pieces && at < to; at += sizes[k++]) {
      const int64_t a = std::max(from, at) - at, b = std::min(to, at + sizes[k]) - at;
      if (a < b) update(b - a, vectors + k * $width, a, numbers);
    }
  }
}
""")


class Table:
    """The addresses of pieces, for calls of native code in which only the gradients may change."""

    def __init__(self, pieces: list[Piece]) -> None:
        self.dtype = pieces[0][0].dtype
        self.suitable = self.dtype in CXX_TYPES and all(
            is_plain(piece, (self.dtype,) * len(piece)) and all(map(is_cpu_memory, piece))
            for piece in pieces
        )
        if self.suitable:
            self.sizes = np.array([piece[0].numel() for piece in pieces], dtype=np.int64)
            self.addresses = np.array([[v.data_ptr() for v in piece] for piece in pieces])
            self.params = [piece[0] for piece in pieces if not piece[0].is_inference()]

    def with_gradients(self, grads: list[Tensor]) -> "Table":
        """The table for other gradients, which belong to the same pieces and are of their dtype."""
        if self.suitable:
            self.addresses[:, 1] = list(map(Tensor.data_ptr, grads))
        return self


def run_native(form: Form, table: Table, values: list[float | Tensor]) -> bool:
    """Whether it was possible to take a step, in place, of all pieces by native code.

    ``values`` are the formula's numbers. It is possible for plain float32 or float64 vectors on the
    CPU, where there is a C++ compiler that understands ``FLAGS``.
    """
    step = native_step(form, table.dtype) if table.suitable else None
    if step is None:
        return False
    numbers = np.array([float(value) for value in values], dtype=NUMPY_TYPES[table.dtype])
    step(
        len(table.sizes),
        table.sizes.ctypes.data,
        table.addresses.ctypes.data,
        numbers.ctypes.data,
        torch.get_num_threads(),
    )
    # Autograd has not seen the writes: it must still notice that a saved parameter has changed.
    torch.autograd.graph.increment_version(table.params)
    return True


@functools.cache
def native_step(form: Form, dtype: torch.dtype) -> Callable[..., None] | None:
    """The compiled function; None where there is no compiler, or nothing that it could compile."""
    known = formula(form)
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if known is None or compiler is None or any(n.target not in EXPRESSIONS for n in known.calls):
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "step.cpp"), Path(folder, "step.so")
        source.write_text(source_code(known, dtype))
        try:
            subprocess.run(
                [compiler, *FLAGS, str(source), "-o", str(library)], check=True, capture_output=True
            )
            step = ctypes.CDLL(str(library)).step
        except (OSError, subprocess.CalledProcessError):
            return None
    step.restype = None
    step.argtypes = [ctypes.c_int64, *[ctypes.c_void_p] * 3, ctypes.c_int64]
    return step


def source_code(known: Formula, dtype: torch.dtype) -> str:
    names: dict[fx.Node, str] = {}
    pointers, numbers, body = [], [], []
    for index, node in enumerate(known.piece):
        names[node] = f"v{index}[i]"
        pointers.append(f"  real* const __restrict v{index} = piece[{index}] + start;")
    for index, node in enumerate(known.inputs):
        names[node] = f"n{index}"
        numbers.append(f"  const real n{index} = numbers[{index}];")
    for index, node in enumerate(known.calls):
        operands = (
            names[arg] if isinstance(arg, fx.Node) else f"real({float(arg)!r})"  # type: ignore[arg-type]
            for arg in node.args
        )
        body.append(f"    const real t{index} = {EXPRESSIONS[node.target].format(*operands)};")
        names[node] = f"t{index}"
    # Results are written when everything has been read.
    body += [
        f"    v{place}[i] = {names[result]};"
        for place, result in zip((0, *range(2, len(known.piece))), known.results, strict=True)
    ]
    return SOURCE.substitute(
        real=CXX_TYPES[dtype],
        pointers="\n".join(pointers),
        numbers="\n".join(numbers),
        body="\n".join(body),
        grain=GRAIN,
        width=len(known.piece),
    )
