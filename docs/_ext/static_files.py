"""The figures, which pages name in HTML of their own, and the language of Chinese pages."""

import shutil
from pathlib import Path


def copy_figures(app, exception):
    if exception is None:
        images = Path(app.srcdir) / "images"
        shutil.copytree(images, Path(app.outdir) / "images", dirs_exist_ok=True)


def name_language(app, page, template, context, doctree):
    if page.endswith(".zh"):
        context["language"] = "zh"


def setup(app):
    app.connect("build-finished", copy_figures)
    app.connect("html-page-context", name_language)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
