"""Proof: a torch optimizer and a NumPy reference in lockstep, the difference counted in ULP.

``check_parity`` takes anybody's optimizer; ``parity_rows`` is the table of this project's own
(``torchopt-ref parity``); ``check_network`` trains a whole network on both sides.
``OperationAudit`` names the operation that rounds differently.

``check_optimizer`` is about behaviour rather than numbers: anybody's optimizer held against what
``torch.optim.Optimizer`` promises; ``optimizer_checks`` are its checks, one pytest test each.

``explain`` says in words and in numbers what differs between two optimizers.
"""

from torchopt_ref.sides import NOT_EQUAL, configurations, ulp_distance, ulp_text

from .conformance import ConformanceReport, Traits, check_optimizer, optimizer_checks
from .explanation import Explanation, explain
from .parity import (
    NetworkReport,
    OperationAudit,
    ParityReport,
    Row,
    check_against_torch,
    check_network,
    check_parity,
    network_rows,
    parity_rows,
)

__all__ = [
    "NOT_EQUAL",
    "ConformanceReport",
    "Explanation",
    "NetworkReport",
    "OperationAudit",
    "ParityReport",
    "Row",
    "Traits",
    "check_against_torch",
    "check_network",
    "check_optimizer",
    "check_parity",
    "configurations",
    "explain",
    "network_rows",
    "optimizer_checks",
    "parity_rows",
    "ulp_distance",
    "ulp_text",
]
