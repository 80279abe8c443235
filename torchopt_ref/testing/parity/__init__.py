"""Parity: an optimizer and its reference take the same steps; their difference is counted in ULP.

``lockstep`` steps two sides and compares them; ``workload`` has the gradients that are hard on an
optimizer. ``operations`` finds the operation that rounds differently. ``table`` compares all
optimizers of this project with NumPy and ``torch.optim``; ``against`` compares the dialects with
Keras and Optax themselves, which ``packages`` wraps as sides. ``network`` trains a whole network.
"""

from .against import against_rows
from .lockstep import (
    NOT_ROUNDING,
    ROUNDINGS,
    ParityReport,
    check_against_torch,
    check_parity,
    copied,
    in_lockstep,
    same_bits,
)
from .network import NetworkReport, check_network, network_rows
from .operations import OperationAudit
from .packages import heading, load
from .table import Row, parity_rows

__all__ = [
    "NOT_ROUNDING",
    "ROUNDINGS",
    "NetworkReport",
    "OperationAudit",
    "ParityReport",
    "Row",
    "against_rows",
    "check_against_torch",
    "check_network",
    "check_parity",
    "copied",
    "heading",
    "in_lockstep",
    "load",
    "network_rows",
    "parity_rows",
    "same_bits",
]
