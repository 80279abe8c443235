"""``python -m torchopt_ref.benchmarks SUITE``: print a suite's table of ratios.

A user's mistake gives one line on stderr and exit status 2. Contestants that do not compute the
same give one line, too, and exit status 1.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from torchopt_ref.devices import check_device
from torchopt_ref.errors import UserError, unknown, with_hint
from torchopt_ref.parser import Parser
from torchopt_ref.whole_file import write_whole
from torchopt_ref.written import pasted

from . import layers, load, optim, sweeps, training
from .report import Result, caption, machine, markdown, records, table
from .timing import Case, NotTheSame, compare


class Suite(NamedTuple):
    """The cases of a suite, and how they are shown."""

    cases: Callable[[torch.device], Iterable[Case]]
    title: str
    axis: str | None = None
    """what varies between the cases of a sweep; None where a suite is no sweep"""


def monitor_cases(device: torch.device) -> Iterable[Case]:
    from . import monitor  # which needs the extra ``lab``

    return monitor.cases(device)


SUITES = {
    "optim": Suite(optim.cases, "One optimizer step"),
    "load": Suite(load.cases, "One optimizer step while other processes keep the cores busy"),
    "layers": Suite(layers.cases, "Layers"),
    "training": Suite(training.cases, "A whole training step with Adam"),
    "sweep-size": Suite(
        sweeps.size_cases,
        f"A step of Adam by the size of the model, in {sweeps.TENSORS} tensors",
        axis="elements (float32)",
    ),
    "sweep-count": Suite(
        sweeps.count_cases,
        f"A step of Adam by the number of tensors, of {sweeps.ELEMENTS} elements each",
        axis=f"tensors of {sweeps.ELEMENTS} elements (float32)",
    ),
    "monitor": Suite(monitor_cases, "What a Monitor costs, in blocks of 50 training steps"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a suite and return the exit status."""
    try:
        run(arguments)
    except UserError as error:
        return failed(str(error), 2)
    except ModuleNotFoundError as error:
        return failed(str(with_hint(error)), 2)
    except NotTheSame as error:
        return failed(" ".join(str(error).split()), 1)
    return 0


def failed(message: str, status: int) -> int:
    print(f"bench.py: {message}", file=sys.stderr)
    return status


def run(arguments: Sequence[str] | None) -> None:
    options = parsed(arguments)
    suite, device = SUITES[options.suite], torch.device(options.device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    cases = chosen(suite.cases(device), options.only, options.against)
    if device.type != "cpu":
        cases = [case.without_bars() for case in cases]  # the bars are meant for a CPU
    draws = options.plot or options.tensorboard
    if draws:
        # Imported here, so that a missing matplotlib is reported before minutes of timing.
        from . import events, plot

    description = machine(device)
    print(", ".join(f"{name} {value}" for name, value in description.items()))
    results = []
    for case in cases:
        result = Result(case, compare(case, rounds=options.rounds, device=device))
        print(f"\n{table(result)}", flush=True)
        results.append(result)
    if options.markdown:
        print(f"\n{markdown(results)}")
    if options.json:
        written = {"suite": options.suite, "machine": description, "results": records(results)}
        write(options.json, json.dumps(written, indent=1) + "\n")
    if not draws:
        return
    title = f"{suite.title}\n{caption(description)}"
    if suite.axis is None:
        figure = plot.ratio_bars(results, title)
    else:
        figure = plot.sweep_curves(results, title, suite.axis)
    if options.plot:
        png = io.BytesIO()
        figure.savefig(png, dpi=100, format="png")
        write(options.plot, png.getvalue())
    if options.tensorboard:
        folder = events.write(options.tensorboard, options.suite, results, figure)
        print(f"\nSee the figure and the curves: {pasted('tensorboard', folder)}")


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="bench.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Time the contestants of each case in turns. A ratio below 1 is faster than\n"
        "the contestant behind 'against'; the bar is the ratio not to be exceeded.\n\nsuites:\n"
        + "\n".join(f"  {name:12} {suite.title}" for name, suite in SUITES.items()),
    )
    parser.add_argument("suite", metavar="SUITE", help="one of those above")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name contains TEXT")
    parser.add_argument("--against", metavar="NAME", help="the contestant that all ratios are to")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:1")
    parser.add_argument("--rounds", type=int, default=30, help="samples of each (default: 30)")
    parser.add_argument("--threads", type=int, help="torch's threads (default: torch's choice)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results there, too")
    parser.add_argument(
        "--markdown", action="store_true", help="print one table of all ratios in the end, too"
    )
    parser.add_argument("--plot", type=Path, metavar="PATH.png", help="draw them there")
    parser.add_argument(
        "--tensorboard", type=Path, metavar="DIR", help="event files, in a new folder in DIR"
    )
    options = parser.parse_args(arguments)
    if options.suite not in SUITES:
        raise unknown("suite", options.suite, SUITES)
    if options.rounds < 2:
        parser.error("--rounds must be at least 2")
    if options.threads is not None and options.threads < 1:
        parser.error("--threads must be at least 1")
    check_device(options.device)
    for path in (options.json, options.plot):
        if path is not None and not path.parent.is_dir():
            parser.error(f"no folder {path.parent} to write {path.name} to")
    return options


def chosen(cases: Iterable[Case], only: str, against: str | None) -> list[Case]:
    """The cases whose name contains ``only`` and that have the contestant ``against``, measured
    against it."""
    named = [case for case in cases if only in case.name]
    if not named:
        raise UserError(f"no case has {only!r} in its name: choose another --only, or omit it")
    if against is None:
        return named
    names = dict.fromkeys(each.name for case in named for each in case.contestants)
    if against not in names:
        raise unknown("contestant", against, names)
    return [
        case.measured_against(against)
        for case in named
        if against in [each.name for each in case.contestants]
    ]


def write(path: Path, content: str | bytes) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}: choose another path") from error


if __name__ == "__main__":
    sys.exit(main())
