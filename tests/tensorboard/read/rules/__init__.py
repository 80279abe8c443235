"""A table for each rule: what is varied, a value with which it is silent, and one with which not.

There is a file for each module of the rules; ``made`` makes the histories. ``test_rules.py`` in the
folder above runs the tables.
"""
