"""The search for hyper-parameters."""

from .config import NAME, Config, outcomes
from .trials import figures

__all__ = ["NAME", "Config", "figures", "outcomes"]
