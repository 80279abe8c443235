"""The reference: the mathematics of training a network in plain NumPy.

Nothing here imports torch. Formulas stand in the form in which a textbook prints them:
``optimizers`` (torch's updates), ``book``, ``keras`` and ``optax`` (a textbook's, Keras' and
Optax'), ``bfloat16`` (rounding to it), ``layers`` (forward and hand-derived backward), ``init``
(initial values), ``network`` (a fully connected net of those layers), ``gradient`` (numerical
gradients), ``random`` (the stream of torch's CPU generator), ``checks`` (of arguments).
"""
