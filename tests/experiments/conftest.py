"""What the tests of several experiments share."""

import pytest

from torchopt_ref.experiments.lab import agreement


@pytest.fixture(scope="module")
def agrees_soon():
    """Sides are compared for few iterations: a formula that differs shows in the first.

    tests/experiments/lab/test_training.py compares them for as many as a user's run does.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement, "FREE", 4)
        patch.setattr(agreement, "LOCKED", 4)
        yield
