"""Numbers as people write them."""

import math

import pytest

from torchopt_ref.written import counted, number

WRITTEN = {
    110.4: "110",
    1066.0: "1,100",
    999999.0: "1,000,000",
    9999999.0: "1e7",
    5.678: "5.7",
    0.5: "0.5",
    0.00012345: "0.00012",
    0.000056: "5.6e-5",
    1.8e27: "1.8e27",
    -42.0: "-42",
    9.96: "10",
    0.0: "0",
    math.inf: "inf",
    math.nan: "nan",
}


@pytest.mark.parametrize(("value", "text"), WRITTEN.items())
def test_two_digits_without_an_exponent_where_people_use_none(value, text):
    assert number(value) == text


def test_zero_has_no_sign():
    assert number(-0.0) == "0"


def test_more_or_fewer_digits():
    assert [number(1234.56, digits) for digits in (1, 4, 6)] == ["1,000", "1,235", "1,234.56"]


def test_one_is_not_many():
    assert [counted(n, "step") for n in (0, 1, 1200)] == ["0 steps", "1 step", "1,200 steps"]
