"""The learning-rate range test, for any training loop; it needs torch and NumPy only.

``lr_range`` makes and judges it, ``restored`` undoes its steps, ``figure`` draws what it found.
"""

from .lr_range import LRRange, lr_range_test

__all__ = ["LRRange", "lr_range_test"]
