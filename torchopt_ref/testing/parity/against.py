"""The parity table of a dialect against its own package, Keras or Optax."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from torchopt_ref.sides import (
    BY_NAME,
    ENGINES,
    KNOWN,
    Arrays,
    Configuration,
    NumpySide,
    TorchSide,
    configurations,
)

from . import workload
from .lockstep import ParityReport, in_lockstep
from .operations import Tally
from .packages import (
    SCHEDULE,
    SIDES,
    START,
    XlaAudit,
    can_flush,
    flushed,
    xla_is_exact,
)
from .table import REFERENCE, Row

MORE: dict[str, list[dict[str, Any]]] = {
    "keras.SGD": [{"momentum": 0.999, "nesterov": True, "weight_decay": 0.1}],
    "keras.RMSprop": [{"centered": True, "momentum": 0.5, "weight_decay": 0.1, "alpha": 0.5}],
    "keras.Adam": [{"amsgrad": True, "eps": 0.0, "weight_decay": 0.1}],
    "keras.AdamW": [{"betas": (0.5, 0.0), "eps": 1e-3}],
    "optax.Adagrad": [{"initial_accumulator_value": 1.0}],
    "optax.RMSprop": [
        {"eps_in_sqrt": False, "bias_correction": True, "x64": True, "eps": 0.0},
        {"eps_in_sqrt": False, "centered": True, "bias_correction": True, "nesterov": True}
        | {"momentum": 0.9},
    ],
    "optax.Adam": [{"nesterov": True, "x64": True, "eps": 0.0}],
    "optax.AdamW": [{"betas": (0.5, 0.0), "eps": 1e-3, "eps_root": 1e-3}],
}
"""Option sets beyond those of ``KNOWN``, so that every option of every class is tried."""


ALL, ONE_ELEMENT, SEVERAL_ELEMENTS, LONE = (
    "all",
    "one element",
    "several elements",
    "one, alone",
)
"""The arrays that a case compares. The choice matters for Optax' bias correction only."""


class Case(NamedTuple):
    """One optimizer with options, for these arrays; ``scheduled``: the learning rate falls."""

    configuration: Configuration
    arrays: str = ALL
    scheduled: bool = False

    @property
    def shown(self) -> dict[str, Any]:
        """The options as the table has them."""
        lr = {"lr": SCHEDULE} if self.scheduled else {}
        arrays = {} if self.arrays == ALL else {"arrays": self.arrays}
        return self.configuration.options | lr | arrays

    def __str__(self) -> str:
        shown = ",".join(f"{name}={value}" for name, value in self.shown.items())
        return f"{self.configuration.name}({shown})"


def cases(names: Sequence[str]) -> Iterator[Case]:
    """Every option set of the named optimizers, and each optimizer once with a schedule."""
    for name in names:
        more = [Configuration(BY_NAME[name], options) for options in MORE.get(name, [])]
        for configuration in (*configurations([name]), *more):
            if configuration.options.get("x64") and corrects(configuration):
                yield Case(configuration, SEVERAL_ELEMENTS)
                yield Case(configuration, ONE_ELEMENT)
            else:
                yield Case(configuration)
        plain = Configuration(BY_NAME[name], {})
        if corrects(plain):
            yield Case(plain, LONE)
        yield Case(plain, scheduled=True)


def names_of(package: str) -> list[str]:
    return [known.name for known in KNOWN if known.dialect == package]


def corrects(configuration: Configuration) -> bool:
    """Whether this is an Optax optimizer that corrects the bias of its moments."""
    name, options = configuration.name, configuration.options
    return name in ("optax.Adam", "optax.AdamW") or options.get("bias_correction", False)


@dataclass
class Recorded:
    """A run of a package: its tensors at the start and after each step, and XLA's own roundings."""

    case: Case
    params: Arrays
    gradients: list[Arrays]
    states: list[dict[str, Any]]
    rates: list[float]
    at_fault: dict[str, Tally]


def record(
    case: Case,
    dtype: str,
    steps: int,
    seed: int = 0,
    *,
    x64: bool = False,
    exact: bool = False,
) -> Recorded:
    """Run the package on hostile gradients. ``exact``: with NumPy's roundings in place of XLA's.

    ``x64``: with JAX in 64 bits, also where neither the dtype nor the options ask for it.
    """
    params = workload.parameters(dtype, seed)
    gradients = workload.standard_gradients(dtype, steps, seed)
    params, *gradients = [chosen(case.arrays, each) for each in (params, *gradients)]
    return record_given(case, params, gradients, x64=x64, exact=exact)


def record_given(
    case: Case,
    params: Arrays,
    gradients: list[Arrays],
    *,
    x64: bool = False,
    exact: bool = False,
) -> Recorded:
    """``record`` with given parameters and gradients, all of one dtype."""
    ours: Any = case.configuration.known.ours
    options = case.configuration.options
    wide = any(array.dtype == "float64" for array in params.values())
    x64 = x64 or wide or options.get("x64", False)
    rates = []
    with XlaAudit(exact) as audit:
        side = SIDES[ours.dialect](ours, options, params, x64, case.scheduled)
        states = [side.tensors()]
        for grads in gradients:
            if case.scheduled:
                rates.append(side.next_lr())
            side.step(grads)
            states.append(side.tensors())
    return Recorded(case, params, gradients, states, rates, audit.at_fault())


def chosen(kind: str, arrays: Arrays) -> Arrays:
    """The arrays that a case compares; for ``ONE_ELEMENT`` eight, one of each kind of gradient."""
    if kind == ONE_ELEMENT:
        first = arrays["matrix"].ravel()[:8]
        return {f"element {number}": first[number : number + 1] for number in range(8)}
    if kind == SEVERAL_ELEMENTS:
        return {name: array for name, array in arrays.items() if array.size != 1}
    return {"matrix": arrays["matrix"]} if kind == LONE else arrays


class Replayed:
    """A recorded run as a side of a lockstep."""

    def __init__(self, recorded: Recorded) -> None:
        self.states: list[dict[str, Any]] = recorded.states
        self.steps = 0

    def step(self, grads: Arrays) -> None:
        self.steps += 1

    def tensors(self) -> dict[str, Any]:
        return self.states[self.steps]


class Ours:
    """Our side of the comparison: ``numpy_ref``, or the torch class with one of its engines.

    It steps with denormal numbers made zero, as XLA does, unless ``flush`` is False, and with the
    learning rates that the package's schedule gave.
    """

    def __init__(self, recorded: Recorded, engine: str, flush: bool) -> None:
        configuration = recorded.case.configuration
        if recorded.case.scheduled:
            options = configuration.options | {"lr": START}
            configuration = Configuration(configuration.known, options)
        self.rates: Iterator[float] = iter(recorded.rates)
        self.flush = flush
        self.side: NumpySide | TorchSide
        if engine == REFERENCE:
            self.side = workload.numpy_side(configuration.reference(), recorded.params)
            self.group = self.side.optimizer.hyper  # type: ignore[attr-defined]
        else:
            factory = partial(configuration.ours, **ENGINES[engine])
            self.side = workload.torch_side(factory, recorded.params)
            (self.group,) = self.side.optimizer.param_groups
        self.tensors = self.side.tensors
        self.copy_from = self.side.copy_from

    def step(self, grads: Arrays) -> None:
        self.group["lr"] = next(self.rates, self.group["lr"])
        if self.flush:
            with flushed():
                self.side.step(grads)
        else:
            self.side.step(grads)


def compare(
    recorded: Recorded, engine: str, *, each_step: bool = True, flush: bool = True
) -> ParityReport:
    """Compare our side with the run. ``each_step``: take each step from the package's state."""
    left, right = Ours(recorded, engine, flush), Replayed(recorded)
    before_step = partial(left.copy_from, right) if each_step else lambda: None
    return in_lockstep(left, right, recorded.gradients, before_step)


def against_rows(
    package: str,
    optimizers: Sequence[str] | None = None,
    dtypes: Sequence[str] = ("float32", "float64"),
    steps: int = 1000,
    seed: int = 0,
    engines: Sequence[str] = tuple(ENGINES),
) -> Iterator[Row]:
    """Measure every case of ``optimizers`` (all of the package), by each engine and in NumPy."""
    for case in cases(names_of(package) if optimizers is None else optimizers):
        for dtype in dtypes:
            recorded = record(case, dtype, steps, seed)
            for engine in (*engines, REFERENCE):
                yield make_row(recorded, engine, dtype, compare(recorded, engine))


def make_row(recorded: Recorded, engine: str, dtype: str, report: ParityReport) -> Row:
    case = recorded.case
    bound_on, bound = stated_bound(case)
    differs = report.first_divergent_step is not None and not report.formulas_differ
    return Row.of(
        report,
        optimizer=case.configuration.name,
        dialect=case.configuration.dialect,
        engine=engine,
        dtype=dtype,
        device="cpu",
        options=case.shown,
        against=case.configuration.dialect,
        bound_on=bound_on,
        bound=bound if can_flush() else None,
        at_fault=recorded.at_fault if differs else {},
    )


def stated_bound(case: Case) -> tuple[str, float | None]:
    """The measure that is bounded, and its bound: 0 ULP, except where XLA rounds in its own way.

    XLA does so in Optax' ``rsqrt``, and sometimes in the bias correction, where it divides while
    our formula multiplies by the reciprocal, or the reverse. Without ``x64`` that happens if there
    is only one array; with ``x64`` for arrays of one element, and before JAX 0.10 for all arrays. A
    step may then be off by a few units in the last place, or by more where momentum cancels the
    step. A centered variance is the difference of two corrected numbers, which may cancel
    altogether: no bound.
    """
    name, options = case.configuration.name, case.configuration.options
    correction = case.arrays in (ONE_ELEMENT, LONE) or (options.get("x64") and xla_is_exact())
    rsqrt = name == "optax.Adagrad" or (
        name == "optax.RMSprop" and options.get("eps_in_sqrt", True)
    )
    if correction and options.get("centered"):
        return "max_step_error", None
    if correction or rsqrt:
        return "max_step_error", 64 if options.get("momentum") or options.get("nesterov") else 8
    return "max_ulp", 0
