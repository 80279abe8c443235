"""deepcopy and pickle."""

import copy
import pickle
from collections.abc import Callable

from torch.optim import Optimizer

from ..comparing import require_same, snapshot
from ..subject import Params, Subject

Pair = tuple[Params, Optimizer]


def deepcopy_is_independent(subject: Subject) -> None:
    """``copy.deepcopy`` of model and optimizer goes on by itself, as the original would.

    Learning-rate finders and line searches try steps on a copy.

    Remedy: keep what the step needs in state and groups: ``Optimizer.__getstate__`` leaves
    attributes out.
    """
    require_independent_copy(subject, copy.deepcopy)


def pickle_is_independent(subject: Subject) -> None:
    """``pickle`` of model and optimizer gives a pair that goes on as the original would.

    Optimizers are sent to other processes; torch restores their hooks for it in ``__setstate__``.

    Remedy: keep what the step needs in state and groups: ``Optimizer.__getstate__`` leaves
    attributes out.
    """
    require_independent_copy(subject, lambda pair: pickle.loads(pickle.dumps(pair)))


def require_independent_copy(subject: Subject, copied: Callable[[Pair], Pair]) -> None:
    params, optimizer = subject.trained(range(3))
    before = snapshot(params)
    others, another = copied((params, optimizer))
    subject.train(another, others, range(3, 8))
    require_same("the original, while its copy stepped", params, before)
    subject.train(optimizer, params, range(3, 8))
    require_same("the copy, after 5 steps", others, params)
