"""Checkpoints that are whole or not there.

``files`` writes each as one file; ``sharded`` as a folder, into which every process writes its part
(it is imported for a sharded training only). ``canonical`` makes equal states equal files.
"""

from .canonical import canonical
from .files import Checkpoints

__all__ = ["Checkpoints", "canonical"]
