"""The guide lists every check with its promise, and every trait."""

from pathlib import Path

import pytest
import torch

from torchopt_ref.testing import Traits, optimizer_checks

GUIDE = (Path(__file__).parents[3] / "docs" / "conformance.md").read_text()


@pytest.mark.parametrize("check", optimizer_checks(torch.optim.SGD), ids=str)
def test_the_guide_lists_the_check_with_its_promise(check):
    promise = " ".join(check.promise.partition("\n\n")[0].split())
    assert f"| `{check}` | {promise} |" in GUIDE


@pytest.mark.parametrize("trait", Traits.switches())
def test_the_guide_lists_the_trait(trait):
    assert f"| `{trait}` |" in GUIDE


def test_the_guide_lists_nothing_else():
    listed = GUIDE.partition("| check | promise |")[2].partition("\n\n")[0].count("\n| `")
    assert listed == len(optimizer_checks(torch.optim.SGD))
