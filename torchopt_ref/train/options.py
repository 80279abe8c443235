"""From the command line, a TOML file and the options of the run that is resumed to a Config."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from torchopt_ref.errors import UserError, unknown

from .config import MAY_CHANGE, Config, as_option

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG_FILE = "config.json"
Parse = Callable[[Sequence[str]], Config]


def read_options(arguments: Sequence[str], parse: Parse) -> Config:
    """The ``Config`` of a command line; what stands later in this list counts more.

    1. the defaults
    2. with ``--resume``, the options that the run was started with
    3. ``--config file.toml``: keys are the options' names, with dashes or underscores
    4. the command line

    Args:
        arguments: of the command line.
        parse: makes a ``Config`` of arguments, or raises ``UserError``.

    Raises:
        UserError: an option that is wrong or, in a run that is resumed, may not change.
    """
    typed, file = without_config_file(arguments)
    given = [*(from_toml(file, parse) if file else []), *typed]
    config = parse(given)
    restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    if not (config.resume or restarted):
        return config
    name = config.name or latest_run(config.out)
    saved = config.out / name / CONFIG_FILE
    where = ["--out", str(config.out), "--name", name, "--resume"]
    if not saved.exists():
        return parse([*given, *where])
    started = parse(as_arguments(read_json(saved)))
    resumed = parse([*as_arguments(read_json(saved)), *given, *where])
    for field in fields(Config):
        before, now = getattr(started, field.name), getattr(resumed, field.name)
        if field.name not in MAY_CHANGE and before != now:
            raise UserError(
                f"{as_option(field.name)} {now}: the run {saved.parent} was started with {before}: "
                "leave the option away, or start another run"
            )
    return resumed


def without_config_file(arguments: Sequence[str]) -> tuple[list[str], Path | None]:
    """The arguments without ``--config FILE``, and the file."""
    rest: list[str] = []
    file = None
    words = iter(arguments)
    for word in words:
        option, equals, value = word.partition("=")
        if option != "--config":
            rest.append(word)
            continue
        value = value if equals else next(words, "")
        if not value:
            raise UserError("--config needs a TOML file: --config FILE")
        file = Path(value)
    return rest, file


def from_toml(file: Path, parse: Parse) -> list[str]:
    """The options in ``file`` as arguments."""
    try:
        table = tomllib.loads(file.read_text())
    except OSError as error:
        raise UserError(f"cannot read --config {file}: {error.strerror}") from error
    except ValueError as error:  # of TOML, or of UTF-8
        raise UserError(f"--config {file} is not TOML: {error}") from error
    known = [field.name.replace("_", "-") for field in fields(Config)]
    for key, value in table.items():
        if key.replace("_", "-") not in known:
            raise unknown(f"option in {file}:", key, known)
        if isinstance(value, dict | list):
            raise UserError(f"{file}: {key} must be a single value, not {value}")
    arguments = as_arguments(table)
    try:
        parse(arguments)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    return arguments


def as_arguments(values: Mapping[str, Any]) -> list[str]:
    """``{"lr": 0.1, "ours": True}`` as ``["--lr=0.1", "--ours"]``; None is left away."""
    arguments = []
    for key, value in values.items():
        option = as_option(key)
        if isinstance(value, bool):
            arguments.append(option if value else option.replace("--", "--no-", 1))
        elif value is not None:
            arguments += [option, str(value)]
    return arguments


def read_json(file: Path) -> dict[str, Any]:
    try:
        saved = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {file}: {error}: start another run") from error
    return {key: saved[key] for key in saved if key in {field.name for field in fields(Config)}}


def latest_run(out: Path) -> str:
    """The name of the run in ``out`` whose options were saved last."""
    saved = sorted(out.glob(f"*/{CONFIG_FILE}"), key=lambda file: file.stat().st_mtime)
    if not saved:
        raise UserError(f"--resume: there is no run in {out}: give --name, or another --out")
    return saved[-1].parent.name
