"""A headless Chromium, driven by selenium."""

import io
import shutil
import time

import numpy as np
import pytest

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--no-first-run",
)
BROWSERS = ("chromium", "google-chrome")
"""The first that is there."""
SEEN = """
const unseen = ['STYLE', 'SCRIPT', 'NOSCRIPT'];
let text = '', drawn = 0;
function look(node) {
    if (node.nodeType === Node.TEXT_NODE) text += node.data;
    if (node.nodeType === Node.ELEMENT_NODE) {
        if (unseen.includes(node.nodeName) || !node.checkVisibility({visibilityProperty: true}))
            return;
        if (node.nodeName === 'path' || node.nodeName === 'IMG') {
            const {width, height} = node.getBoundingClientRect();
            const corners = (node.getAttribute('d') || '').split('L').length;
            drawn += height > 0 && (node.nodeName === 'IMG' || (corners > 3 && width > 100));
        }
        if (node.shadowRoot) node.shadowRoot.childNodes.forEach(look);
    }
    node.childNodes.forEach(look);
}
look(document.body);
return [text, drawn];
"""
"""The text that is visible, and how many pictures and curves; elements sit in shadow roots."""
CHARTS = """
const found = [];
function look(node) {
    if (node.shadowRoot) look(node.shadowRoot);
    for (const each of node.children || []) {
        const {x, y, width, height} = each.getBoundingClientRect();
        const large = width > 200 && height > 100 && x >= 0 && y >= 0;
        if (each.nodeName === 'CANVAS' || each.nodeName === 'svg') {
            if (large && x + width <= innerWidth && y + height <= innerHeight)
                found.push([x, y, width, height].map(Math.floor));
        } else look(each);
    }
}
look(document.body);
return found;
"""
"""Where the charts are that can be seen without scrolling."""


class Browser:
    """Chromium with a profile of its own in ``folder``, and a page of its own; use as a context.

    The larger its window, the longer pictures take.
    """

    def __init__(self, folder, size):
        webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
        browser = next(filter(None, map(shutil.which, BROWSERS)), None)
        driver = shutil.which("chromedriver")
        if browser is None or driver is None:
            pytest.skip("no chromium and chromedriver are installed (CONTRIBUTING.md has the line)")
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for flag in (*FLAGS, f"--user-data-dir={folder}", f"--window-size={size}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(driver)
        self._driver = webdriver.Chrome(options=options, service=service)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._driver.quit()

    def open(self, address):
        self._driver.get(address)

    def open_anew(self, address):
        """As a person who has just started the browser, whatever was seen in it before."""
        self._driver.get("about:blank")
        self._driver.get(address)

    def wait_for_curves(self, seconds=60):
        """Until a chart that is seen without scrolling has something drawn in it, in colour."""
        from PIL import Image

        deadline = time.monotonic() + seconds
        while True:
            charts = self._driver.execute_script(CHARTS)
            picture = Image.open(io.BytesIO(self._driver.get_screenshot_as_png())).convert("RGB")
            pixels = np.asarray(picture).astype(int)
            colour = pixels.max(axis=2) - pixels.min(axis=2)
            drawn = [(colour[y : y + high, x : x + wide] > 20).sum() for x, y, wide, high in charts]
            if max(drawn, default=0) > 20:
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"after {seconds} s {len(charts)} charts have {drawn} pixels")
            time.sleep(0.3)

    def wait_for(self, *texts, drawn=0, seconds=60):
        """Until all the texts, and so many curves or pictures, are visible."""
        deadline = time.monotonic() + seconds
        while True:
            shown, count = self._driver.execute_script(SEEN)
            missing = [text for text in texts if plain(text) not in plain(shown)]
            if not missing and count >= drawn:
                return
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"after {seconds} s {missing} is missing, {count} of {drawn} drawn, of this: "
                    + " ".join(shown.split())
                )
            time.sleep(0.3)

    def text(self):
        return self._driver.execute_script(SEEN)[0]

    def run(self, script, *arguments):
        """What a script returns, which sees the names that the page's own scripts define."""
        return self._driver.execute_script(script, *arguments)

    def devtools(self, command, **parameters):
        """A command of Chromium's developer tools."""
        return self._driver.execute_cdp_cmd(command, parameters)

    def press(self, *keys):
        """Keys, one after the other, on what has the focus: ``" "``, ``"Enter"``, ``"Tab"``."""
        for key in keys:
            code = {" ": 32, "Tab": 9, "Enter": 13}.get(key)
            code = code or 37 + ("ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown").index(key)
            text = {" ": " ", "Enter": "\r"}.get(key)
            event = {"key": key, "windowsVirtualKeyCode": code} | ({"text": text} if text else {})
            self.devtools("Input.dispatchKeyEvent", type="keyDown", **event)
            event.pop("text", None)
            self.devtools("Input.dispatchKeyEvent", type="keyUp", **event)

    def save(self, path):
        assert self._driver.save_screenshot(str(path))

    def errors(self):
        """The messages of the console that are severe."""
        log = self._driver.get_log("browser")
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]


def plain(text):
    """Without spaces, which stand between elements, and without case, which styles change."""
    return "".join(text.split()).lower()
