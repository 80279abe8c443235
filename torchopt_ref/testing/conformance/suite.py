"""The checks applied to an optimizer: one by one for pytest, or all at once for a report."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from torchopt_ref.errors import UserError, short_line, unknown
from torchopt_ref.sides import name_of

from .checks import CHECKS, SLOW_CHECKS, CheckFunction
from .reference import require_makeable
from .report import EXPECTED, FAILED, PASSED, SKIPPED, ConformanceReport, Result
from .subject import Subject
from .traits import PLAIN, Traits
from .verdicts import Failure, Skip


@dataclass(frozen=True)
class Check:
    """One promise, bound to one optimizer. ``str(check)`` is a readable id.

    Calling it raises ``AssertionError`` (what was seen) if the promise is broken, and
    ``unittest.SkipTest`` (why) if it does not apply: in pytest, a failed and a skipped test.
    Where it is expected to fail, a broken promise is an xfailed test (without pytest a skipped
    one), and a promise that is kept raises ``AssertionError``.
    """

    function: CheckFunction
    subject: Subject
    left_out: str | None = None
    expected: str | None = None
    """The reason why it is expected to fail."""

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def promise(self) -> str:
        """What is promised, and why users need it."""
        return inspect.cleandoc(self.function.__doc__ or "").partition("\n\nRemedy: ")[0]

    @property
    def remedy(self) -> str:
        """What helps where the promise is broken."""
        text = inspect.cleandoc(self.function.__doc__ or "").partition("\n\nRemedy: ")[2]
        return " ".join(text.split())

    def __str__(self) -> str:
        return self.name

    def __call__(self) -> str | None:
        """Run the check; what it returns is a measurement worth reading."""
        if not self.expected:
            return self.run()
        result = self.result()
        if result.outcome == FAILED:
            raise Failure(result.detail)
        if result.outcome == EXPECTED and "pytest" in sys.modules:
            sys.modules["pytest"].xfail(result.detail)
        raise Skip(result.detail)

    def run(self) -> str | None:
        if self.left_out:
            raise Skip(self.left_out)
        with (
            torch.random.fork_rng(devices=[]),
            torch.enable_grad(),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            return self.function(self.subject)

    def result(self) -> Result:
        """Run the check and tell how it ended."""
        outcome, detail = self.ending()
        if self.expected and outcome == FAILED:
            outcome, detail = EXPECTED, f"{self.expected} ({detail})"
        elif self.expected and outcome == PASSED:
            outcome, detail = FAILED, f"passed, but was expected to fail: {self.expected}"
        promise = " ".join(self.promise.partition("\n\n")[0].split())
        stale = outcome == FAILED and self.expected
        remedy = "expect it no longer: leave out its --expect." if stale else self.remedy
        return Result(self.name, outcome, detail, promise, remedy)

    def ending(self) -> tuple[str, str]:
        """How the check ends, whatever was expected, and what is to be said of it."""
        try:
            return PASSED, self.run() or ""
        except Skip as why:
            return SKIPPED, str(why)
        except Failure as seen:
            return FAILED, str(seen)
        except (Exception, SystemExit) as error:
            return FAILED, f"raised {type(error).__name__}: {short_line(error)}"


def optimizer_checks(
    factory: Callable[..., torch.optim.Optimizer],
    reference: Callable[..., Any] | None = None,
    *,
    traits: Traits = PLAIN,
    slow: bool = False,
    max_ulp: int | None = 0,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Check]:
    """Every check for an optimizer: ``pytest.mark.parametrize("check", ..., ids=str)``.

    The arguments are those of ``check_optimizer``. Raises ``UserError`` for an expected failure of
    an unknown check, or without a reason. A reference that cannot be made is not found here; the
    checks that use it fail.
    """
    subject = Subject(factory, traits, reference, max_ulp)
    expected = dict(expected_failures or {})
    names = [function.__name__ for function in (*CHECKS, *SLOW_CHECKS)]
    for name, why in expected.items():
        if name not in names:
            raise unknown("check", name, names)
        if not why.strip():
            raise UserError(f"no reason why {name} is expected to fail: give one")
    left_out = None if slow else "slow: ask for it with slow=True or --slow"
    return [
        *(Check(each, subject, None, expected.get(each.__name__)) for each in CHECKS),
        *(Check(each, subject, left_out, expected.get(each.__name__)) for each in SLOW_CHECKS),
    ]


def check_optimizer(
    factory: Callable[..., torch.optim.Optimizer],
    reference: Callable[..., Any] | None = None,
    *,
    traits: Traits = PLAIN,
    slow: bool = False,
    max_ulp: int | None = 0,
    expected_failures: Mapping[str, str] | None = None,
) -> ConformanceReport:
    """Check an optimizer against what ``torch.optim.Optimizer`` promises its users.

    Args:
        factory: makes the optimizer of parameters: its class, or any callable. Bind options with
            ``functools.partial``, so that flags such as ``maximize`` remain visible and are tried.
        reference: makes an optimizer of the same formula: a class of ``torch.optim``, or a NumPy
            optimizer (see ``check_parity``). It gets the options that both have, as the optimizer
            has them; bind others with ``functools.partial``.
        traits: what the optimizer is by design; checks that this makes meaningless are skipped.
        slow: also run the checks that take seconds (``torch.compile``).
        max_ulp: how far from the reference a parameter or slot may be, in units in the last place;
            None where only the formula is of interest.
        expected_failures: the names of checks that are known to fail, each with the reason. The
            report does not count such a failure; if such a check passes, that counts as a failure.

    Returns:
        The report; ``print(report)`` shows it as a table.

    Raises:
        TypeError: the factory makes something else than a ``torch.optim.Optimizer``.
        Exception: what the factory raises on ordinary float32 parameters.
        UserError: a reference that cannot be made; an expected failure of an unknown check, or
            without a reason.
    """
    checks = optimizer_checks(
        factory,
        reference,
        traits=traits,
        slow=slow,
        max_ulp=max_ulp,
        expected_failures=expected_failures,
    )
    subject = Subject(factory, traits)
    made: Any = subject.build(subject.parameters())
    if not isinstance(made, torch.optim.Optimizer):
        raise TypeError(
            f"{name_of(factory)} makes a {type(made).__name__}, not a torch.optim.Optimizer"
        )
    if reference is not None:
        require_makeable(reference, subject)
    return ConformanceReport(name_of(factory), [check.result() for check in checks])
