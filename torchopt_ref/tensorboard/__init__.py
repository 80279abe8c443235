"""The monitor: what a training does, as curves in TensorBoard, and what they say.

``Monitor`` watches any torch training; ``lightning`` and ``transformers`` wrap it as callbacks.
``diagnose`` says in words what a run's curves show; ``RunFolder`` is the folder of an experiment or
a training. ``session`` runs a monitor: ``measure`` fills records, ``write`` writes them, and
``read`` reads and judges them. ``server`` starts TensorBoard, and prints an address that opens it
on a page with curves.
"""

from torchopt_ref.errors import with_hint

try:
    from .measure import NonFiniteError
    from .monitor import Monitor
    from .read import Finding, History, diagnose
    from .write import JsonLines, RunFolder, Sink
except ModuleNotFoundError as error:
    raise with_hint(error) from error

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
