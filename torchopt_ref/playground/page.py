"""The playground as one HTML file."""

from pathlib import Path

from .javascript import optimizers

HERE = Path(__file__).parent
SCRIPTS = (
    *("stepping", "surfaces", "network", "words", "controls"),
    *("map", "paths", "spirals_drawing", "spirals", "main"),
)
"""In their order on the page, after the translated optimizers."""

LANGUAGES = ("auto", "en", "zh")


def page(language: str = "auto") -> str:
    """The whole page. It begins in this language, or with ``auto`` in the browser's."""
    scripts = [optimizers(), *(read(f"{name}.js") for name in SCRIPTS)]
    parts = {"css": read("page.css"), "script": "\n".join(scripts), "language": language}
    text = read("page.html")
    for name, part in parts.items():
        text = text.replace("{{" + name + "}}", part.rstrip())
    return text


def read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
