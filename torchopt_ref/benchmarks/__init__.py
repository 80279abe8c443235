"""Speed, as ratios: contestants that compute the same thing, timed in turns in one process.

``timing`` compares contestants, a suite is a module of cases, ``scripts/bench.py`` runs a suite.
"""
