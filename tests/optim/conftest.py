"""What several tests of optimizers need."""

import importlib

import pytest

native = importlib.import_module("torchopt_ref.optim.engines.native")


@pytest.fixture
def no_native(monkeypatch):
    """A machine whose own compiler is not found, so that torch's is used."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    native.native_step.cache_clear()
    yield
    native.native_step.cache_clear()
