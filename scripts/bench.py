#!/usr/bin/env python
"""Measure speed against PyTorch: `scripts/bench.py optim`; see `--help`."""

import sys

from torchopt_ref.benchmarks.__main__ import main

if __name__ == "__main__":  # processes that it starts may import it again
    sys.exit(main())
