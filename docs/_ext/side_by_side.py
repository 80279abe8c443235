"""The NumPy formula and the torch rule of an optimizer in two columns, taken from the source.

``.. side-by-side:: keras.Adam`` shows those of an optimizer of ``KNOWN``; the page of its class has
them below the formula. With the options ``numpy`` and ``torch`` instead of a name it shows any two
functions, each as ``torchopt_ref.optim.rule: Rule.__call__``.
"""

import inspect
import os
import re
import runpy
from importlib import import_module
from operator import attrgetter
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

from torchopt_ref.sides import BY_NAME, KNOWN

ROOT = Path(__file__).parents[2]
QUOTED = runpy.run_path(str(ROOT / "scripts" / "docs.py"))["quoted"]
FIELDS = re.compile(r"(Args|Arguments|State|Source|Raises)\b")
"""How the first line begins of what follows the formula in a docstring."""


class SideBySide(SphinxDirective):
    optional_arguments = 1
    option_spec = {"numpy": directives.unchanged_required, "torch": directives.unchanged_required}

    def run(self):
        if self.arguments:
            known = BY_NAME[self.arguments[0]]
            functions = {"NumPy": numpy_functions(known), "torch": torch_functions(known)}
        else:
            functions = {
                "NumPy": named(self.options["numpy"]),
                "torch": named(self.options["torch"]),
            }
        columns = [self.column(*each) for each in functions.items()]
        return [nodes.container("", *columns, classes=["side-by-side"])]

    def column(self, title, functions):
        files = dict.fromkeys(Path(inspect.getsourcefile(each)) for each in functions)
        head = nodes.paragraph("", title + ": ")
        for file in files:
            self.env.note_dependency(str(file))
            head.extend([self.link(file), nodes.Text(" ")])
        text = "\n\n\n".join(map(source, functions))
        code = nodes.literal_block(text, text, language="python")
        return nodes.container("", head, code)

    def link(self, file):
        folder = os.path.dirname(self.env.doc2path(self.env.docname))
        name = file.relative_to(ROOT).as_posix()
        target = os.path.relpath(file, folder)
        return addnodes.download_reference("", "", nodes.literal(name, name), reftarget=target)


def named(path):
    """The function of a line such as ``torchopt_ref.optim.rule: Rule.__call__``."""
    module, _, name = path.partition(": ")
    return [attrgetter(name)(import_module(module))]


def numpy_functions(known):
    return with_helpers([known.reference.formula])


def torch_functions(known):
    """The update of its rule, and how the scalars come about, where that takes a function."""
    rule = known.ours.rule
    return with_helpers(
        [each for each in (rule.update, rule.scalars, rule.rounded_scalars) if has_a_name(each)]
    )


def has_a_name(function):
    """Whether it is one of a module: lambdas, and what functions make, only hand options on."""
    return inspect.isfunction(function) and "<" not in function.__qualname__


def with_helpers(functions):
    """And the functions of the same file that they call."""
    found = dict.fromkeys(functions)
    for function in functions:
        for name in function.__code__.co_names:
            helper = function.__globals__.get(name)
            if has_a_name(helper) and helper.__module__ == function.__module__:
                found[helper] = None
    return list(found)


def source(function):
    """A function as the guides quote it: without docstring and annotations."""
    file = Path(inspect.getsourcefile(function))
    return "\n".join(QUOTED(file.read_text(encoding="utf-8"), function.__qualname__, None))


def below_the_formula(app, what, name, obj, options, lines):
    for known in KNOWN:
        if known.ours is obj:
            here = next((i for i, line in enumerate(lines) if FIELDS.match(line)), len(lines))
            lines[here:here] = ["", f".. side-by-side:: {known.name}", "", *around(known), ""]


def around(known):
    """Where weight decay is, if it is an option but not in the rule."""
    if known.ours.rule.decays or "weight_decay" not in inspect.signature(known.ours).parameters:
        return []
    return ["Weight decay and ``maximize`` go :doc:`around every formula </api/optimizers>`."]


def setup(app):
    app.add_directive("side-by-side", SideBySide)
    # Before conf.py makes fields of the docstring's sections.
    app.connect("autodoc-process-docstring", below_the_formula, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
