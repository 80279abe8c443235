"""``python -m torchopt_ref.benchmarks SUITE``: print a suite's table of ratios."""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from . import layers, monitor, optim
from .timing import Case, Contestant, Timing, compare

SUITES: dict[str, Callable[[], Iterable[Case]]] = {
    **{"layers": layers.cases, "optim": optim.cases},
    "monitor": monitor.cases,
}

HEADER = f"{'':32}{'median':>12}{'ratio':>9}  {'(quartiles)':>14}{'bar':>9}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="bench.py",
        description="Time the contestants of each case in turns. A ratio below 1 is faster than "
        "the first contestant, or the one named; the bar is the ratio to stay under.",
    )
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name contains TEXT")
    parser.add_argument("--rounds", type=int, default=30, help="samples of each (default: 30)")
    parser.add_argument("--threads", type=int, help="torch's threads (default: torch's choice)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results there, too")
    options = parser.parse_args(arguments)
    if options.rounds < 2:
        parser.error("--rounds must be at least 2")
    if options.threads is not None:
        torch.set_num_threads(options.threads)

    machine = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpu": platform.processor() or platform.machine(),
        "python": platform.python_version(),
    }
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    results = []
    for case in SUITES[options.suite]():
        if options.only not in case.name:
            continue
        timings = compare(case, rounds=options.rounds)
        print(f"\n{case.name}\n{HEADER}")
        for contestant, timing in zip(case.contestants, timings, strict=True):
            print(_line(contestant, timing), flush=True)
            results.append(_record(case, contestant, timing))
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": machine, "results": results}, indent=1))


def _line(contestant: Contestant, timing: Timing) -> str:
    ratio = timing.ratio
    quartiles = f"({ratio.low:.2f}-{ratio.high:.2f})"
    bar = "" if contestant.bar is None else f"{contestant.bar:.2f}"
    against = "" if contestant.against is None else f"  against {contestant.against}"
    microseconds = timing.seconds.median * 1e6
    return (
        f"  {contestant.name:30}{microseconds:9.0f} us{ratio.median:9.2f}  {quartiles:>14}{bar:>9}"
        f"{against}"
    )


def _record(case: Case, contestant: Contestant, timing: Timing) -> dict[str, Any]:
    return {
        "case": case.name,
        "contestant": contestant.name,
        "bar": contestant.bar,
        "against": contestant.against or case.contestants[0].name,
        **dataclasses.asdict(timing),
    }


if __name__ == "__main__":
    main()
