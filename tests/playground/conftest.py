"""The playground in a headless Chromium, which all tests of a process share."""

import pytest
from browser import Browser

from torchopt_ref.playground import page


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    folder = tmp_path_factory.mktemp("playground")
    (folder / "page.html").write_text(page("en"), encoding="utf-8")
    with Browser(folder / "profile", (folder / "page.html").as_uri()) as browser:
        browser.devtools(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-reduced-motion", "value": "reduce"}],
        )
        browser.load()
        yield browser


@pytest.fixture
def opened(chromium):
    """The page as it is when it has just been opened, and is not playing."""
    chromium.load()
    chromium.errors()
    yield chromium
    assert chromium.errors() == []
