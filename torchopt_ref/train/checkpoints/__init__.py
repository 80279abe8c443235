"""Checkpoints that are complete or not there at all.

``files`` writes each as one file; ``sharded`` as a folder, into which every process writes its part
(it is imported for a sharded training only). ``canonical`` gives equal states equal files.
"""

from .canonical import canonical
from .files import Checkpoints

__all__ = ["Checkpoints", "canonical"]
