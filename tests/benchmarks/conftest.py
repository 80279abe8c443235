"""The benchmark as a command, with torch's threads as they were before."""

import json

import pytest
import torch

from torchopt_ref.benchmarks.__main__ import main


@pytest.fixture
def bench(tmp_path):
    """Run the command with one thread and few rounds; what it wrote as JSON."""
    threads = torch.get_num_threads()

    def run(*arguments):
        path = tmp_path / "results.json"
        fast = ("--rounds", "2", "--threads", "1", "--json", str(path))
        assert main([*arguments, *fast]) == 0
        return json.loads(path.read_text())

    yield run
    torch.set_num_threads(threads)
