"""Learning-rate schedulers."""

from torch.optim.lr_scheduler import LambdaLR

from ..comparing import same
from ..subject import UNDER_WAY, Subject
from ..verdicts import require


def scheduled_lr_is_obeyed_at_the_next_step(subject: Subject) -> None:
    """The lr that a scheduler of ``torch.optim`` sets is the lr of the very next step.

    An optimizer that keeps a copy of its lr silently ignores the schedule.

    Remedy: read ``group["lr"]`` in the step that uses it; keep no copy.
    """
    params, optimizer = subject.trained(range(UNDER_WAY))
    subject.require_lr(optimizer)
    expected, _ = subject.trained(range(UNDER_WAY + 1))
    scheduler = LambdaLR(optimizer, lambda epoch: 0.5 ** (epoch > 0))
    scheduler.step()
    subject.train(optimizer, params, range(UNDER_WAY, UNDER_WAY + 1))
    for index, (param, other) in enumerate(zip(params, expected, strict=True)):
        require(
            not same(param.detach(), other.detach()),
            f"parameter {index} took the step after the lr was halved as if it had not been",
        )
