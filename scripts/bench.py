#!/usr/bin/env python
"""Measure speed against PyTorch: `scripts/bench.py layers`; see `--help`."""

from torchopt_ref.benchmarks.__main__ import main

main()
