"""What the experiments share, from a unit of work to the page of all reports.

Running: ``run`` (an experiment from its options to its report), ``settings`` (the options that all
have), ``processes`` (that share the work). Training: ``trainers`` (a network and its optimizer on
one side), ``training`` (one training on each side), ``lockstep`` (how far the sides are apart),
``agreement`` (the claim that they agree). What was found: ``results`` (outcomes, claims, tables),
``summary`` (``results.json``, read back). What is shown: ``words`` (texts in two languages,
numbers), ``svg``, ``charts`` and ``panels`` (figures, from the drawing to the panels of losses and
accuracies), ``report`` (terminal and markdown), ``page`` (HTML).

Import from the module itself: a command that only prints a language's name need not load torch.
"""
