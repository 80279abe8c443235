#!/usr/bin/env python
"""Train an image classifier: `scripts/train.py --help`; the same as `torchopt-ref train`."""

import sys

from torchopt_ref.cli import main

if __name__ == "__main__":  # processes that it starts may import it again
    sys.exit(main(["train", *sys.argv[1:]]))
