"""What the monitor writes, and the folder of a run.

``record`` is what is written at one step, ``output`` writes it: to an ``event_file`` and the user's
``sinks``, with the verdict of the diagnosis and a ``dashboard``. ``run_folder`` is the folder of an
experiment or a training.
"""

from .event_file import EventFile, TrainingEventFile, counted_histogram_value
from .facts import hparams_values
from .run_folder import RunFolder
from .sinks import JsonLines, Sink

__all__ = [
    "EventFile",
    "JsonLines",
    "RunFolder",
    "Sink",
    "TrainingEventFile",
    "counted_histogram_value",
    "hparams_values",
]
