"""Keras and Optax themselves, as sides of a lockstep: loaded when asked for, on the CPU."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import Any

import numpy as np
import torch

from numpy_ref.optax import corrected
from torchopt_ref.errors import UserError, first_line
from torchopt_ref.optim.dialect import Dialect
from torchopt_ref.optim.moving import KERAS_SLOTS, OPTAX_SLOTS
from torchopt_ref.sides import Arrays

from .operations import Tally

PROVEN = {
    "keras": ("3.12.4", "3.15.1"),
    "optax": ("0.2.8",),
    "jax": ("0.6.2", "0.10.2", "0.12.0.1"),
}
"""The packages, and the versions for which the bounds of ``against`` were measured."""

START, STEPS, FACTOR = 0.01, 100, 0.5
"""The learning rates of a scheduled case: START at first, multiplied by FACTOR in STEPS steps."""
SCHEDULE = f"{START} * {FACTOR} ** (step / {STEPS})"


def load(package: str) -> ModuleType:
    """``keras`` on its JAX backend, ``optax`` or ``jax``; ``UserError`` where that cannot be.

    The backend of a Keras that has been imported before cannot be changed.
    """
    if package != "jax":
        load("jax")
    backend = os.environ.get("KERAS_BACKEND")
    os.environ["KERAS_BACKEND"] = "jax"
    try:
        module = import_module(package)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name or package} is not installed: pip install 'torchopt-ref[dialects]'"
        ) from error
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"{package} cannot be imported ({first_line(error)}): "
            "pip install --upgrade 'torchopt-ref[dialects]'"
        ) from error
    finally:
        if backend is None:
            del os.environ["KERAS_BACKEND"]
        else:
            os.environ["KERAS_BACKEND"] = backend
    if package == "keras" and (found := module.config.backend()) != "jax":
        raise UserError(
            f"this process has imported Keras with the backend {found!r}: "
            "compare in a new process, or with KERAS_BACKEND=jax"
        )
    return module


def heading(package: str) -> list[str]:
    """The lines above the table: versions, and how denormal numbers are treated."""
    load(package)
    used = {name: version(name) for name in (package, "jax")}
    lines = [", ".join(f"{name} {found}" for name, found in used.items()) + ": eager, on the CPU"]
    lines += [
        f"note: the bounds are proven for {name} {', '.join(PROVEN[name])}"
        for name, found in used.items()
        if found not in PROVEN[name]
    ]
    lines.append(
        "denormal numbers are zero on both sides, as XLA has it"
        if can_flush()
        else "note: XLA makes denormal numbers zero, and torch cannot do so on this processor: "
        "they may differ, and no bound is stated"
    )
    return lines


def xla_is_exact() -> bool:
    """Whether JAX is older than 0.10: then XLA keeps divisions, and rounds ``rsqrt`` exactly."""
    major, minor = version("jax").split(".")[:2]
    return (int(major), int(minor)) < (0, 10)


@contextmanager
def jax_mode(x64: bool) -> Iterator[None]:
    """A context in which JAX computes on the CPU, in 64 bits or in its default of 32."""
    jax = load("jax")
    # Before JAX 0.8 it was in another module.
    enable_x64 = (jax if hasattr(jax, "enable_x64") else load("jax.experimental")).enable_x64
    try:
        cpu = jax.devices("cpu")[0]
    except RuntimeError as error:
        raise UserError(f"JAX has no CPU ({first_line(error)}): unset JAX_PLATFORMS") from error
    with enable_x64(x64), jax.default_device(cpu), jax.disable_jit(False):
        yield


@contextmanager
def keras_mode(x64: bool) -> Iterator[None]:
    """``jax_mode`` with Keras' ``floatx``, the dtype of its learning rate, at its default."""
    keras = load("keras")
    floatx = keras.config.floatx()
    keras.config.set_floatx("float32")
    try:
        with jax_mode(x64):
            yield
    finally:
        keras.config.set_floatx(floatx)


def flushes() -> bool:
    """Whether this thread makes denormal numbers zero; torch can set that, but cannot be asked."""
    return sys.float_info.min / 2 == 0


@contextmanager
def flushed() -> Iterator[None]:
    """A context in which this thread makes denormal numbers zero, as XLA's threads do."""
    before = flushes()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def can_flush() -> bool:
    with flushed():
        return flushes()


def their_options(ours: type[Dialect], options: dict[str, Any]) -> dict[str, Any]:
    """The options under the package's names. ``x64`` is left out: it is a setting of JAX."""
    names = {mine: theirs for theirs, mine in ours.names.items()}
    found: dict[str, Any] = {}
    for name, value in options.items():
        if name == "betas":
            found |= {names[f"betas[{i}]"]: float(beta) for i, beta in enumerate(value)}
        elif name != "x64":
            found[names.get(name, name)] = value if isinstance(value, bool) else float(value)
    return found


class Package:
    """A package's own optimizer with its parameters, as the counterpart of our class ``ours``.

    ``options`` have our names; for one that is not given the package's default holds. With
    ``scheduled`` the learning rate follows a schedule of the package, made of ``START``, ``STEPS``
    and ``FACTOR``.
    ``x64`` says whether JAX computes in 64 bits, as it must for float64.
    """

    mode: Callable[[bool], Any]

    def __init__(
        self,
        ours: type[Dialect],
        options: dict[str, Any],
        params: Arrays,
        x64: bool = False,
        scheduled: bool = False,
    ) -> None:
        self.ours: type[Dialect] = ours
        self.x64: bool = x64
        self.steps = 0
        with self.mode(x64):
            self.make(their_options(ours, options), params, scheduled)

    def step(self, grads: Arrays) -> None:
        with self.mode(self.x64):
            self.update(grads)
        self.steps += 1

    def tensors(self) -> dict[str, dict[str, np.ndarray]]:
        """Parameters and slots under the names that they have here."""
        with self.mode(self.x64):
            found = self.arrays()
        if self.ours.rule.counts:
            for slots in found.values():
                slots["step"] = np.asarray(self.steps)
        return found

    def make(self, options: dict[str, Any], params: Arrays, scheduled: bool) -> None:
        raise NotImplementedError

    def update(self, grads: Arrays) -> None:
        raise NotImplementedError

    def arrays(self) -> dict[str, dict[str, np.ndarray]]:
        raise NotImplementedError

    def next_lr(self) -> float:
        """The learning rate that the package's schedule gives for the step to come."""
        raise NotImplementedError


class KerasSide(Package):
    """For float32 parameters a schedule is Keras' own. For float64 its learning rates are assigned
    to Keras' float32 variable, as Keras' callbacks do: the schedule itself would give float64.
    """

    mode = staticmethod(keras_mode)

    def make(self, options: dict[str, Any], params: Arrays, scheduled: bool) -> None:
        keras = load("keras")
        self.schedule: Any = keras.optimizers.schedules.ExponentialDecay(START, STEPS, FACTOR)
        wide = any(array.dtype == np.float64 for array in params.values())
        self.assigns: bool = scheduled and wide
        if scheduled:
            options["learning_rate"] = START if self.assigns else self.schedule
        self.variables: dict[str, Any] = {
            name: keras.Variable(array, dtype=array.dtype.name, name=f"p{number}")
            for number, (name, array) in enumerate(params.items())
        }
        self.optimizer: Any = getattr(keras.optimizers, self.ours.__name__)(**options)
        self.optimizer.build([*self.variables.values()])

    def update(self, grads: Arrays) -> None:
        if self.assigns:
            self.optimizer.learning_rate = float(self.schedule(self.steps))
        asarray = load("jax.numpy").asarray
        self.optimizer.apply([asarray(grads[name]) for name in self.variables])

    def arrays(self) -> dict[str, dict[str, np.ndarray]]:
        found = {
            name: {"param": np.array(variable.value)} for name, variable in self.variables.items()
        }
        for slot, attribute in KERAS_SLOTS[self.ours.__name__].items():
            # Where the options make the slot needless, Keras has no such list, or leaves it empty.
            column = getattr(self.optimizer, attribute, [])
            for name, variable in zip(found, column, strict=bool(column)):
                found[name][slot] = np.array(variable.value)
        return found

    def next_lr(self) -> float:
        with self.mode(self.x64):
            return float(self.schedule(self.steps))


class OptaxSide(Package):
    mode = staticmethod(jax_mode)

    def make(self, options: dict[str, Any], params: Arrays, scheduled: bool) -> None:
        optax, asarray = load("optax"), load("jax.numpy").asarray
        self.schedule: Any = optax.exponential_decay(START, STEPS, FACTOR)
        # Optax has no default for the learning rate, and its momentum is off when it is None.
        options = {"learning_rate": 0.001} | options
        if scheduled:
            options["learning_rate"] = self.schedule
        if options.get("momentum") == 0:
            del options["momentum"]
        self.transformation: Any = getattr(optax, self.ours.__name__.lower())(**options)
        self.params = {name: asarray(array) for name, array in params.items()}
        self.state = self.transformation.init(self.params)

    def update(self, grads: Arrays) -> None:
        asarray = load("jax.numpy").asarray
        given = {name: asarray(grads[name]) for name in self.params}
        updates, self.state = self.transformation.update(given, self.state, self.params)
        self.params = load("optax").apply_updates(self.params, updates)

    def arrays(self) -> dict[str, dict[str, np.ndarray]]:
        slots = dict(slots_in(self.state))
        return {
            name: {"param": np.array(param)}
            | {slot: np.array(column[name]) for slot, column in slots.items()}
            for name, param in self.params.items()
        }

    def next_lr(self) -> float:
        with self.mode(self.x64):
            return float(self.schedule(load("jax.numpy").asarray(self.steps, "int32")))


def slots_in(state: Any) -> Iterator[tuple[str, Any]]:
    """The slots in Optax' state, which is made of nested tuples and named tuples."""
    for field, slot in OPTAX_SLOTS.get(type(state).__name__, {}).items():
        yield slot, getattr(state, field)
    for part in state if isinstance(state, tuple) else ():
        yield from slots_in(part)


SIDES: dict[str, type[Package]] = {"keras": KerasSide, "optax": OptaxSide}


class XlaAudit:
    """A context in which NumPy repeats the operations of Optax that XLA rounds in its own way.

    These are ``jax.lax.rsqrt``, compared with ``1 / sqrt(x)``, and the bias correction, for which
    XLA divides or multiplies by the reciprocal. ``tallies`` says how often the results differed.
    With ``exact`` the package gets NumPy's results: if both sides then agree, nothing else differs.
    """

    RSQRT = "rsqrt"
    CORRECTION = "bias correction"

    def __init__(self, exact: bool = False) -> None:
        self.exact = exact
        self.tallies: dict[str, Tally] = {}

    def __enter__(self) -> "XlaAudit":
        self.jax: ModuleType = load("jax")
        self.patches: ExitStack = ExitStack()
        lax, tree = self.jax.lax, load("optax").tree
        rsqrt, bias_correction = lax.rsqrt, tree.bias_correction

        def audited_rsqrt(x: Any) -> Any:
            return self.audited(self.RSQRT, rsqrt(x), lambda: 1 / np.sqrt(np.asarray(x)))

        def audited_correction(moments: Arrays, decay: float, count: Any) -> Arrays:
            x64 = bool(self.jax.config.jax_enable_x64)
            results = bias_correction(moments, decay, count)

            def should_be(moment: Any) -> np.ndarray:
                return corrected(np.asarray(moment), decay, int(count), x64)

            return {
                name: self.audited(self.CORRECTION, results[name], partial(should_be, moment))
                for name, moment in moments.items()
            }

        self.patches.enter_context(replaced(lax, "rsqrt", audited_rsqrt))
        self.patches.enter_context(replaced(tree, "bias_correction", audited_correction))
        return self

    def __exit__(self, *error: object) -> None:
        self.patches.close()

    def audited(self, name: str, result: Any, expected: Callable[[], np.ndarray]) -> Any:
        with flushed(), np.errstate(all="ignore"):
            should_be = expected()
        self.tallies.setdefault(name, Tally()).count(np.asarray(result), should_be)
        return self.jax.numpy.asarray(should_be) if self.exact else result

    def at_fault(self) -> dict[str, Tally]:
        return {name: tally for name, tally in self.tallies.items() if tally.different}


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
