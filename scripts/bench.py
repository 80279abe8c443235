#!/usr/bin/env python
"""Measure speed against PyTorch: `scripts/bench.py optim`; see `--help`."""

import sys

from torchopt_ref.benchmarks.__main__ import main

sys.exit(main())
