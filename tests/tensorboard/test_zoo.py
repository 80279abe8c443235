"""What the diagnosis says of trainings of many kinds, while they run and when they have ended."""

import pytest

from tests.tensorboard import zoo
from tests.tensorboard.zoo.judged import judged, trained

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", zoo.HEALTHY)
def test_nothing_is_found_in_a_healthy_training(name, tmp_path):
    trained(zoo.HEALTHY[name], tmp_path)
    verdict = judged(zoo.HEALTHY[name], tmp_path)
    assert verdict.word == "quiet", verdict.says


@pytest.mark.parametrize("name", zoo.BROKEN)
def test_a_broken_training_is_named_by_its_cause(name, tmp_path):
    trained(zoo.BROKEN[name], tmp_path)
    verdict = judged(zoo.BROKEN[name], tmp_path)
    assert verdict.word != "misleading", verdict.says
    if name not in zoo.ON_THE_EDGE:
        assert (verdict.word == "named") == (name not in zoo.GAPS), verdict.says
