"""Conformance: any optimizer checked against what ``torch.optim.Optimizer`` promises its users.

``check_optimizer`` makes a report, ``optimizer_checks`` one pytest test per promise, and
``torchopt-ref check`` a table on the command line. ``docs/conformance.md`` is the guide.
"""

from .report import ConformanceReport, Result
from .suite import Check, check_optimizer, optimizer_checks
from .traits import Traits

__all__ = ["Check", "ConformanceReport", "Result", "Traits", "check_optimizer", "optimizer_checks"]
