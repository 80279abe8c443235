"""Makes a Config from the command line, a TOML file and the options of a run to be resumed."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchopt_ref.errors import UserError, expanded, unknown, without_twins
from torchopt_ref.whole_file import without_digest

from .config import Config, as_option

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG_FILE, CHECKPOINTS = "config.json", "checkpoints"
Parse = Callable[[Sequence[str]], Config]


@dataclass
class CommandLine(Config):
    """Train an image classifier on one device or many, and survive what happens on the way.

    Without options: a small convolutional network on the embedded MNIST subset, offline. Part of
    the training images is held out for validation; the test images are looked at once, at the end.
    """

    # For --help only: read_options takes it out of the arguments before they are parsed.
    config: Path | None = None
    """a TOML file of these options, such as batch-size = 256; the command line overrides it"""


def read_options(arguments: Sequence[str], parse: Parse) -> Config:
    """The ``Config`` of a command line, from these sources; each overrides those before it.

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
    config.check()
    restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    run = config.run
    if not (run.resume or restarted):
        return config
    name = run.name or latest_run(run.out)
    folder = run.out / name
    saved = read_saved(folder)
    where = [f"--out={run.out}", f"--name={name}", "--resume"]
    if saved is None:
        return parse([*given, *where])
    resumed = parse([*as_arguments(saved), *given, *where])
    typed_targets = imported(config)
    for option, target in imported(resumed).items():
        if target != typed_targets.get(option):
            import_from_elsewhere(target, as_option(option))
    check_unchanged(as_config(saved), resumed, folder)
    return resumed


def imported(config: Config) -> dict[str, str]:
    """The options that name a ``package.module:Class``, with what they name."""
    names = {"optimizer": config.optimizer.optimizer, "scheduler": config.schedule.scheduler}
    return {option: target for option, target in names.items() if ":" in target}


def check_unchanged(started: Config, now: Config, folder: Path) -> None:
    """Raise ``UserError`` if an option differs that may not change when a run is resumed."""
    before = started.lasting()
    for key, value in now.lasting().items():
        if before[key] != value:
            raise UserError(
                f"{as_option(key)} {value}: the run {folder} was started with {before[key]}: "
                "omit the option, or start another run"
            )


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
        file = expanded(Path(value))
    return rest, file


def from_toml(file: Path, parse: Parse) -> list[str]:
    """The options in ``file`` as arguments."""
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read --config {file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # of TOML, or of UTF-8
        raise UserError(f"--config {file} is not TOML: {error}") from error
    known = [name.replace("_", "-") for name in Config().options()]
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
    """``{"lr": 0.1, "ours": True}`` as ``["--lr=0.1", "--ours"]``; None is omitted."""
    arguments = []
    for key, value in values.items():
        option = as_option(key)
        if isinstance(value, bool):
            arguments.append(option if value else option.replace("--", "--no-", 1))
        elif value is not None:
            arguments.append(f"{option}={value}")
    return arguments


def changed(config: Config, omit: Sequence[str] = ()) -> list[str]:
    """The options of ``config`` that are not the defaults, without those to ``omit``."""
    given, defaults = config.as_json(), Config().as_json()
    return as_arguments({k: v for k, v in given.items() if v != defaults[k] and k not in omit})


def read_saved(folder: Path) -> dict[str, Any] | None:
    """The options that the run in ``folder`` was started with; None if there is no run.

    Raises:
        UserError: they are not what ``with_digest`` wrote, or missing beside checkpoints.
    """
    file = folder / CONFIG_FILE
    if not os.path.exists(file):
        if (folder / CHECKPOINTS).exists():
            raise UserError(
                f"{file} is missing: put it back, or start another run: without it nobody knows "
                "what training the checkpoints beside it are of"
            )
        return None
    try:
        saved = json.loads(file.read_bytes().decode(), object_pairs_hook=without_twins)
        options = without_digest(saved)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{file} is damaged, or was changed by hand: it does not have the digest that it was "
            "written with: put it back, or start another run (options that may change are given "
            "with --resume)"
        ) from error
    if options.keys() != Config().options().keys():
        raise UserError(f"{file} has the options of another version: start another run")
    return options


def as_config(saved: Mapping[str, Any]) -> Config:
    """The ``Config`` of options that were read from a run's folder."""
    paths = {key: saved[key] and Path(saved[key]) for key in ("out", "data_root")}
    return Config.of(**{**saved, **paths})


def named_from_here(config: Config) -> list[str]:
    """The options whose modules lie in the current folder, as arguments.

    The command that resumes has to repeat them: see ``import_from_elsewhere``.
    """
    arguments = []
    for option, target in imported(config).items():
        module = sys.modules.get(target.partition(":")[0].partition(".")[0])
        spec = getattr(module, "__spec__", None)
        places = [*(spec.submodule_search_locations or []), spec.origin or ""] if spec else []
        if places and os.path.realpath(Path(places[0]).parent) == os.getcwd():
            arguments += [as_option(option), target]
    return arguments


def import_from_elsewhere(target: str, option: str) -> None:
    """Import the module of ``package.module:Class``, but not from the current folder.

    The saved options of the run name it, not the command line. A run may come from somebody else,
    who could have put a module of that name beside them.
    """
    here, module = Path.cwd(), target.partition(":")[0]
    kept = sys.path[:]
    sys.path[:] = [entry for entry in kept if Path(entry or ".").resolve() != here]
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise UserError(
            f"cannot import {module} ({type(error).__name__}: {error}): what is named by a run's "
            f"folder only is not looked for in the current folder: repeat {option} {target}"
        ) from error
    finally:
        sys.path[:] = kept


def latest_run(out: Path) -> str:
    """The name of the run in ``out`` whose options or checkpoints were saved last."""
    found = [*out.glob(f"*/{CONFIG_FILE}"), *out.glob(f"*/{CHECKPOINTS}")]
    saved = sorted(found, key=lambda path: path.stat().st_mtime)
    if not saved:
        raise UserError(f"--resume: there is no run in {out}: give --name, or another --out")
    return saved[-1].parent.name
