"""Parametrizations that are not a whole product."""

import pytest


def only(usual, cases):
    """The cases, of which all but the usual ones are slow; a case of several values is a tuple."""
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=() if case in usual else pytest.mark.slow,
        )
        for case in cases
    ]


def in_turn(cases, others):
    """Each of the cases with one of the others, which take turns; with the rest it is slow."""

    def name(value):
        return getattr(value, "__name__", str(value))

    others = list(others)
    return [
        pytest.param(
            case,
            other,
            id=f"{name(case)}-{name(other)}",
            marks=() if number % len(others) == place else pytest.mark.slow,
        )
        for number, case in enumerate(cases)
        for place, other in enumerate(others)
    ]
