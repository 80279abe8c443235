"""The two ways to use the checks in Python: a report, and one pytest test per promise."""

import functools
import json
import textwrap
import unittest

import pytest
import torch

import numpy_ref.book as numpy_book
import numpy_ref.optimizers as numpy_optimizers
from tests.testing.conformance.broken_optimizers import ReturnsNothing, WideSlots
from tests.testing.conformance.healthy_optimizer import Healthy
from tests.thinned import only
from torchopt_ref.errors import UserError, short_line
from torchopt_ref.sides import BY_NAME
from torchopt_ref.testing import Traits, check_optimizer, optimizer_checks
from torchopt_ref.testing.conformance.hints import hint_for
from torchopt_ref.testing.conformance.verdicts import Skip, refusal


def result_of(report, check):
    return next(result for result in report.results if result.check == check)


def check_named(name, *args, **kwargs):
    return next(check for check in optimizer_checks(*args, **kwargs) if str(check) == name)


def test_the_report_is_a_table_and_plain_values():
    report = check_optimizer(ReturnsNothing)
    *others, blank, line, promise, remedy, _, summary = str(report).splitlines()
    assert len(others) == len(report.results) - 1
    assert not blank
    assert line == f"{'closure_loss_is_returned':<48} failed   step(closure) returned None"
    assert promise.startswith("    promise: ``step(closure)`` returns the loss")
    assert remedy.startswith("    remedy: end the step with ``return loss``")
    lines = [*others, summary]
    assert lines[-1].startswith("ReturnsNothing: ")
    assert "1 failed" in lines[-1]
    plain = json.loads(json.dumps(report.as_json()))
    assert plain["passed"] is False
    assert plain["optimizer"] == "ReturnsNothing"
    assert {"check", "outcome", "detail", "promise", "remedy"} == plain["results"][0].keys()


def test_a_check_passes_fails_and_skips_as_a_test_does():
    name = "closure_loss_is_returned"
    assert check_named(name, Healthy)() is None
    with pytest.raises(AssertionError, match="returned None"):
        check_named(name, ReturnsNothing)()
    with pytest.raises(unittest.SkipTest, match="no reference"):
        check_named("equals_its_reference", Healthy)()


def test_pytest_reports_each_outcome(outcomes_of):
    outcomes = outcomes_of(
        """
        import pytest
        import torch
        from torchopt_ref.testing import optimizer_checks

        KNOWN = {"bfloat16_state_keeps_its_dtype_through_load": "eta",
                 "descends_on_rosenbrock": "stale"}

        @pytest.mark.parametrize(
            "check", optimizer_checks(torch.optim.ASGD, expected_failures=KNOWN), ids=str
        )
        def test_conformance(check):
            check()
        """,
        *("scheduled_lr", "bfloat16", "descends", "equals_its"),
    )
    assert "scheduled_lr_is_obeyed_at_the_next_step] FAILED" in outcomes
    assert "bfloat16_state_keeps_its_dtype_through_load] XFAIL" in outcomes
    assert "descends_on_rosenbrock] FAILED" in outcomes
    assert "descends_on_a_quadratic] PASSED" in outcomes
    assert "equals_its_reference] SKIPPED" in outcomes


@pytest.fixture
def outcomes_of(starter, tmp_path):
    """Runs those tests of a file that one of the words names in a pytest of its own; its output."""

    def run(source, *words):
        file = tmp_path / "test_it.py"
        file.write_text(textwrap.dedent(source))
        chosen = ["-k", " or ".join(words), "--rootdir", tmp_path]
        code = "import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"
        log = tmp_path / "log"
        # No plugin is needed, and to import them takes longer than the tests.
        alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
        pid = starter.start(["-v", "-W", "error", file, *chosen], log=log, code=code, **alone)
        assert starter.wait(pid) == 1
        return log.read_text()

    return run


KNOWN = {"closure_loss_is_returned": "nobody logs it"}


def test_an_expected_failure_is_no_failure_and_keeps_its_reason():
    report = check_optimizer(ReturnsNothing, expected_failures=KNOWN)
    result = result_of(report, "closure_loss_is_returned")
    assert (result.outcome, report.passed) == ("expected", True)
    assert result.detail == "nobody logs it (step(closure) returned None)"
    assert report.summary().endswith("1 failed as expected")
    stale = check_named("closure_loss_is_returned", Healthy, expected_failures=KNOWN)
    assert stale.result().outcome == "failed"
    assert "passed, but was expected to fail: nobody logs it" in stale.result().detail
    assert stale.result().remedy == "expect it no longer: leave out its --expect."
    gone = check_named(
        "equals_its_reference", Healthy, expected_failures={"equals_its_reference": "?"}
    )
    assert gone.result().outcome == "skipped"


@pytest.mark.parametrize(
    ("expected", "said"),
    [({"closure_loss": "x"}, "unknown check 'closure_loss': did you mean 'closure_loss_is"),
     ({"closure_loss_is_returned": " "}, "no reason why closure_loss_is_returned is expected")],
)  # fmt: skip
def test_an_expectation_must_name_a_check_and_a_reason(expected, said):
    with pytest.raises(UserError, match=said):
        optimizer_checks(Healthy, expected_failures=expected)


class NeedsClosure(Healthy):
    def step(self, closure):
        return super().step(closure)


def test_one_cause_is_told_once_with_a_hint():
    text = str(check_optimizer(NeedsClosure))
    assert text.count("missing 1 required positional argument: 'closure'") == 1
    assert text.count("--traits needs_closure") == 1
    assert "remedy" not in text


class RaisesAPage(Healthy):
    def step(self, closure=None):
        if any(param.is_complex() for group in self.param_groups for param in group["params"]):
            raise RuntimeError(f"Could not run it. Available are {', '.join(['CPU'] * 500)}.")
        return super().step(closure)


def test_a_long_message_is_cut_to_its_first_sentence():
    result = check_named("complex_parameters_descend", RaisesAPage).result()
    assert result.detail == "raised RuntimeError: Could not run it."
    assert len(short_line(ValueError("x y " * 500))) <= 160


@pytest.mark.parametrize(
    ("message", "trait_or_option"),
    [
        ("SAM requires closure, but it was not provided", "needs_closure"),
        ("'NoneType' object is not callable", "needs_closure"),
        ("Muon only supports 2D parameters", "two_dimensional_only"),
        ("not enough values to unpack (expected 2, got 1)", "two_dimensional_only"),
        ("X does not support dense gradients", "sparse_only"),
        ("__init__() missing 1 required positional argument: 'lr'", "--kwargs"),
        ("0 active drivers ([]). There should only be one.", "--kwargs"),
        ("all parameters must have param_names", "named parameters"),
    ],
)
def test_errors_of_unusual_optimizers_have_a_hint(message, trait_or_option):
    assert trait_or_option in hint_for(message)
    assert hint_for("division by zero") is None


class WithoutDefaults:
    """A reference that must be told its lr, and has no other option."""

    def __init__(self, lr):
        self.lr, self.state = lr, {}

    def update(self, params, grads):
        for name, param in params.items():
            param -= self.lr * grads[name]


def test_the_reference_has_the_optimizers_options_and_differences_of_defaults_are_told():
    name = "has_the_formula_of_its_reference"
    mine = functools.partial(torch.optim.SGD, lr=0.5)
    detail = check_named(name, mine, numpy_optimizers.SGD).result()
    assert detail.outcome == "passed"
    assert detail.detail.endswith("not the reference's default: lr=0.5 (0.001)")
    other = functools.partial(numpy_optimizers.SGD, lr=0.25)
    assert check_named(name, mine, other).result().outcome == "failed"
    assert check_named(name, mine, WithoutDefaults).result().outcome == "passed"
    detail = check_named(name, torch.optim.Rprop, torch.optim.Rprop).result().detail
    assert "the reference has no" not in detail
    result = check_named(name, torch.optim.SGD, WithoutDefaults).result()
    assert result.detail.endswith("; the reference has no momentum, dampening, weight_decay, "
                                  "nesterov, maximize")  # fmt: skip


# tests/testing/parity compares all of them with torch's, too.
@pytest.mark.parametrize(
    "optimizer", only(["SGD", "Adam"], [name for name, known in BY_NAME.items() if known.torchs])
)
def test_torchs_formulas_are_those_of_the_reference(optimizer):
    known = BY_NAME[optimizer]
    name = "has_the_formula_of_its_reference"
    result = check_named(name, known.torchs, known.reference).result()
    assert result.outcome == "passed", result


@pytest.mark.parametrize(
    ("mine", "reference", "said"),
    [
        (torch.optim.AdamW, torch.optim.Adam, "differ with the defaults"),
        (torch.optim.Adam, numpy_optimizers.AdamW, "differ with weight_decay=0.1: "),
        (torch.optim.Adam, numpy_book.Adam, "not rounding: the formulas differ"),
    ],
)
def test_another_formula_is_told_with_the_options_that_show_it(mine, reference, said):
    result = check_named("has_the_formula_of_its_reference", mine, reference).result()
    assert result.outcome == "failed"
    assert said in result.detail


def test_a_known_name_without_a_reference_has_a_hint():
    result = check_named("has_the_formula_of_its_reference", torch.optim.Adam).result()
    assert result.detail.endswith("--reference Adam compares the formula")


class ScheduleFree(Healthy):
    training = False

    def train(self):
        self.training = True

    def step(self, closure=None):
        assert self.training
        return super().step(closure)


def test_an_optimizer_with_a_mode_of_training_is_put_into_it():
    assert check_named("descends_on_a_quadratic", ScheduleFree).result().outcome == "passed"


def test_what_a_factory_makes_must_be_an_optimizer():
    with pytest.raises(TypeError, match="makes a list, not a"):
        check_optimizer(lambda params: list(params))


def test_bound_arguments_are_used_and_flags_remain_visible():
    report = check_optimizer(functools.partial(Healthy, lr=0.0))
    assert report.optimizer == "Healthy(lr=0.0)"
    assert result_of(report, "descends_on_a_quadratic").outcome == "failed"
    assert result_of(report, "maximize_mirrors").outcome == "passed"


def test_a_flag_that_a_factory_hides_is_not_tried():
    report = check_optimizer(lambda params: Healthy(params))
    assert result_of(report, "maximize_mirrors").detail == "the constructor takes no maximize"


@pytest.mark.parametrize(
    ("trait", "check"),
    [
        ("lr_free", "lr_zero_moves_nothing"),
        ("lr_free", "scheduled_lr_is_obeyed_at_the_next_step"),
        ("couples_parameters", "nan_gradient_stays_where_it_is"),
        ("couples_parameters", "infinite_gradient_stays_where_it_is"),
        ("couples_parameters", "splitting_a_group_changes_nothing"),
        ("couples_parameters", "options_are_per_group"),
        ("couples_parameters", "order_of_parameters_changes_nothing"),
        ("stochastic", "order_of_parameters_changes_nothing"),
        ("stochastic", "complex_parameters_move_as_pairs_of_reals"),
        ("history", "steps_do_not_gather_memory"),
        ("two_dimensional_only", "scalar_parameter_trains"),
        ("needs_closure", "grad_scaler_skips_overflow"),
        ("needs_closure", "closure_gradients_are_used"),
    ],
)
def test_a_trait_skips_what_it_makes_meaningless(trait, check):
    assert check_named(check, Healthy).result().outcome == "passed"
    result = check_named(check, Healthy, traits=Traits.named([trait])).result()
    assert result.outcome == "skipped"
    assert trait in result.detail


class MatricesOnly(Healthy):
    def __init__(self, params, **options):
        super().__init__(params, **options)
        if any(param.ndim != 2 for group in self.param_groups for param in group["params"]):
            raise ValueError("a matrix is needed")


def test_two_dimensional_only_gives_it_matrices():
    check = check_named("runs_are_reproducible", MatricesOnly)
    assert check.result().outcome == "failed"
    traits = Traits(two_dimensional_only=True)
    check = check_named("runs_are_reproducible", MatricesOnly, traits=traits)
    assert check.result().outcome == "passed"


def test_an_unknown_trait_is_named_with_the_nearest():
    with pytest.raises(UserError, match="unknown trait 'stochastik': did you mean 'stochastic'"):
        Traits.named(["stochastik"])


def test_state_bytes_are_measured_and_checked_only_if_declared():
    name = "state_is_as_large_as_declared"
    assert check_named(name, torch.optim.Adam).result().detail.startswith("2 bytes")
    declared = check_named(name, torch.optim.Adam, traits=Traits(state_bytes=1)).result()
    assert declared.outcome == "failed"
    assert "declared 1" in declared.detail


class NoComplex(Healthy):
    def __init__(self, params, **options):
        super().__init__(params, **options)
        if any(param.is_complex() for group in self.param_groups for param in group["params"]):
            raise ValueError("NoComplex does not take complex parameters\nat all")


def test_a_refusal_is_a_skip_with_its_first_line():
    result = check_named("complex_parameters_descend", NoComplex).result()
    assert result.outcome == "skipped"
    assert result.detail == "refused: NoComplex does not take complex parameters"


@pytest.mark.parametrize("error", [IndexError("complex"), RuntimeError("boom"), KeyError("x")])
def test_a_crash_is_no_refusal(error):
    with pytest.raises(type(error)), refusal("complex"):
        raise error


@pytest.mark.parametrize("error", [NotImplementedError(), RuntimeError("no Complex numbers")])
def test_an_error_that_says_so_is_a_refusal(error):
    with pytest.raises(Skip, match="refused: "), refusal("complex"):
        raise error


def test_a_check_leaves_the_random_state_and_the_grad_mode():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    with torch.no_grad():
        assert check_optimizer(WideSlots).results
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.rand(1), expected)


class Noisy(Healthy):
    def direction(self, param, grad, group):
        return super().direction(param, grad, group) + 0.1 * torch.randn_like(param)


def test_an_optimizer_that_draws_gets_the_same_numbers_in_each_run():
    check = check_named("pickle_is_independent", Noisy, traits=Traits(stochastic=True))
    assert check.result().outcome == "passed"


def test_slow_checks_are_listed_but_left_out():
    *_, last = optimizer_checks(Healthy)
    assert last.result().outcome == "skipped"
    assert "slow=True" in last.result().detail
