"""DDP, ZeroRedundancyOptimizer, FSDP2, distributed checkpoints: two processes on the CPU."""

import time

import torch.multiprocessing as mp

from .distributed_scenarios import CASES, worker

DEADLINE = 300


def test_two_processes_reach_what_one_reaches(tmp_path):
    """Each trains on half of every batch, or steps its shards, and reaches what one reaches."""
    with mp.Manager() as manager:
        results = manager.dict()
        processes = mp.spawn(worker, (str(tmp_path / "store"), results), nprocs=2, join=False)
        try:
            end = time.monotonic() + DEADLINE
            while not processes.join(timeout=1):
                assert time.monotonic() < end, f"hangs after {list(results.keys())}"
        finally:
            for process in processes.processes:
                process.kill()
        outcomes = dict(results)
    assert len(outcomes) == 2 * len(CASES)
    assert {key: outcome for key, outcome in outcomes.items() if outcome} == {}
