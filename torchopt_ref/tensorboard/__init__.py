"""The monitor: what a training does, as curves in TensorBoard, and what they say.

``Monitor`` watches any torch training; ``lightning`` and ``transformers`` wrap it as callbacks.
``diagnose`` says in words what a run's curves show; ``RunFolder`` is the folder of an experiment or
a training, which ``run_lock`` reserves for one process. ``session`` runs a monitor: ``measure``
fills records, ``write`` writes them, and ``read`` reads and judges them. ``server`` starts
TensorBoard, and prints an address that opens it on a page with curves.
"""

from typing import TYPE_CHECKING

from torchopt_ref.errors import with_hint
from torchopt_ref.on_demand import on_demand

try:
    from .read import Finding, History, diagnose
except ModuleNotFoundError as error:
    raise with_hint(error) from error

if TYPE_CHECKING:
    from .measure import NonFiniteError
    from .monitor import Monitor
    from .write import JsonLines, RunFolder, Sink

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
# Runs are read and shown without torch.
__getattr__ = on_demand(
    __name__,
    {
        "JsonLines": ".write",
        "Monitor": ".monitor",
        "NonFiniteError": ".measure",
        "RunFolder": ".write",
        "Sink": ".write",
    },
)
