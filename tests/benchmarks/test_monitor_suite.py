"""The suite ``monitor``: its contestants train the same, and a block holds one record."""

import pytest
import torch

from torchopt_ref.benchmarks import monitor
from torchopt_ref.benchmarks.timing import prepared
from torchopt_ref.tensorboard.write.output import Output


@pytest.fixture
def steps(monkeypatch):
    """The steps of the records that are written."""
    steps, record = [], Output.record
    monkeypatch.setattr(
        Output,
        "record",
        lambda self, made, names: (steps.append(made.step), record(self, made, names)),
    )
    return steps


def test_blocks_are_equal_bit_for_bit_and_hold_one_record_or_none(monkeypatch, steps):
    monkeypatch.setattr(monitor, "EVERY", 2)
    hooks = len(torch.nn.modules.module._global_forward_hooks)
    case = next(monitor.cases(torch.device("cpu")))
    runs = prepared(case)
    # The record of step 78; on leaving, what was logged after it, and that of the other blocks.
    assert steps == [78, 79, 277, 277]
    assert len(torch.nn.modules.module._global_forward_hooks) == hooks
    assert all(case.sample(run) > 0 for run in runs)
    assert steps == [78, 79, 277, 277] * 2


def test_the_bar_is_a_hundredth_of_a_resnet_step():
    pytest.importorskip("torchvision")
    bars = [each.bar for case in monitor.cases(torch.device("cpu")) for each in case.contestants]
    assert [bar for bar in bars if bar is not None] == [0.01]


def test_a_contestant_that_changes_a_parameter_is_refused():
    a = [torch.ones(3)]
    monitor.assert_equal(a, [torch.ones(3)])
    with pytest.raises(AssertionError):
        monitor.assert_equal(a, [torch.ones(3) + 1e-7])
