"""The suite ``monitor``: its contestants train the same, and a block holds one record."""

import pytest
import torch

from torchopt_ref.benchmarks import monitor
from torchopt_ref.benchmarks.timing import prepared
from torchopt_ref.tensorboard.output import Output


def test_blocks_are_equal_bit_for_bit_and_hold_one_record(monkeypatch):
    pytest.importorskip("torchvision")
    monkeypatch.setattr(monitor, "EVERY", 2)
    steps = []
    record = Output.record
    monkeypatch.setattr(
        Output,
        "record",
        lambda self, made, names: (steps.append(made.step), record(self, made, names)),
    )
    (case,) = monitor.cases(torch.device("cpu"))
    runs = prepared(case)
    # That of step 4 is in the block; what was logged after it is written on leaving.
    assert steps == [4, 5] * 2
    assert not torch.nn.modules.module._global_forward_hooks
    assert all(case.sample(run) > 0 for run in runs[1:3])
    assert steps == [4, 5] * 2 + [4, 6, 7] * 2
    assert [contestant.bar for contestant in case.contestants] == [None, 1.03, 1.01, None]


def test_a_contestant_that_changes_a_parameter_is_refused():
    a = [torch.ones(3)]
    monitor.assert_equal(a, [torch.ones(3)])
    with pytest.raises(AssertionError):
        monitor.assert_equal(a, [torch.ones(3) + 1e-7])
