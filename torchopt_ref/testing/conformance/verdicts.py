"""How a check ends early: it failed, or it does not apply."""

import re
import unittest
from collections.abc import Iterator
from contextlib import contextmanager

from torchopt_ref.errors import short_line


class Failure(AssertionError):
    """a promise was broken; the message says what was seen, in numbers"""


class Skip(unittest.SkipTest):
    """a check does not apply; the message says why (pytest reports it as skipped)"""


def require(holds: object, seen: str) -> None:
    if not holds:
        raise Failure(seen)


@contextmanager
def refusal(words: str) -> Iterator[None]:
    """Skip, if the optimizer itself says that it does not take what it is given.

    That is: ``NotImplementedError``, or an error whose message matches ``words`` or speaks of
    support. Any other error is a crash, and passes through. So does, whatever its message says, an
    error that nobody raises on purpose: a missing key or attribute, a division by zero.
    """
    try:
        yield
    except (Failure, Skip, LookupError, AttributeError, ArithmeticError):
        raise
    except Exception as error:
        says_so = re.search(f"{words}|support|not implemented", str(error), re.IGNORECASE)
        if says_so or isinstance(error, NotImplementedError):
            raise Skip(f"refused: {short_line(error)}") from error
        raise
