"""This project's optimizers pass; those of ``torch.optim`` but for what is documented."""

import functools

import pytest
import torch

from tests.thinned import only
from torchopt_ref.sides import BY_NAME, KNOWN
from torchopt_ref.testing import Traits, check_optimizer

TRAITS = {
    "LBFGS": Traits(needs_closure=True, couples_parameters=True, history=True),
    "Muon": Traits(two_dimensional_only=True),
    "Rprop": Traits(lr_free=True),
    "SparseAdam": Traits(sparse_only=True),
}

OPTIONS = {"LBFGS": {"max_iter": 3}}
"""With LBFGS' default of 20 iterations in a step the same is found, four times as slowly."""

FINDINGS = {
    "ASGD": {
        "bfloat16_state_keeps_its_dtype_through_load",
        "scheduled_lr_is_obeyed_at_the_next_step",
    },
    "Adafactor": {
        "empty_parameter_is_harmless",
        "large_float16_gradients_leave_parameters_finite",
    },
    "LBFGS": {
        "deepcopy_is_independent",
        "large_float16_gradients_leave_parameters_finite",
        "non_contiguous_parameters_train_alike",
        "pickle_is_independent",
    },
    "NAdam": {"bfloat16_state_keeps_its_dtype_through_load"},
    "SparseAdam": {"large_float16_gradients_leave_parameters_finite"},
}
"""What torch 2.14 does not keep; docs/conformance-survey.md has a script for each."""

TORCHS = [
    name for name, cls in vars(torch.optim).items() if isinstance(cls, type) and name != "Optimizer"
]


def failed(report):
    return {result.check for result in report.results if result.outcome == "failed"}


# Every dialect and every method; each formula is compared in tests/testing/parity, too.
OURS = ("SGD", "book.AdaGrad", "keras.RMSprop", "optax.AdamW")


@pytest.mark.parametrize("name", only(OURS, BY_NAME))
def test_this_projects_optimizers_pass_and_equal_their_reference(name):
    known = BY_NAME[name]
    report = check_optimizer(known.ours, known.reference)
    assert report.passed, report


# SGD and Adam are checked by the command's tests, without any failure.
OF_EACH_KIND = ("SparseAdam", "LBFGS")


@pytest.mark.parametrize("name", only(OF_EACH_KIND, TORCHS))
def test_torchs_optimizers_fail_at_most_what_is_documented(name):
    """At most: another release of torch may have mended it."""
    factory = functools.partial(getattr(torch.optim, name), **OPTIONS.get(name, {}))
    report = check_optimizer(factory, traits=TRAITS.get(name, Traits()))
    assert failed(report) <= FINDINGS.get(name, set()), report


COMPILED = [
    *(known.ours for known in KNOWN),
    *(getattr(torch.optim, name) for name in TORCHS if name not in TRAITS),
]


def named(factory):
    return f"{factory.__module__}.{factory.__qualname__}"


# The check is seen to pass and to fail in test_checks_bite.py; our compiled steps are compared with
# eager ones in tests/integration/test_compile.py.
@pytest.mark.slow
@pytest.mark.parametrize("factory", COMPILED, ids=named)
def test_compiled_steps_equal_eager_ones(factory):
    report = check_optimizer(factory, slow=True)
    assert report.results[-1].check == "compiled_step_equals_eager"
    assert report.results[-1].outcome == "passed", report
