"""Quantities are told of the moments of a training, in their order."""

import torch

from torchopt_ref.tensorboard.measure.quantity import Quantities, Quantity
from torchopt_ref.tensorboard.measure.steps import Steps
from torchopt_ref.tensorboard.write.record import Record


class Kept(Quantity):
    def __init__(self, name, calls):
        self.name, self.calls = name, calls

    def before_step(self, steps):
        self.calls.append((self.name, "before", steps.number))


class Both(Kept):
    def collect(self, record):
        self.calls.append((self.name, "collect", record.step))


def test_each_is_told_of_the_moments_that_it_has_a_method_for_in_their_order():
    calls = []
    quantities = Quantities([Both("a", calls), Quantity(), Kept("b", calls)])
    steps = Steps(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))]), 5, 3)
    quantities.tell(Quantity.before_step, steps)
    quantities.tell(Quantity.collect, Record(4))
    quantities.tell(Quantity.detach)
    assert calls == [("a", "before", 3), ("b", "before", 3), ("a", "collect", 4)]


def test_steps_say_which_are_recorded_and_whose_record_is_near():
    steps = Steps(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))]), 10, 0)
    recorded, near = [], []
    for number in range(1, 31):
        near += [number] * steps.record_is_near
        steps.count(2)
        steps.begin(number + 100, has_closure=False)
        record = steps.end()
        if record:
            recorded.append(number)
            assert (record.step, record.samples) == (number + 100, 2)
            assert record.optimizer is steps.optimizer
    assert recorded == [1, 2, 4, 8, 10, 20, 30]
    assert near == [1, 2, 3, 4, 6, 7, 8, 9, 10, 18, 19, 20, 28, 29, 30]
