"""Everything that writes event files for TensorBoard, and what reads them back.

``Monitor`` watches any torch training, ``diagnose`` says in words what its curves show,
``RunFolder`` holds a run of an experiment.
"""

from torchopt_ref.errors import with_hint

try:
    from .diagnosis import Finding, diagnose
    from .health import NonFiniteError
    from .history import History
    from .monitor import Monitor
    from .run_folder import RunFolder
    from .sinks import JsonLines, Sink
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
