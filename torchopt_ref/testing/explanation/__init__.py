"""What differs between two optimizers (``torchopt-ref explain``).

``explain`` puts together what is found: by probes, small trainings that tell one form from another
(``probes``); in the formulas, traced from a rule (``traced``) or seen in the operations that a step
runs (``observed``); and on hostile gradients (``parting``). ``report`` shows it.
"""

from .explain import explain
from .report import Explanation

__all__ = ["Explanation", "explain"]
