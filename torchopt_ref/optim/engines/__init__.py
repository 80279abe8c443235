"""Engines: ways to run a rule over many parameters.

An engine takes a ``Rule`` and a ``Bucket``, parameters that take the same step, and writes the new
values into the tensors that it was given.
"""

from .bucket import Bucket, Engine
from .foreach import foreach
from .fused import fused
from .per_tensor import per_tensor
from .sparse import sparse

__all__ = ["Bucket", "Engine", "foreach", "fused", "per_tensor", "sparse"]
