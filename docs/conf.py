"""The documentation site: python -m sphinx -W --keep-going docs OUT."""

import sys
from pathlib import Path

from sphinx.ext.autodoc.mock import MockFinder
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.util.typing import stringify_annotation
from torch.optim.optimizer import ParamsT

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS / "_ext"), str(DOCS.parent)]

# They are not needed, and take seconds.
sys.meta_path.insert(0, MockFinder(["lightning", "transformers"]))

project = "torchopt-ref"
copyright = "the authors of torchopt-ref"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "anchors",
    "formulas",
    "side_by_side",
    "source_pages",
    "static_files",
]
exclude_patterns = ["_*", "images"]
templates_path = ["_templates"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

autodoc_default_options = {"members": True, "exclude-members": "formula"}
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_type_aliases = {"Optimizer": "torchopt_ref.optim.Optimizer"}
autodoc_typehints_format = "short"
autosummary_ignore_module_all = False
maximum_signature_line_length = 80
smartquotes_action = "qe"  # -- begins an option

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["playground.html"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
html_use_index = False
html_domain_indices = False
html_show_search_summary = False  # a browser does not let the page of a folder read other files

PARAMS = stringify_annotation(ParamsT, "smart")


def shorten_signature(app, what, name, obj, options, signature, returned):
    """Call the type of ``params`` as torch does."""
    return (signature.replace(PARAMS, "ParamsT") if signature else signature), returned


def shorten_docstring(app, what, name, obj, options, lines):
    """Of what is torch's own the first paragraph."""
    if (getattr(obj, "__module__", None) or "").startswith("torch.") and "" in lines:
        del lines[lines.index("") :]


def read_sections(app, what, name, obj, options, lines):
    """Make fields of ``Args:`` and the like, but not of "0: none" in the line about an option.

    The extension sphinx.ext.napoleon would take that for the type of the option.
    """
    if what not in ("attribute", "data", "property"):
        style = Config(napoleon_use_rtype=False)
        lines[:] = GoogleDocstring(lines, style, app, what, name, obj).lines()


def skip_fields(app, what, name, obj, skip, options):
    """Omit the fields of named tuples, which the signature has."""
    return True if (obj.__doc__ or "").startswith("Alias for field number") else None


def setup(app):
    app.connect("autodoc-process-signature", shorten_signature)
    app.connect("autodoc-process-docstring", shorten_docstring, priority=100)
    app.connect("autodoc-process-docstring", read_sections)
    app.connect("autodoc-skip-member", skip_fields)
