"""Everything that writes event files for TensorBoard."""

from .run_folder import RunFolder

__all__ = ["RunFolder"]
