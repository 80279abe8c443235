"""What several tests of optimizers need."""

import importlib

import pytest

native = importlib.import_module("torchopt_ref.optim.engines.native")


@pytest.fixture
def no_native(monkeypatch):
    """No dtype is computed by generated C++, so that all are compiled by torch."""
    monkeypatch.setattr(native, "CXX_TYPES", {})
