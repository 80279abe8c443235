"""Everything that writes event files for TensorBoard, and what reads them back.

``Monitor`` watches any torch training, ``diagnose`` says in words what its curves show,
``RunFolder`` holds a run of an experiment.
"""

from .measure.health import NonFiniteError
from .monitor import Monitor
from .read.diagnosis import Finding, diagnose
from .read.history import History
from .write.run_folder import RunFolder
from .write.sinks import JsonLines, Sink

__all__ = [
    "Finding",
    "History",
    "JsonLines",
    "Monitor",
    "NonFiniteError",
    "RunFolder",
    "Sink",
    "diagnose",
]
