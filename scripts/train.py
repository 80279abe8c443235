#!/usr/bin/env python
"""Train an image classifier: `scripts/train.py --help`; the same as `torchopt-ref train`."""

import sys

from torchopt_ref.cli import main

sys.exit(main(["train", *sys.argv[1:]]))
