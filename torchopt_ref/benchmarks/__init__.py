"""Speed, as ratios: contestants that compute the same thing, timed in turns in one process.

``timing`` compares contestants, and ``contestants`` lists the optimizers among them. A suite is a
module of cases; ``report``, ``plot`` and ``events`` show results; ``scripts/bench.py`` runs a
suite.
"""
