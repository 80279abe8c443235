"""Formulas as MathML, which browsers draw themselves: no script, no fonts, no network."""

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

logger = logging.getLogger(__name__)


def inline(page, node):
    page.body.append(mathml(node, as_block=False))
    raise nodes.SkipNode


def block(page, node):
    page.body.append(f'<div class="formula">{mathml(node, as_block=True)}</div>\n')
    raise nodes.SkipNode


def mathml(node, as_block):
    try:
        return tex2mathml(node.astext(), as_block)
    except MathError as error:
        logger.warning("%s: %s", node.astext(), error, location=node)
        return ""


def setup(app):
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
