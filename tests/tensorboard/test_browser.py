"""What a person sees: the real TensorBoard on a real run, in a real browser."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from browser import Browser
from torch import nn

from torchopt_ref.tensorboard import Monitor

torchvision = pytest.importorskip("torchvision")

PAGES = {
    "custom_scalars": (
        *("Is it learning?", "loss", "accuracy", "learning rate"),
        *("Are the steps of a good size?", "update to weight, over layers"),
        *("update to weight, band around 1e-3", "effective step, of all layers"),
    ),
    "timeseries": ("accuracy", "activation/layer1.0.relu", "gradient norm", "update to weight"),
    "scalars": ("accuracy", "activation mean", "gradient norm", "update to weight"),
    "text": ("git commit", "momentum: 0.9", "diagnosis", "Nothing stands out."),
    "hparams": ("Trial ID", "resnet18", "batch size", "lr", "momentum", "SGD", "loss"),
    "distributions": ("activation/layer1.0.relu", "activation/layer1.0.relu #2"),
    "histograms": ("activation/layer1.0.relu", "activation/layer1.0.relu #2"),
    "images": ("confusion matrix", "taken for another class"),
}
"""What is to be read on each page of TensorBoard."""

DRAWN = {"custom_scalars": 6, "distributions": 4, "histograms": 2, "images": 1}
"""Curves and pictures at least there, where they are not drawn on a canvas."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A stock model and a stock optimizer, watched for 12 steps."""
    folder = tmp_path_factory.mktemp("runs")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    config = {"batch size": 8}
    with Monitor(model, optimizer, folder / "resnet18", every=4, config=config) as monitor:
        for _ in range(12):
            x, y = torch.randn(8, 3, 32, 32), torch.randint(10, (8,))
            optimizer.zero_grad()
            output = model(x)
            loss = nn.functional.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)
    torch.set_num_threads(threads)
    return folder


@pytest.fixture(scope="module")
def url(runs):
    """Of ``torchopt-ref tensorboard`` on a free port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "torchopt_ref", "tensorboard", str(runs), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield re.match(r"Open (http://127\.0\.0\.1:\d+/)", process.stdout.readline())[1]
    finally:
        process.terminate()
        process.communicate()


def test_every_page_shows_the_run_and_the_console_has_no_error(url, tmp_path):
    pictures = Path(os.environ.get("TORCHOPT_REF_SCREENSHOTS") or tmp_path / "screenshots")
    pictures.mkdir(parents=True, exist_ok=True)
    with Browser(url, tmp_path / "profile") as browser:
        for page, texts in PAGES.items():
            browser.open(page)
            browser.wait_for(*texts, drawn=DRAWN.get(page, 0))
            if page == "text":
                shown = browser.text()
                assert shown.index("diagnosis") < shown.index("settings and versions")
            browser.save(pictures / f"{page}.png")
        browser.open("custom_scalars")
        browser.wait_for(
            *("Are the layers alive?", "dead units", "samples per second"),
            *("parity drift from NumPy (ULP)", "parity drift from float64 (ULP)"),
        )
        assert "saturated" not in browser.text(), "a chart of layers that the model has not"
        assert browser.errors() == []
    for page in PAGES:
        assert (pictures / f"{page}.png").stat().st_size > 10_000
