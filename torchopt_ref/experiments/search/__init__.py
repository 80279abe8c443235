"""The search for a learning rate and a weight decay: random, then narrower around the best.

``config`` has its options, ``stages`` the search from beginning to end. ``plan`` says which points
are tried, ``storage`` keeps the study, ``worker`` is what one process does, and ``study``
starts the processes of this machine. ``objective`` trains a trial, ``chosen`` trains and tests the
best setting, ``trials`` ranks and draws what was found.
"""

from .config import Config
from .stages import NAME, outcomes
from .trials import figures

__all__ = ["NAME", "Config", "figures", "outcomes"]
