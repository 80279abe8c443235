"""Optimization for PyTorch whose every step is proven against a NumPy reference.

``optim`` (drop-in optimizers), ``init`` (initial values), ``nn`` (BatchNorm, Dropout), ``testing``
(parity, conformance, what differs between two optimizers), ``tensorboard`` (the monitor), ``train``
(the training script), ``experiments`` (the laboratory), ``data``; the command line is
``torchopt-ref``.
"""

__version__ = "0.1.0"
