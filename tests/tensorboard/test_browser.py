"""What a person sees: the real TensorBoard on a real run, in a real browser."""

import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.browser import Browser
from tests.thinned import only
from torchopt_ref.errors import UserError
from torchopt_ref.tensorboard import Monitor, RunFolder
from torchopt_ref.tensorboard.run_lock import locked
from torchopt_ref.train import Config, train

torchvision = pytest.importorskip("torchvision")

PAGES = {
    "custom_scalars": (
        *("The verdict", "resnet18: Nothing stands out. Shown: loss.", "Is it learning?"),
        *("accuracy", "learning rate", "Are the steps of a good size?"),
        *("update to weight, log10: -3 is usual", "effective step, of all layers"),
        *("Are the layers alive?", "dead units", "samples per second"),
        *("parity drift from NumPy (ULP)", "parity drift from float64 (ULP)"),
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
    """A stock model and a stock optimizer, watched for 8 steps."""
    folder = tmp_path_factory.mktemp("runs")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    config = {"batch size": 8}
    with Monitor(model, optimizer, folder / "resnet18", every=4, config=config) as monitor:
        for _ in range(8):
            x, y = torch.randn(8, 3, 32, 32), torch.randint(10, (8,))
            optimizer.zero_grad()
            output = model(x)
            loss = nn.functional.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss, output=output, target=y)
    torch.set_num_threads(threads)
    (folder / "loop").symlink_to(folder)  # of which TensorBoard would have a note
    return folder


@contextmanager
def served(folder):
    """What ``torchopt-ref tensorboard`` prints before it waits, on a free port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "torchopt_ref", "tensorboard", str(folder), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process.stdout
    finally:
        process.terminate()
        assert process.communicate()[1] == "", "TensorBoard's notes on itself"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile"), "1400,1000") as browser:
        yield browser


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = os.environ.get("TORCHOPT_REF_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder)


@pytest.mark.parametrize(
    "pages",
    [
        ("custom_scalars", "text", "hparams", "images"),
        # The same curves and histograms once more.
        pytest.param(
            ("timeseries", "scalars", "histograms", "distributions"), marks=pytest.mark.slow
        ),
    ],
    ids=["usual", "others"],
)
def test_every_page_shows_the_run_and_the_console_has_no_error(browser, runs, pictures, pages):
    with served(runs) as said:
        url = re.fullmatch(r"Open (http://127\.0\.0\.1:\d+/)#.* \(.*\)\n", said.readline())[1]
        for page in pages:
            browser.open(f"{url}#{page}")
            browser.wait_for(*PAGES[page], drawn=DRAWN.get(page, 0))
            if page == "custom_scalars":
                assert "saturated" not in browser.text(), "a chart of layers that are not there"
            if page == "text":
                shown = browser.text()
                assert shown.index("diagnosis") < shown.index("settings and versions")
            browser.save(pictures / f"{page}.png")
        assert browser.errors() == []
    for page in pages:
        assert (pictures / f"{page}.png").stat().st_size > 10_000


@pytest.fixture(scope="module")
def many_runs(tmp_path_factory):
    """What ``run all``, ``train``, and a training that ended by NaN leave: 54 TensorBoard runs."""
    parent = tmp_path_factory.mktemp("many")
    for number in range(10):
        with (
            RunFolder(parent / f"experiment-{number}", "mnist-1") as folder,
            locked(folder.path),
        ):
            for variant in range(5):
                writer = folder.writer(f"variant-{variant}")
                for step in range(1, 6):
                    writer.add_scalars({"loss/train": variant + 1 / step}, step)
    options = {"model": "mlp", "dataset": "fake", "augment": False, "epochs": 1, "quiet": True}
    options |= {"out": parent / "train", "optimizer": "SGD"}
    train(Config.of(**options, name="sound"))
    with pytest.raises(UserError, match="the loss is nan"), pytest.warns(RuntimeWarning):
        train(Config.of(**options, name="ended by NaN", lr=1e30))
    return parent


@pytest.mark.slow
def test_the_verdict_on_the_open_page_is_that_of_now(browser, tmp_path):
    """The category stays open, and its chart changes."""
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def train(steps):
        for _ in range(steps):
            loss = model(torch.randn(8, 4)).square().sum()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)

    with Monitor(model, optimizer, tmp_path / "run", every=1) as monitor, served(tmp_path) as said:
        train(2)
        browser.open_anew(re.match(r"Open (\S+)", said.readline())[1])
        browser.wait_for("run: No verdict on the whole: it has", "Matches (1)")
        train(4)
        # TensorBoard reads the files again after some seconds, and the button shows what it read.
        deadline = time.monotonic() + 60
        while "gradients are never zeroed" not in browser.text():
            assert time.monotonic() < deadline, browser.text()
            browser.run(
                "document.querySelector('[svgicon=refresh_24px]').closest('button').click()"
            )
            time.sleep(1)
        browser.wait_for("Matches (1)", drawn=1)
        assert "No verdict" not in browser.text()
    browser.errors()  # TensorBoard stumbles over any chart that leaves an open page.


VIEWS = {
    "nan": ("train/ended by NaN/monitor", "first step with a value that is not"),
    "train": ("train/sound/monitor", "update to weight, log10"),
    "experiment": ("experiment-9/mnist-1/variant-4",),
    "everything": ("mnist-1/variant-0", "accuracy/test"),
}
"""What is to be read on each."""


@pytest.fixture(scope="module")
def addresses(many_runs):
    """Those that the command prints."""
    with served(many_runs) as said:
        first = re.fullmatch(r"Open (\S+) \(Ctrl-C ends it\)\n", said.readline())[1]
        assert said.readline() == "It shows the newest of 12 runs. The others:\n"
        listed = dict(said.readline().rsplit(maxsplit=1) for _ in range(10))
        listed = {name.strip(): address for name, address in listed.items()}
        assert said.readline() == "  and 1 older\n"
        yield {
            "nan": first,
            "train": listed["train/sound"],
            "experiment": listed["experiment-9/mnist-1"],
            "everything": said.readline().split()[-1],
        }


@pytest.mark.parametrize(
    "view",
    only(["nan"], VIEWS),
)
def test_the_first_view_shows_curves_whatever_was_run(browser, addresses, pictures, view):
    """Of 54 runs TensorBoard itself would select none of those on a dashboard, and draw nothing."""
    others = ("experiment-0", "experiment-8", "train/sound", "ended by NaN")
    browser.open_anew(addresses[view])
    browser.wait_for(*VIEWS[view], *(others if view == "everything" else ()))
    browser.wait_for_curves()
    browser.save(pictures / f"first view, {view}.png")
    seen = [other for other in others if other in browser.text()]
    assert len(seen) == {"nan": 1, "train": 1, "experiment": 0, "everything": 4}[view]
    assert browser.errors() == []
