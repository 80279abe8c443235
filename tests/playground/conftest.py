"""The playground in a headless Chromium, which all tests of a process share."""

import pytest

from tests.browser import Browser
from torchopt_ref.playground import page


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    file = tmp_path_factory.mktemp("playground") / "page.html"
    file.write_text(page("en"), encoding="utf-8")
    return file.as_uri()


@pytest.fixture(scope="session")
def chromium(address, tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile"), "1000,700") as browser:
        browser.devtools(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-reduced-motion", "value": "reduce"}],
        )
        browser.open(address)
        yield browser


@pytest.fixture
def opened(chromium, address):
    """The page as it is when it has just been opened, and is not playing."""
    chromium.open(address)
    chromium.errors()
    yield chromium
    assert chromium.errors() == []
