"""The search for hyper-parameters."""

from .config import Config
from .stages import NAME, outcomes
from .trials import figures

__all__ = ["NAME", "Config", "figures", "outcomes"]
