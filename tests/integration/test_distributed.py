"""DDP, ZeroRedundancyOptimizer, FSDP2, distributed checkpoints: two processes on the CPU."""

import json

import pytest

from tests.thinned import only

from .distributed_scenarios import CASES, FOURTH

WORKER = """
import sys
from tests.integration.distributed_scenarios import worker
worker(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
"""
DEADLINE = 300


@pytest.mark.parametrize("every", only([FOURTH], [FOURTH, 1]))
def test_two_processes_reach_what_one_reaches(starter, tmp_path, every):
    """Each trains on half of every batch, or steps its shards, and reaches what one reaches."""
    log = tmp_path / "log"
    processes = [starter.start([rank, tmp_path, every], log, code=WORKER) for rank in (0, 1)]
    assert [starter.wait(process, DEADLINE) for process in processes] == [0, 0], log.read_text()
    lines = [line for rank in (0, 1) for line in (tmp_path / f"{rank}").read_text().splitlines()]
    assert len(lines) == 2 * len(CASES[::every])
    assert [found for found in map(json.loads, lines) if found["error"]] == []
