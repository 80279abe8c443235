"""The monitor: what a training does, as curves in TensorBoard, and what they say.

``Monitor`` watches any torch training; ``lightning`` and ``transformers`` make callbacks of it.
``diagnose`` says in words what a run's curves show; ``RunFolder`` is the folder of an experiment or
a training. ``session`` is a monitor at work: ``measure`` fills records, ``write`` writes them, and
``read`` reads and judges them. ``server`` starts TensorBoard where something is seen at once.
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
