"""The documentation site: every public name and optimizer is on it, and no link is broken."""

import inspect
import pickle
import pkgutil
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest

import numpy_ref
from torchopt_ref.sides import KNOWN

pytest.importorskip("furo", reason="pip install 'torchopt-ref[docs]'")

DOCS = Path(__file__).parents[1] / "docs"
PACKAGES = ("optim", "init", "nn", "data", "testing", "tensorboard", "train")
REFERENCE = [f"numpy_ref.{each.name}" for each in pkgutil.iter_modules(numpy_ref.__path__)]
REFERENCE.remove("numpy_ref.checks")


def public_names():
    for module in (import_module(f"torchopt_ref.{package}") for package in PACKAGES):
        for name in module.__all__:
            if not isinstance(getattr(module, name), ModuleType):
                yield f"{module.__name__}.{name}"
    for loop in ("lightning", "transformers"):
        yield f"torchopt_ref.tensorboard.{loop}.MonitorCallback"
    for module in map(import_module, ["torchopt_ref.init.book", *REFERENCE]):
        for name, value in vars(module).items():
            own = getattr(value, "__module__", None) == module.__name__
            if own and value.__doc__ and not name.startswith("_"):
                yield f"{module.__name__}.{name}"


SPHINX = """
import gc, sys
from sphinx.cmd.build import main
gc.set_threshold(100_000)  # A seventh of the time else goes into looking for garbage in its trees.
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def site(starter, tmp_path_factory):
    """The site, built without a warning; ``doctrees`` is what Sphinx made of the sources.

    Sphinx changes the signatures of what it documents, so it has a process of its own.
    """
    site = tmp_path_factory.mktemp("site")
    log = site / "log"
    places = ["-d", site / "doctrees", DOCS, site / "html"]
    pid = starter.start(["-q", "-W", "--keep-going", *places], log, SPHINX)
    assert starter.wait(pid) == 0, log.read_text()
    return site


def test_the_site_has_every_public_name_and_optimizer(site):
    from docutils import nodes

    doctrees = site / "doctrees"
    environment = pickle.loads((doctrees / "environment.pickle").read_bytes())
    objects = environment.domaindata["py"]["objects"]
    missing = set(public_names()) - set(objects)
    assert not missing
    for known in KNOWN:
        name = objects[f"torchopt_ref.optim.{known.name}"].docname
        page = pickle.loads((doctrees / f"{name}.doctree").read_bytes())
        assert list(page.findall(nodes.math_block)), known.name
        numpy, torch = (block.astext() for block in page.findall(nodes.literal_block))
        assert last_line(known.reference.formula) in numpy, known.name
        assert last_line(known.ours.rule.update) in torch, known.name


def last_line(function):
    return inspect.getsource(function).splitlines()[-1]


def test_no_link_of_the_site_leads_nowhere_or_to_another_host(site):
    pages = {page: page.read_text() for page in (site / "html").rglob("*.html")}
    assert pages
    anchors = {
        page: set(re.findall(r'\b(?:id|name)="([^"]+)"', text)) for page, text in pages.items()
    }
    wrong = set()
    for page, text in pages.items():
        text = re.sub(r"<script>.*?</script>", "", text, flags=re.S)
        for kind, link in re.findall(r'\b(href|src|srcset)="([^"]*)"', text):
            if link.startswith(("https:", "http:")):
                is_loaded = kind != "href" or re.search(rf'<link [^>]*"{re.escape(link)}"', text)
                wrong |= {(page.name, link)} if is_loaded else set()
            elif not link.startswith("data:"):
                path, _, anchor = unquote(link).partition("#")
                target = (page.parent / path.partition("?")[0]).resolve() if path else page
                if not target.exists() or (anchor and anchor not in anchors[target]):
                    wrong.add((page.name, link))
    assert not wrong
