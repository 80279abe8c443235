"""Parametrizations of which only a part is run by default: the rest is slow."""

import itertools

import pytest


def only(usual, cases):
    """The cases, of which all but the usual ones are slow; a case of several values is a tuple."""
    return [
        pytest.param(
            *(case if type(case) is tuple else (case,)),
            marks=() if case in usual else pytest.mark.slow,
        )
        for case in cases
    ]


def in_turn(cases, others, usual=lambda case: True):
    """Each of the usual cases with one of the others, which take turns; all else is slow."""

    def name(value):
        return getattr(value, "__name__", str(value))

    cases, turn = list(cases), itertools.cycle(others)
    partner = {number: next(turn) for number, case in enumerate(cases) if usual(case)}
    return [
        pytest.param(
            case,
            other,
            id=f"{name(case)}-{name(other)}",
            marks=() if number in partner and partner[number] == other else pytest.mark.slow,
        )
        for number, case in enumerate(cases)
        for other in others
    ]
