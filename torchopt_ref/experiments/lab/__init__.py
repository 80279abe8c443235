"""What the experiments share, from a unit of work to the page of all reports.

- ``run``: an experiment from its options to its report; ``settings``: the options that all have;
  ``processes``: the processes that share the work.
- ``trainers``: a network with its optimizer, on one side; ``training``: one training on each side,
  and how far the sides are apart; ``agreement``: how far they may be, as a claim.
- ``results``: outcomes, claims and tables; ``summary``: ``results.json``, read back.
- ``words``: texts in two languages, and numbers; ``svg``, ``charts``, ``panels``: figures, from the
  drawing to the curves of losses and accuracies; ``report``: the report in the terminal and in
  markdown; ``page``: all reports in HTML.

Names are imported from these modules, so that a command that needs only ``words`` does not load
torch.
"""
