"""The argument parser of the command line."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from torchopt_ref.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ``UserError``."""

    def parse_args(  # type: ignore[override]
        self, arguments: Sequence[str] | None = None
    ) -> argparse.Namespace:
        arguments = sys.argv[1:] if arguments is None else arguments
        for word in arguments:
            if word.startswith("--") and word.endswith("=--"):  # argparse gives a list for it
                self.error(f"{word} gives no value")
        return super().parse_args(arguments)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}: see {self.prog} --help")
