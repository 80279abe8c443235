"""Links to ``<a name="..."></a>``, the anchors of the chapter, which MyST does not see."""

import re

from docutils import nodes
from sphinx.transforms import SphinxTransform

ANCHOR = re.compile(r'<a name="([\w-]+)">')


class Anchors(SphinxTransform):
    default_priority = 870
    """Before MyST looks for a heading, label or Python name that is called like an anchor."""

    def apply(self):
        raw = "".join(node.astext() for node in self.document.findall(nodes.raw))
        anchors = {f"#{name}" for name in ANCHOR.findall(raw)}
        for link in self.document.findall(nodes.reference):
            if link.get("refuri") in anchors:
                link.attributes.pop("id_link", None)
                link["internal"] = True


def setup(app):
    app.add_transform(Anchors)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
