"""The playground as one HTML file."""

from pathlib import Path

from .javascript import optimizers

HERE = Path(__file__).parent
SCRIPTS = (
    *("stepping", "surfaces", "network", "words", "controls"),
    *("map", "paths", "spirals", "main"),
)
"""In the order in which they stand in the page; what is translated comes before."""

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
