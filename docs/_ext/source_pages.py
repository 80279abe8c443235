"""A page for each source file that another page links to.

The guides link to files of the repository, as on GitHub. On the site such a link leads to a page
that shows the file; so does the link beside a documented name, to its line.
"""

import inspect
import os
from importlib import import_module
from operator import attrgetter
from pathlib import Path

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from sphinx import addnodes

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent


def link_files(app, doctree):
    """Make links to pages of MyST's links to files, which would be downloads."""
    folder = DOCS / os.path.dirname(app.env.docname)
    for node in list(doctree.findall(addnodes.download_reference)):
        page = page_of(app.env, (folder / node["reftarget"]).resolve())
        address = os.path.relpath(DOCS / page, folder)
        node.replace_self(nodes.reference("", "", *node.children, refuri=address, internal=True))


def page_of(env, file):
    if file.is_relative_to(DOCS):
        return file.relative_to(DOCS)
    files = shown(env)
    files.add(path := file.relative_to(ROOT).as_posix())
    return f"source/{path}.html"


def shown(env):
    """The files that have a page; kept with what Sphinx remembers for the next build."""
    if not hasattr(env, "source_files"):
        env.source_files = set()
    return env.source_files


def link_names(app, doctree):
    """Beside each documented name of this project, a link to its source."""
    folder = DOCS / os.path.dirname(app.env.docname)
    for signature in doctree.findall(addnodes.desc_signature):
        if signature.get("module") and (place := place_of(signature)):
            file, line = place
            address = os.path.relpath(DOCS / page_of(app.env, file), folder)
            link = nodes.reference("", "", refuri=f"{address}#line-{line}", internal=True)
            link += nodes.inline("", "[source]", classes=["viewcode-link"])
            signature += addnodes.only("", link, expr="html")


def place_of(signature):
    """File and line of a class or function of this project; None for anything else."""
    try:
        found = attrgetter(signature["fullname"])(import_module(signature["module"]))
        file = Path(inspect.getsourcefile(inspect.unwrap(found)))
        line = inspect.getsourcelines(found)[1]
    except (AttributeError, TypeError):
        return None
    return (file, line) if file.is_relative_to(ROOT) and ".venv" not in file.parts else None


def source_pages(app):
    look = HtmlFormatter(lineanchors="line", anchorlinenos=True, linenos="inline")
    for path in sorted(shown(app.env)):
        code = highlight((ROOT / path).read_text(encoding="utf-8"), PythonLexer(), look)
        yield f"source/{path}", {"title": path, "body": f"<h1>{path}</h1>{code}"}, "page.html"


def setup(app):
    # Before Sphinx looks for the files to be downloaded.
    app.connect("doctree-read", link_files, priority=100)
    app.connect("doctree-read", link_names)
    app.connect("html-collect-pages", source_pages)
    return {"parallel_write_safe": True}
