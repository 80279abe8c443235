"""The formula itself."""

from ...parity import check_parity
from ...ulp import ulp_text
from ..subject import Subject
from ..verdicts import Skip, require

STEPS = 100


def equals_its_reference(subject: Subject) -> str:
    """In lockstep with its NumPy reference, parameters and slots stay within ``max_ulp`` (0).

    All other checks are about how an optimizer behaves; this one is about what it computes. The
    gradients, in float32, are tiny, huge, sparse and alternating.
    """
    if subject.reference is None:
        raise Skip("no reference was given")
    report = check_parity(subject.factory, subject.reference(), steps=STEPS)
    largest = max(report.max_ulp_param, report.max_ulp_state)
    seen = f"up to {ulp_text(largest)} ULP apart in {STEPS} steps"
    first = report.first_divergent_step
    require(largest <= subject.max_ulp, f"{seen}, the first at step {first}")
    return seen
