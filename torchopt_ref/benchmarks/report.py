"""How results are shown: as tables, as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .timing import Case, Contestant, Quartiles, Timing

HEADER = f"{'':32}{'median':>12}{'GB/s':>8}{'ratio':>9}  {'(quartiles)':>17}{'bar':>7}"


class Result(NamedTuple):
    """A case, and the timings of its contestants in the same order."""

    case: Case
    timings: Sequence[Timing]

    def rows(self) -> Iterator[tuple[Contestant, Timing]]:
        yield from zip(self.case.contestants, self.timings, strict=True)


def machine(device: torch.device) -> dict[str, Any]:
    """The machine and the versions, on which the numbers depend."""
    described = {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": str(device),
    }
    if device.type == "cuda":
        described |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return described


def caption(described: dict[str, Any]) -> str:
    where = described.get("gpu") or f"{described['cpu']}, threads: {described['threads']}"
    return f"{where}, torch {described['torch']}"


def cpu_model(path: Path = Path("/proc/cpuinfo")) -> str:
    """The model of the processor, from Linux or else from Python."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def table(result: Result) -> str:
    lines = [result.case.name, HEADER]
    for contestant, timing in result.rows():
        ratio = timing.ratio
        rate = gigabytes_per_second(contestant, timing)
        bar = "" if contestant.bar is None else f"{contestant.bar:.2f}"
        lines.append(
            f"  {contestant.name:28}{timing.seconds.median * 1e6:11,.1f} us"
            f"{'' if rate is None else f'{rate:.1f}':>8}"
            f"{ratio.median:9.3f}  {f'({ratio.low:.3f}-{ratio.high:.3f})':>17}"
            f"{bar:>7}  against {timing.against}"
        )
    return "\n".join(lines)


def markdown(results: Sequence[Result]) -> str:
    """A row for each case: the contestant that its ratios refer to, and the ratios; a ratio is bold
    if its bar is missed."""
    rows = []
    for result in results:
        cells = {"case": result.case.name, "against": ""}
        for contestant, timing in result.rows():
            if contestant.name == timing.against:
                cells["against"] = f"{contestant.name}, {duration(timing.seconds)}"
            else:
                cells[contestant.name] = _cell(contestant, timing)
        rows.append(cells)
    names = list(dict.fromkeys(name for cells in rows for name in cells))
    table = [names, ["---"] * len(names), *([row.get(name, "") for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in table)


def _cell(contestant: Contestant, timing: Timing) -> str:
    ratio = f"{timing.ratio.median:.2f}"
    if contestant.bar is None:
        return ratio
    return f"{ratio if held(contestant, timing) else f'**{ratio}**'} (bar {contestant.bar:.2f})"


def held(contestant: Contestant, timing: Timing) -> bool | None:
    """Whether a contestant stayed under its bar, or None if it has none."""
    return None if contestant.bar is None else timing.ratio.median <= contestant.bar


def duration(seconds: Quartiles) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds.median >= size:
            return f"{seconds.median / size:.3g} {unit}"
    return f"{seconds.median * 1e6:.3g} µs"


def gigabytes_per_second(contestant: Contestant, timing: Timing) -> float | None:
    moved = contestant.bytes_moved
    return None if moved is None else moved / timing.seconds.median / 1e9


def records(results: Sequence[Result]) -> list[dict[str, Any]]:
    return [
        {
            "case": result.case.name,
            "at": result.case.at,
            "contestant": contestant.name,
            "bar": contestant.bar,
            "bytes_moved": contestant.bytes_moved,
            **dataclasses.asdict(timing),
        }
        for result in results
        for contestant, timing in result.rows()
    ]
