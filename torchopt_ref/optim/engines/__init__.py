"""Engines: ways to run a rule over many parameters.

An engine takes a ``Rule`` and parameters that take the same step, and writes the new values into
the tensors that it was given: ``per_tensor`` and ``sparse`` take a ``Bucket``, ``foreach`` and
``fused`` what can be seen as ``Vectors``.
"""

from collections.abc import Callable

from ..rule import Rule
from .bucket import Bucket
from .foreach import SMALL, foreach
from .fused import fused
from .native import Table
from .per_tensor import per_tensor
from .sparse import sparse
from .vectors import PLAIN, Vectors, as_vector, as_vectors, overlapping

VectorEngine = Callable[[Rule, Vectors], None]


def run_vectors(engine: VectorEngine, rule: Rule, bucket: Bucket) -> None:
    """Run an engine of vectors on a bucket; one after the other what is no vector."""
    vectors, others = as_vectors(bucket)
    if others:
        per_tensor(rule, bucket.only(others))
    if vectors.pieces:
        engine(rule, vectors)


__all__ = [
    "PLAIN",
    "SMALL",
    "Bucket",
    "Table",
    "VectorEngine",
    "Vectors",
    "as_vector",
    "foreach",
    "fused",
    "overlapping",
    "per_tensor",
    "run_vectors",
    "sparse",
]
