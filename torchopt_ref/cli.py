"""The command line: ``torchopt-ref`` = ``python -m torchopt_ref``.

    torchopt-ref run NAME [OPTIONS]     run an experiment; NAME --help lists its options
    torchopt-ref list                   name the experiments
    torchopt-ref train [OPTIONS]        train an image classifier; --help lists the options
    torchopt-ref report [RUNS]          each experiment's latest run on one page, runs/report.html;
                                        --lang zh: in Chinese
    torchopt-ref playground             optimizers to play with, a page for the browser
    torchopt-ref tensorboard [RUNS]     show the newest run in TensorBoard, on this machine only
    torchopt-ref inspect RUN            what a monitored run shows, in the terminal, and what to try
                                        (--fail-on-findings: exit status 1 if it is not sound)
    torchopt-ref parity [OPTIONS]       count the difference from the NumPy reference in ULP;
                                        --against keras: of our Keras dialect from Keras itself
    torchopt-ref check MODULE:CLASS     check any optimizer against what torch.optim promises
    torchopt-ref explain A B            what differs between two optimizers, in words and numbers
    torchopt-ref --version              the version

A user's mistake is one line on stderr and exit status 2.
"""

import argparse
import io
import json
import math
import os
import re
import select
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from torchopt_ref import __version__
from torchopt_ref.devices import check_device
from torchopt_ref.errors import (
    LARGEST_SEED,
    UserError,
    check_path,
    check_whole,
    expanded,
    short_line,
    unknown,
    with_hint,
)
from torchopt_ref.parser import Parser
from torchopt_ref.written import near, pasted

READER_GONE = 141
"""The exit status that a shell reports for a program that SIGPIPE ended, as after `| head`."""


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit status."""
    name, *arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for a path that is not UTF-8
    try:
        try:
            return command(name, arguments)
        finally:
            # Flushed here: at exit an error in writing could no longer be reported.
            print(end="", flush=True)
    except UserError as error:
        return failed(str(error))
    except ModuleNotFoundError as error:
        hint = with_hint(error)
        if hint is error:
            raise
        return failed(str(hint))
    except BrokenPipeError:
        if not reader_has_gone():
            raise
        return READER_GONE
    except OSError as error:  # of the system: a full disk, missing permissions
        discard(sys.stdout)
        what = error.filename or "a file, or what is printed"
        return failed(f"the system refuses {what}: {error.strerror or error}")
    except KeyboardInterrupt as interrupt:
        print("\nInterrupted", file=sys.stderr)
        for folder in interrupt.args:
            print(f"The event files are complete: {pasted('tensorboard', folder)}", file=sys.stderr)
        if interrupt.args:
            print(
                "Go on: the same command, without --force: what is finished is kept",
                file=sys.stderr,
            )
        return 130


def command(name: str, arguments: list[str]) -> int:
    if name in ("-h", "--help"):
        print(__doc__.strip())
        return 0
    if name == "--version":
        print(f"torchopt-ref {__version__}")
        return 0
    if name not in COMMANDS:
        raise unknown("command", name, COMMANDS)
    return COMMANDS[name](arguments)


def reader_has_gone() -> bool:
    """Whether nobody reads stdout or stderr any more, as after `| head`; then discard the rest."""
    if sys.platform == "win32":  # where pipes cannot be polled: assume so
        discard(sys.stdout)
        return True
    waiting = select.poll()
    for stream in (sys.stdout, sys.stderr):
        waiting.register(stream, 0)
    gone = [number for number, _ in waiting.poll(0)]
    for number in gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return bool(gone)


def discard(stream: TextIO) -> None:
    """Discard what could not be written; otherwise Python would try to write it again at exit."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def failed(message: str) -> int:
    print(f"torchopt-ref: {message}", file=sys.stderr)
    return 2


def a_path(text: str) -> Path:
    check_path(Path(text))
    return expanded(Path(text))


def run(arguments: list[str]) -> int:
    """``torchopt-ref run``: one experiment, with its ``Config`` as its options, or all."""
    from torchopt_ref.experiments import EXPERIMENTS, experiment

    name, *options = arguments or ["--help"]
    if name in ("-h", "--help"):
        print("usage: torchopt-ref run NAME [OPTIONS]\n")
        print("NAME is all, or one of these, whose options NAME --help lists:")
        width = max(map(len, EXPERIMENTS))
        print("\n".join(f"  {key:<{width}} {text}" for key, text in EXPERIMENTS.items()))
        return 0
    from torchopt_ref.experiments.lab.report import SEE_CURVES
    from torchopt_ref.experiments.lab.run import run_experiment
    from torchopt_ref.experiments.lab.words import in_language
    from torchopt_ref.experiments.reports import report_of

    if name == "all":
        return run_all(options)
    module = experiment(name)
    config = parse(module.Config, options, prog=f"torchopt-ref run {name}")
    path = run_experiment(module, report_of(name), config)
    print(f"{in_language(SEE_CURVES, config.lang)}: {pasted('tensorboard', path)}")
    return 0


def run_all(options: list[str]) -> int:
    """``torchopt-ref run all``: every experiment, then their reports on one page."""
    from torchopt_ref.experiments import EXPERIMENTS, experiment
    from torchopt_ref.experiments.lab.page import write_page
    from torchopt_ref.experiments.lab.report import ON_ONE_PAGE, SEE_CURVES, show_all
    from torchopt_ref.experiments.lab.run import run_experiment
    from torchopt_ref.experiments.lab.settings import Settings
    from torchopt_ref.experiments.lab.summary import read_summary
    from torchopt_ref.experiments.lab.words import in_language
    from torchopt_ref.experiments.reports import report_of

    prog = "torchopt-ref run all"
    shared = parse(Settings, options, prog)
    modules = [experiment(name) for name in EXPERIMENTS]
    configs = [parse(module.Config, options, prog) for module in modules]
    for config in configs:  # all of them before the first experiment takes its time
        config.check()
    folders = [
        run_experiment(module, report_of(module.NAME), config)
        for module, config in zip(modules, configs, strict=True)
    ]
    summaries = {folder: read_summary(folder / "results.json") for folder in folders}
    page = shared.out / "report.html"
    write_page(page, summaries, shared.lang)
    show_all(summaries.values(), shared.lang)
    print(f"{in_language(ON_ONE_PAGE, shared.lang)}: {near(page)}")
    print(f"{in_language(SEE_CURVES, shared.lang)}: {pasted('tensorboard', shared.out)}")
    return 0


def train(arguments: list[str]) -> int:
    """``torchopt-ref train``: an image classifier."""
    from torchopt_ref.train.options import CommandLine, read_options

    config = read_options(arguments, partial(parse, CommandLine, prog="torchopt-ref train"))
    from torchopt_ref.train.command import run_command

    return run_command(config)


def report(arguments: list[str]) -> int:
    """``torchopt-ref report``: the latest run of each experiment on one page."""
    from torchopt_ref.experiments import EXPERIMENTS
    from torchopt_ref.experiments.lab.words import LANGUAGES

    parser = Parser(prog="torchopt-ref report", description=report.__doc__)
    parser.add_argument("runs", type=a_path, nargs="?", default=Path("runs"), help="folder (runs)")
    parser.add_argument("--lang", default="en", help="en for English (default), zh for Chinese")
    options = parser.parse_args(arguments)
    if options.lang not in LANGUAGES:
        raise unknown("language", options.lang, LANGUAGES)
    from torchopt_ref.experiments.lab.page import latest_runs, write_page

    page = options.runs / "report.html"
    write_page(page, latest_runs(options.runs, EXPERIMENTS), options.lang)
    print(f"Open it in a browser: {near(page)}")
    return 0


def inspect(arguments: list[str]) -> int:
    """``torchopt-ref inspect``: what the curves of a Monitor's run show, and what to try."""
    parser = Parser(prog="torchopt-ref inspect", description=inspect.__doc__)
    parser.add_argument("run", type=a_path, help="folder of the run")
    parser.add_argument("--json", action="store_true", help="print JSON instead, with every point")
    parser.add_argument(
        "--fail-on-findings",
        action="store_true",
        help="for continuous integration: exit status 1 if there is a finding, or if the run could "
        "not be judged as a whole (2 is a mistake in the command)",
    )
    options = parser.parse_args(arguments)
    from torchopt_ref.tensorboard.read import inspect as inspected

    found = inspected(options.run)
    if options.json:
        print(json.dumps(found.as_json(), indent=1))
    else:
        print("\n".join(found.lines(sys.stdout.encoding or "ascii")))
    return int(options.fail_on_findings and bool(found.findings or found.unjudged))


def open_tensorboard(arguments: list[str]) -> int:
    """``torchopt-ref tensorboard``: TensorBoard on the newest run, on this machine only."""
    parser = Parser(prog="torchopt-ref tensorboard", description=open_tensorboard.__doc__)
    parser.add_argument("runs", type=a_path, nargs="?", default=Path("runs"), help="folder (runs)")
    parser.add_argument("--port", type=int, help="0 for any free one (the first free from 6006)")
    options = parser.parse_args(arguments)
    if options.port is not None:
        check_whole("--port", options.port, 0, 65535)
    from torchopt_ref.tensorboard.server import serve

    serve(options.runs, options.port)
    return 0


def parse(config: type, options: Sequence[str], prog: str) -> Any:
    """The ``config`` that the options describe; ``UserError`` for an option that is wrong."""
    import tyro

    known = ["--help", *(f"--{name.replace('_', '-')}" for name in option_names(config))]
    for option in options:
        given = option.partition("=")[0]
        if given.startswith("--") and given.replace("--no-", "--") not in known:
            raise unknown("option", given, known)
    message = io.StringIO()
    try:
        with redirect_stderr(message):
            given = tyro.cli(config, args=options, prog=prog, config=[tyro.conf.OmitArgPrefixes])
    except SystemExit as error:
        if not error.code:
            raise
        # tyro's box: title, horizontal line, the error, another line, hints; lines may be dashes.
        _, wrong, *_ = re.split("[─-]{9,}", re.sub("[│╭╮╰╯]", "", message.getvalue()))
        raise UserError(f"{wrong.strip()}: see {prog} --help") from error
    expand_paths(given)
    return given


def expand_paths(config: Any) -> None:
    """Expand ``~`` in every path of a dataclass and of the dataclasses nested in it."""
    for name, value in vars(config).items():
        if isinstance(value, Path):
            setattr(config, name, expanded(value))
        elif is_dataclass(value):
            expand_paths(value)


def option_names(config: Any) -> Iterator[str]:
    """The names of the fields of a dataclass and of the dataclasses nested in it."""
    for field in fields(config):
        if is_dataclass(field.default_factory):
            yield from option_names(field.default_factory)
        else:
            yield field.name


def list_experiments(arguments: list[str]) -> int:
    """``torchopt-ref list``: the names of the experiments, and what they show."""
    Parser(prog="torchopt-ref list", description=list_experiments.__doc__).parse_args(arguments)
    return run(["--help"])


def parity_options(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(prog="torchopt-ref parity", description=parity.__doc__)
    parser.add_argument("--optimizers", nargs="+", help="such as Adam book.Adam (all)")
    parser.add_argument(
        "--dtypes", nargs="+", help="of float16, bfloat16, float32, float64 (last two)"
    )
    parser.add_argument("--engines", nargs="+", help="of kernel, eager (both)")
    parser.add_argument(
        "--against", metavar="PACKAGE", help="keras or optax: their dialect against them themselves"
    )
    parser.add_argument("--network", action="store_true", help="train whole networks, in float64")
    parser.add_argument("--steps", type=int, help="of each row (1000; with --network 200)")
    parser.add_argument("--device", default="cpu", help="of the torch side: cpu (default), cuda")
    parser.add_argument("--seed", type=int, default=0, help="of parameters and gradients (0)")
    parser.add_argument("--json", type=a_path, help="also write the rows to this file")
    options = parser.parse_args(arguments)
    if options.steps is None:
        options.steps = 200 if options.network else 1000
    check_whole("--steps", options.steps, 1)
    check_whole("--seed", options.seed, 0, LARGEST_SEED)
    if options.against not in (None, "keras", "optax"):
        raise unknown("package", options.against, ["keras", "optax"])
    if options.against and (options.network or options.device != "cpu"):
        raise UserError("--against is on the CPU, optimizers alone: omit --network and --device")
    if options.network and (options.dtypes or options.engines):
        raise UserError(
            "--network is in float64 by the default engine: omit --dtypes and --engines"
        )
    check_device(options.device)
    return options


def parity(arguments: list[str]) -> int:
    """``torchopt-ref parity``: a row per configuration; exit status 1 where a bound is exceeded."""
    options = parity_options(arguments)
    from torchopt_ref.sides import ENGINES, configurations
    from torchopt_ref.testing import NetworkReport, Row, network_rows, parity_rows
    from torchopt_ref.testing.parity import against_rows, heading, load

    package, steps = options.against, options.steps
    of_package = [c for c in configurations() if package in (None, c.dialect)]
    names = list(dict.fromkeys(c.name for c in of_package))
    optimizers = chosen("optimizer", options.optimizers or names, names)
    wide = ["float32", "float64"]
    known = wide if package else ["float16", "bfloat16", *wide]
    dtypes = chosen("dtype", options.dtypes or wide, known)
    engines = chosen("engine", options.engines or [*ENGINES], [*ENGINES])
    if package:
        load(package)
    if options.json:
        with writing(options.json):
            options.json.open("a", encoding="utf-8").close()

    rows: list[Row | NetworkReport] = []
    measured: Iterator[Row | NetworkReport]
    if options.network:
        measured = network_rows(optimizers, steps, options.device, options.seed)
    elif package:
        measured = against_rows(package, optimizers, dtypes, steps, options.seed, engines)
        print("\n".join(heading(package)))
    else:
        measured = parity_rows(optimizers, dtypes, steps, options.device, options.seed, engines)
    print(NetworkReport.HEADER if options.network else Row.HEADER)
    for row in measured:
        print(row, flush=True)
        rows.append(row)
    if options.json:
        with writing(options.json):
            text = json.dumps([row.as_json() for row in rows], indent=1) + "\n"
            options.json.write_text(text, encoding="utf-8")
    exceeded = sum(not row.passed for row in rows)
    print(f"{len(rows)} rows, {exceeded} above their bound")
    return 1 if exceeded else 0


def check_options(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(prog="torchopt-ref check", description=check.__doc__)
    parser.add_argument("optimizer", metavar="MODULE:CLASS", help="as in torch.optim:AdamW")
    parser.add_argument("--kwargs", default="{}", metavar="JSON", help="of its constructor")
    parser.add_argument(
        "--reference",
        metavar="NAME",
        help="of the same formula: Adam, book.Adam (in NumPy), torch.optim:NAdam, MODULE:NAME",
    )
    parser.add_argument("--reference-kwargs", metavar="JSON", help="of the reference's constructor")
    parser.add_argument(
        "--max-ulp", type=int, metavar="N", help="also count units in the last place, at most N"
    )
    parser.add_argument(
        "--expect",
        action="append",
        default=[],
        metavar='CHECK="REASON"',
        help="a failure that is known; may be repeated",
    )
    parser.add_argument(
        "--traits",
        nargs="+",
        default=[],
        metavar="TRAIT",
        help="what it is by design, such as needs_closure (a wrong one lists all)",
    )
    parser.add_argument("--state-bytes", type=float, help="declared, per byte of parameters")
    parser.add_argument("--slow", action="store_true", help="also what takes seconds")
    parser.add_argument("--json", type=a_path, help="also write the report to this file")
    options = parser.parse_args(arguments)
    options.expect = expected_failures(options.expect)
    if options.state_bytes is not None and not 0 <= options.state_bytes < math.inf:
        raise UserError("--state-bytes must be at least 0, and finite")
    if options.max_ulp is not None:
        check_whole("--max-ulp", options.max_ulp, 0, LARGEST_SEED)
    if options.reference is None and (options.reference_kwargs, options.max_ulp) != (None, None):
        raise UserError("--reference-kwargs and --max-ulp need a --reference")
    return options


def check(arguments: list[str]) -> int:
    """``torchopt-ref check``: a line per promise; exit status 1 where one is broken."""
    options = check_options(arguments)
    from torchopt_ref.sides import load_reference, load_target
    from torchopt_ref.testing.conformance import Traits, check_optimizer
    from torchopt_ref.testing.conformance.hints import hint_for

    names = [name for words in options.traits for name in words.split(",") if name]
    traits = Traits.named(names, options.state_bytes)
    factory = load_target(options.optimizer, options.kwargs)
    reference = None
    if options.reference is not None:
        kwargs = "{}" if options.reference_kwargs is None else options.reference_kwargs
        reference = load_reference(options.reference, kwargs)
    if options.json:
        with writing(options.json):
            options.json.open("a", encoding="utf-8").close()
    try:
        report = check_optimizer(
            factory,
            reference,
            traits=traits,
            slow=options.slow,
            max_ulp=options.max_ulp,
            expected_failures=options.expect,
        )
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        hint = hint_for(str(error)) or "see --kwargs, --traits"
        raise UserError(
            f"cannot make an optimizer of {options.optimizer}: {short_line(error)}: {hint}"
        ) from error
    print(report)
    if options.json:
        with writing(options.json):
            text = json.dumps(report.as_json(), indent=1) + "\n"
            options.json.write_text(text, encoding="utf-8")
    return 0 if report.passed else 1


def explain(arguments: list[str]) -> int:
    """``torchopt-ref explain``: what differs between two optimizers, in words and in numbers."""
    from torchopt_ref.testing.explanation import command

    return command.run(Parser(prog="torchopt-ref explain", description=explain.__doc__), arguments)


def expected_failures(given: list[str]) -> dict[str, str]:
    """The checks that ``--expect`` names, each with its reason."""
    expected: dict[str, str] = {}
    for text in given:
        name, _, reason = (part.strip() for part in text.partition("="))
        if not (name and reason):
            raise UserError(f'--expect {text!r} gives no reason: write CHECK="reason"')
        if name in expected:
            raise UserError(f"--expect names {name} twice: give it one reason")
        expected[name] = reason
    return expected


@contextmanager
def writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"cannot write {path}: {why}: choose another --json") from error


def chosen(kind: str, given: list[str], known: list[str]) -> list[str]:
    """The known names that ``given`` lists, separately or joined by commas; case does not count."""
    by_folded = {name.casefold(): name for name in known}
    names = [name for words in given for name in words.split(",") if name]
    for name in names or [""]:
        if name.casefold() not in by_folded:
            raise unknown(kind, name, known)
    return [by_folded[name.casefold()] for name in names]


def playground(arguments: list[str]) -> int:
    """``torchopt-ref playground``: write a page in which the optimizers run, offline."""
    parser = Parser(prog="torchopt-ref playground", description=playground.__doc__)
    parser.add_argument(
        "--out", type=a_path, default=Path("playground.html"), help="file (playground.html)"
    )
    parser.add_argument("--lang", default="auto", help="en, zh, or auto: the browser's (auto)")
    options = parser.parse_args(arguments)
    from torchopt_ref.playground import LANGUAGES, page
    from torchopt_ref.whole_file import write_whole

    if options.lang not in LANGUAGES:
        raise unknown("language", options.lang, LANGUAGES)
    if options.out.is_dir():
        raise UserError(f"--out {options.out} is a folder: name a file in it")
    write_whole(options.out, page(options.lang))
    print(f"Open {options.out.resolve()} in a browser")
    return 0


COMMANDS = {
    "run": run,
    "list": list_experiments,
    "train": train,
    "report": report,
    "playground": playground,
    "tensorboard": open_tensorboard,
    "inspect": inspect,
    "parity": parity,
    "check": check,
    "explain": explain,
}
