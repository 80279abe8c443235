"""The checks applied to an optimizer: one by one for pytest, or all at once for a report."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ..parity import Reference
from .checks import CHECKS, SLOW_CHECKS, CheckFunction
from .report import FAILED, PASSED, SKIPPED, Report, Result
from .subject import Subject, name_of
from .traits import PLAIN, Traits
from .verdicts import Failure, Skip, one_line


@dataclass(frozen=True)
class Check:
    """One promise, bound to one optimizer. ``str(check)`` is a readable id.

    Calling it raises ``AssertionError`` (what was seen) if the promise is broken, and
    ``unittest.SkipTest`` (why) if it does not apply: in pytest, a failed and a skipped test.
    """

    function: CheckFunction
    subject: Subject
    left_out: str | None = None

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def promise(self) -> str:
        """What is promised, and why users need it."""
        return inspect.cleandoc(self.function.__doc__ or "")

    def __str__(self) -> str:
        return self.name

    def __call__(self) -> str | None:
        """Run the check; what it returns is a measurement worth reading."""
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
        try:
            return Result(self.name, PASSED, self() or "")
        except Skip as why:
            return Result(self.name, SKIPPED, str(why))
        except Failure as seen:
            return Result(self.name, FAILED, str(seen))
        except Exception as error:
            return Result(self.name, FAILED, f"raised {type(error).__name__}: {one_line(error)}")


def optimizer_checks(
    factory: Callable[..., torch.optim.Optimizer],
    reference: Callable[[], Reference] | None = None,
    *,
    traits: Traits = PLAIN,
    slow: bool = False,
    max_ulp: int = 0,
) -> Iterator[Check]:
    """Yield every check for an optimizer: ``pytest.mark.parametrize("check", ..., ids=str)``.

    The arguments are those of ``check_optimizer``.
    """
    subject = Subject(factory, traits, reference, max_ulp)
    yield from (Check(function, subject) for function in CHECKS)
    left_out = None if slow else "slow: ask for it with slow=True or --slow"
    yield from (Check(function, subject, left_out) for function in SLOW_CHECKS)


def check_optimizer(
    factory: Callable[..., torch.optim.Optimizer],
    reference: Callable[[], Reference] | None = None,
    *,
    traits: Traits = PLAIN,
    slow: bool = False,
    max_ulp: int = 0,
) -> Report:
    """Hold an optimizer against what ``torch.optim.Optimizer`` promises its users.

    Args:
        factory: makes the optimizer of parameters: its class, or any callable. Bind options with
            ``functools.partial``, so that flags such as ``maximize`` remain visible and are tried.
        reference: makes the NumPy optimizer of the same formula (its class); see ``check_parity``.
        traits: what the optimizer is by design; checks that this makes meaningless are skipped.
        slow: also run the checks that take seconds (``torch.compile``).
        max_ulp: how far from the reference a parameter or slot may be, in units in the last place.

    Returns:
        The report; ``print(report)`` shows it as a table.

    Raises:
        TypeError: the factory makes something else than a ``torch.optim.Optimizer``.
        Exception: what the factory raises on ordinary float32 parameters.
    """
    subject = Subject(factory, traits)
    made: Any = subject.build(subject.parameters())
    if not isinstance(made, torch.optim.Optimizer):
        raise TypeError(
            f"{name_of(factory)} makes a {type(made).__name__}, not a torch.optim.Optimizer"
        )
    checks = optimizer_checks(factory, reference, traits=traits, slow=slow, max_ulp=max_ulp)
    return Report(name_of(factory), [check.result() for check in checks])
