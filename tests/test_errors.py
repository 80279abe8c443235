from torchopt_ref.errors import UserError, unknown


def test_unknown_names_the_nearest_choice_and_all_choices():
    error = unknown("dataset", "mnits", ["mnist", "fashion"])
    assert isinstance(error, UserError)
    assert str(error) == (
        "unknown dataset 'mnits': did you mean 'mnist'? Choose from mnist, fashion"
    )


def test_unknown_ignores_case_and_keeps_the_choices_spelling():
    assert "did you mean 'AdaGrad'?" in str(unknown("optimizer", "ADAGRAD", ["SGD", "AdaGrad"]))


def test_unknown_far_from_everything_guesses_nothing():
    error = unknown("dataset", "zebra", iter(["mnist", "fashion"]))
    assert str(error) == "unknown dataset 'zebra': choose from mnist, fashion"


def test_a_user_error_is_one_line():
    assert str(UserError("cannot fetch:\n  first reason\r\n  second")) == (
        "cannot fetch: first reason second"
    )
