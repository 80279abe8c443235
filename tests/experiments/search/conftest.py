"""A finished search, and the number of a dead process."""

import subprocess
from dataclasses import replace

import pytest

from tests.experiments.search.cases import (
    TINY,
    run_search,
)


@pytest.fixture(scope="session")
def searched(tmp_path_factory):
    """The folder of a finished search."""
    return run_search(replace(TINY, out=tmp_path_factory.mktemp("search")))


@pytest.fixture(scope="module")
def dead():
    """The number of a process that does not exist any more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid
