"""DDP, ZeroRedundancyOptimizer, FSDP2, distributed checkpoints: two processes on the CPU."""

import json

from .distributed_scenarios import CASES

WORKER = """
import sys
from tests.integration.distributed_scenarios import worker
worker(int(sys.argv[1]), sys.argv[2])
"""
DEADLINE = 300


def test_two_processes_reach_what_one_reaches(starter, tmp_path):
    """Each trains on half of every batch, or steps its shards, and reaches what one reaches."""
    log = tmp_path / "log"
    processes = [starter.start([rank, tmp_path], log, code=WORKER) for rank in (0, 1)]
    assert [starter.wait(process, DEADLINE) for process in processes] == [0, 0], log.read_text()
    lines = [line for rank in (0, 1) for line in (tmp_path / f"{rank}").read_text().splitlines()]
    assert len(lines) == 2 * len(CASES)
    assert [found for found in map(json.loads, lines) if found["error"]] == []
