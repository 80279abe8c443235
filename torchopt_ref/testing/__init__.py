"""Proof: a torch optimizer and a NumPy reference in lockstep, the difference counted in ULP.

``check_parity`` takes anybody's optimizer; ``parity_rows`` is the table of this project's own
(``torchopt-ref parity``). ``OperationAudit`` names the operation that rounds differently.
"""

from .bars import Row, parity_rows
from .configurations import configurations
from .operations import OperationAudit
from .parity import Report, check_against_torch, check_parity
from .ulp import NOT_EQUAL, ulp_distance, ulp_text

__all__ = [
    "NOT_EQUAL",
    "OperationAudit",
    "Report",
    "Row",
    "check_against_torch",
    "check_parity",
    "configurations",
    "parity_rows",
    "ulp_distance",
    "ulp_text",
]
