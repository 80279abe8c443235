"""Each check sees the defect that it is for, and no check sees what is not there."""

import pytest

from tests.testing.conformance.broken_optimizers import BROKEN
from tests.testing.conformance.healthy_optimizer import Healthy, HealthyReference
from torchopt_ref.testing.conformance import check_optimizer, optimizer_checks
from torchopt_ref.testing.conformance.checks import CHECKS, SLOW_CHECKS

NEED_A_GPU = {"loads_onto_another_device", "step_does_not_synchronize"}


def failed(report):
    return {result.check for result in report.results if result.outcome == "failed"}


def test_a_healthy_optimizer_passes_every_check():
    report = check_optimizer(Healthy, HealthyReference, slow=True)
    skipped = {result.check for result in report.results if result.outcome == "skipped"}
    assert report.passed, report
    assert skipped <= NEED_A_GPU, report


by_defect = pytest.mark.parametrize("cls", BROKEN, ids=lambda cls: cls.__name__)


@by_defect
def test_a_defect_is_seen_by_its_checks(cls):
    checks, options = BROKEN[cls]
    outcomes = {
        check.name: check.result().outcome
        for check in optimizer_checks(cls, **options)
        if check.name in checks
    }
    assert outcomes == dict.fromkeys(checks, "failed")


@pytest.mark.slow
@by_defect
def test_a_defect_is_seen_by_no_other_check(cls):
    checks, options = BROKEN[cls]
    report = check_optimizer(cls, **options)
    assert failed(report) == checks, report


def test_every_check_has_a_defect_that_it_sees():
    seen = set().union(*(checks for checks, _ in BROKEN.values()))
    named = {function.__name__ for function in (*CHECKS, *SLOW_CHECKS)}
    assert seen | NEED_A_GPU == named


@pytest.mark.parametrize("check", optimizer_checks(Healthy, HealthyReference), ids=str)
def test_every_check_says_what_is_promised_and_why(check):
    promise, _, why = check.promise.partition("\n\n")
    assert promise.endswith(".")
    assert why.strip()
