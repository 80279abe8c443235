"""Checkpoints that are whole or not there: one file, or a folder that all processes write.

``files`` writes one file, ``sharded`` a folder; ``canonical`` makes equal states equal files.
"""

from .canonical import canonical
from .files import Checkpoints
from .sharded import ShardedCheckpoints

__all__ = ["Checkpoints", "ShardedCheckpoints", "canonical"]
