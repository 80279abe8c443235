"""The parity table: every configuration measured, and compared with its stated bound."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from torchopt_ref.sides import ENGINES, Configuration, configurations, ulp_text

from . import workload
from .lockstep import (
    NOT_ROUNDING,
    ParityReport,
    check_against_torch,
    check_parity,
)
from .operations import OperationAudit, Tally

REFERENCE, TORCH = "numpy_ref", "torch.optim"


@dataclass
class Row:
    """One line of the parity table.

    ``bound`` limits the measure ``bound_on``: "max_ulp", the ULP distance of parameters and slots
    over all steps, for ``against="numpy_ref"``; "max_step_error", the error of one step (see
    ``ParityReport``), for ``against="torch.optim"``; one or the other if ``against`` is a package.
    If ``bound`` is None, no bound is stated.
    Where both optimizers differ, ``at_fault`` says which operations of the compared optimizer did
    not round as NumPy does, how often and by how much. With ``formulas_differ`` it is empty: the
    difference is larger than rounding explains.
    """

    optimizer: str
    dialect: str
    engine: str
    dtype: str
    device: str
    options: dict[str, Any]
    against: str
    steps: int
    max_ulp_param: int
    max_ulp_state: int
    max_abs: float
    max_step_error: float
    first_divergent_step: int | None
    bound_on: str
    bound: float | None
    at_fault: dict[str, Tally]
    formulas_differ: bool = False

    @classmethod
    def of(cls, report: ParityReport, **others: Any) -> Row:
        """A row with the report's measures; ``others`` are the fields that no report has."""
        return cls(
            steps=report.steps,
            max_ulp_param=report.max_ulp_param,
            max_ulp_state=report.max_ulp_state,
            max_abs=report.max_abs,
            max_step_error=report.max_step_error,
            first_divergent_step=report.first_divergent_step,
            formulas_differ=report.formulas_differ,
            **others,
        )

    @property
    def passed(self) -> bool:
        if self.bound is None:
            return True
        if self.bound_on == "max_ulp":
            return max(self.max_ulp_param, self.max_ulp_state) <= self.bound
        return self.max_step_error <= self.bound

    HEADER: ClassVar[str] = (
        f"{'optimizer':<15}{'engine':<10}{'dtype':<9}{'against':<12}"
        f"{'param':>8}{'slots':>8}{'step':>8}{'bound':>6}  "
        "options; operations that round differently"
    )
    """The heading of printed rows: largest ULP of parameters and slots, error of one step."""

    def __str__(self) -> str:
        options = ", ".join(f"{key}={value}" for key, value in self.options.items()) or "defaults"
        faults = "".join(f"; {name}: {tally}" for name, tally in self.at_fault.items())
        faults += f"; {NOT_ROUNDING}" if self.formulas_differ else ""
        bound = "-" if self.bound is None else f"{self.bound:g}"
        return (
            f"{self.optimizer:<15}{self.engine:<10}{self.dtype:<9}"
            f"{self.against:<12}{ulp_text(self.max_ulp_param):>8}{ulp_text(self.max_ulp_state):>8}"
            f"{self.max_step_error:>8.3g}{bound:>6}{' ' if self.passed else '!'} {options}{faults}"
        )

    def as_json(self) -> dict[str, Any]:
        """The row as plain values; a number that is not finite becomes None."""
        row = asdict(self) | {"passed": self.passed}
        for name in ("max_abs", "max_step_error"):
            row[name] = row[name] if np.isfinite(row[name]) else None
        return row


def parity_rows(
    optimizers: list[str] | None = None,
    dtypes: Sequence[str] = ("float32", "float64"),
    steps: int = 1000,
    device: str = "cpu",
    seed: int = 0,
    engines: Sequence[str] = tuple(ENGINES),
) -> Iterator[Row]:
    """Compare each configuration of ``optimizers`` (default: all), by each engine, with NumPy.

    The first engine is also compared with ``torch.optim``: on the CPU all engines compute the same.
    """
    for configuration in configurations(optimizers):
        for dtype in dtypes:
            run: dict[str, Any] = {"steps": steps, "dtype": dtype, "device": device, "seed": seed}
            for engine in engines:
                ours = functools.partial(configuration.ours, **ENGINES[engine])
                report = check_parity(ours, configuration.reference(dtype), **run)
                yield make_row(configuration, engine, report, REFERENCE, run)
                if configuration.known.torchs and engine == engines[0]:
                    report = check_against_torch(ours, configuration.torchs, **run)
                    yield make_row(configuration, engine, report, TORCH, run)


def make_row(
    configuration: Configuration,
    engine: str,
    report: ParityReport,
    against: str,
    run: dict[str, Any],
) -> Row:
    ours = functools.partial(configuration.ours, **ENGINES[engine])
    compared = ours if against == REFERENCE else configuration.torchs
    first = report.first_divergent_step
    return Row.of(
        report,
        optimizer=configuration.name,
        dialect=configuration.dialect,
        engine=engine,
        dtype=run["dtype"],
        device=run["device"],
        options=configuration.options,
        against=against,
        bound_on="max_ulp" if against == REFERENCE else "max_step_error",
        bound=stated_bound(configuration, engine, against, run["device"], run["dtype"]),
        at_fault=(
            {}
            if first is None or report.formulas_differ
            else operations_at_fault(compared, run, first)
        ),
    )


def stated_bound(
    configuration: Configuration, engine: str, against: str, device: str, dtype: str
) -> float | None:
    """What a row must not exceed.

    Against NumPy: 0, on the CPU for every engine, on CUDA for the kernel; torch's own operations
    promise nothing there. Against ``torch.optim`` on the CPU, whose kernels fuse multiply and add
    and whose square root is sometimes 1 ULP off: a few roundings, 8 units of one step; 64 with an
    option that first adds something to the gradient (weight decay, a Nesterov or dampened buffer),
    as the difference grows where that sum cancels. No bound for centered RMSprop, which subtracts
    two nearly equal numbers under the root; for other devices; and for float16: there torch rounds
    every intermediate result, so that an epsilon of 1e-8 becomes 0 and a square becomes infinity.
    """
    if against == REFERENCE and (device == "cpu" or engine == "kernel"):
        return 0
    if device != "cpu":
        return None
    options = configuration.options
    if options.get("centered") or dtype == "float16":
        return None
    cancels = configuration.name == "Nesterov" or options.keys() & {
        "weight_decay",
        "nesterov",
        "dampening",
    }
    return 64 if cancels else 8


def operations_at_fault(
    factory: workload.OptimizerFactory, run: dict[str, Any], steps: int
) -> dict[str, Tally]:
    """Run the optimizer again up to the step that differed, and audit its operations."""
    params = workload.parameters(run["dtype"], run["seed"])
    side = workload.torch_side(factory, params, run["device"], run["dtype"])
    with OperationAudit() as audit:
        for grads in workload.standard_gradients(run["dtype"], run["steps"], run["seed"])[:steps]:
            side.step(grads)
    return audit.at_fault()
