"""Short trainings by the command."""

import functools
import io
import json
import random
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch

import tests.train.small_model  # noqa: F401  (trainings find it by its name)
from tests.train.training_cases import TINY, write_small_mnist
from torchopt_ref.cli import main

# The command imports ``troublemakers:Failing`` by that name, as it would a user's module.
sys.path.append(str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def same_torch_afterwards():
    """A training seeds every generator and may ask for determinism."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    yield
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def small_mnist(tmp_path_factory):
    """The options that choose a data root of 500 images."""
    return ["--data-root", str(write_small_mnist(tmp_path_factory.mktemp("data")))]


@pytest.fixture(scope="session")
def forty_images(tmp_path_factory):
    """The options that choose a data root of 40 images to train and 10 to test, for small batches.

    Of the 40 some are held out by ``--validation``.
    """
    return ["--data-root", str(write_small_mnist(tmp_path_factory.mktemp("forty"), 40, 10))]


@pytest.fixture(scope="session")
def trained(tmp_path_factory, small_mnist):
    """``trained("--lr", "0.1")``: as ``train``, but once for all tests, which only read it.

    Returns the folder and the lines of ``--json-log``.
    """
    parent = tmp_path_factory.mktemp("trained")

    @functools.cache
    def run(*options):
        name = str(len([*parent.iterdir()]))
        where = ["--out", str(parent), "--name", name, *small_mnist]
        with redirect_stdout(io.StringIO()) as out:
            assert main(["train", *TINY, *where, "--json-log", *options]) == 0
        return parent / name, [json.loads(line) for line in out.getvalue().splitlines()]

    return run


@pytest.fixture
def train(tmp_path, capsys, small_mnist):
    """``train("--lr", "0.1", name="a")``: run it with ``TINY``'s options and return its folder."""

    def run(*options, name="run", status=0, tiny=TINY):
        where = ["--out", str(tmp_path / "runs"), "--name", name, *small_mnist]
        capsys.readouterr()
        assert main(["train", *tiny, *where, *options]) == status
        run.out, run.err = capsys.readouterr()
        return tmp_path / "runs" / name

    return run
