"""The playground: one HTML file in which the optimizers run, without a server or a network.

``javascript`` translates them from their rules; ``page`` puts the file together. Its parts are in
this folder, too: ``page.html``, ``page.css`` and the scripts, ``stepping`` (an optimizer's step),
``surfaces`` (functions of two variables and walks on them), ``network`` (layers and their
gradients), ``words`` (in English and Chinese), ``controls`` (sliders, cards, canvases), ``map``
(what is drawn of a surface), ``paths`` and ``spirals`` (the two sections), ``spirals_drawing``
(what is drawn of the second one) and ``main`` (playing, keys, languages).
"""

from .page import LANGUAGES, page

__all__ = ["LANGUAGES", "page"]
