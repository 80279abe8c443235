"""Engines: ways to run a rule over many parameters.

An engine takes a ``Rule`` and a list of ``Update``, one for each parameter that has a gradient,
and writes the new values into the tensors that it was given.
"""

from .per_tensor import Update, per_tensor

__all__ = ["Update", "per_tensor"]
