"""How results are shown: as a table and as JSON."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .timing import Case, Contestant, Timing

HEADER = f"{'':32}{'median':>12}{'GB/s':>8}{'ratio':>9}  {'(quartiles)':>17}{'bar':>7}"


class Result(NamedTuple):
    """A case, and the timings of its contestants in the same order."""

    case: Case
    timings: Sequence[Timing]

    def rows(self) -> Iterator[tuple[Contestant, Timing, str]]:
        """Each contestant, its timing, and the name of the one it is measured against."""
        first = self.case.contestants[0].name
        for contestant, timing in zip(self.case.contestants, self.timings, strict=True):
            yield contestant, timing, contestant.against or first


def machine(device: torch.device) -> dict[str, Any]:
    """What the numbers depend on besides the code."""
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
    """The model name that Linux knows; elsewhere, what Python knows."""
    if path.exists():
        for line in path.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def table(result: Result) -> str:
    lines = [result.case.name, HEADER]
    for contestant, timing, against in result.rows():
        ratio = timing.ratio
        rate = gigabytes_per_second(contestant, timing)
        lines.append(
            f"  {contestant.name:28}{timing.seconds.median * 1e6:11,.1f} us"
            f"{'' if rate is None else f'{rate:.1f}':>8}"
            f"{ratio.median:9.3f}  {f'({ratio.low:.3f}-{ratio.high:.3f})':>17}"
            f"{'' if contestant.bar is None else f'{contestant.bar:.2f}':>7}  against {against}"
        )
    return "\n".join(lines)


def gigabytes_per_second(contestant: Contestant, timing: Timing) -> float | None:
    moved = contestant.bytes_moved
    return None if moved is None else moved / timing.seconds.median / 1e9


def records(results: Sequence[Result]) -> list[dict[str, Any]]:
    return [
        {
            "case": result.case.name,
            "at": result.case.at,
            "contestant": contestant.name,
            "against": against,
            "bar": contestant.bar,
            "bytes_moved": contestant.bytes_moved,
            **dataclasses.asdict(timing),
        }
        for result in results
        for contestant, timing, against in result.rows()
    ]
