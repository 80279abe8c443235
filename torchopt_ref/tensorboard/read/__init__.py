"""A run read back, and what its curves say.

``event_files`` reads the points of its curves into a ``history``, ``diagnosis`` applies the
``rules`` in order, and ``inspection`` is what ``torchopt-ref inspect`` prints. While a training
runs, the monitor fills the history itself.
"""

from .diagnosis import diagnose
from .history import History
from .inspection import MONITOR, Inspection, inspect, run_folders
from .rules import Finding

__all__ = [
    "MONITOR",
    "Finding",
    "History",
    "Inspection",
    "diagnose",
    "inspect",
    "run_folders",
]
