"""Runs read back from their event files."""

import warnings

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


@pytest.fixture(autouse=True)
def _failures_of_the_monitor_are_failures():
    """A monitor that fails is silent after one warning: here that warning is an error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the monitor stopped")
        yield


class Run:
    """The curves of a folder: ``run["tag"]`` is a dict of values by step."""

    def __init__(self, folder):
        self._events = EventAccumulator(
            str(folder), {"scalars": 0, "tensors": 0, "histograms": 0, "images": 0}
        )
        self._events.Reload()
        self.tags = self._events.Tags()
        self.scalars = self.tags["scalars"]

    def __getitem__(self, tag):
        return {event.step: event.value for event in self._events.Scalars(tag)}

    def histogram(self, tag):
        return self._events.Histograms(tag)

    def steps(self, tag):
        return [event.step for event in self._events.Scalars(tag)]

    def text(self, tag):
        (text,) = self._events.Tensors(f"{tag}/text_summary")[-1].tensor_proto.string_val
        return text.decode()

    def has_text(self, tag):
        return f"{tag}/text_summary" in self.tags["tensors"]


@pytest.fixture
def read():
    return Run
