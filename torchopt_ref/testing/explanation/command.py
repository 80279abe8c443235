"""The command ``torchopt-ref explain``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from torchopt_ref.errors import json_object

from .explain import explain


def run(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Print what differs; exit status 0 whether or not something does."""
    names = "Adam, keras.RMSprop, optax.Adam, book.Adam, torch.optim:NAdam, MODULE:CLASS"
    parser.add_argument("a", metavar="A", help=f"an optimizer: {names}")
    parser.add_argument("b", metavar="B", help="another, or the same with other options")
    for side in "ab":
        parser.add_argument(
            f"--{side}-kwargs",
            default="{}",
            metavar="JSON",
            help=f"of {side.upper()}'s constructor",
        )
    parser.add_argument("--json", action="store_true", help="print JSON instead")
    options = parser.parse_args(arguments)
    found = explain(
        options.a,
        options.b,
        a_kwargs=json_object("--a-kwargs", options.a_kwargs),
        b_kwargs=json_object("--b-kwargs", options.b_kwargs),
    )
    print(json.dumps(found.as_json(), indent=1) if options.json else found)
    return 0
