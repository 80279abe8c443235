"""Engines: ways to run a rule.

``cpu`` and ``cuda`` are kernels: a rule's ``formula`` as machine code, one call for all tensors of
a batch. They get the addresses of these (``memory.Places``). ``eager`` takes any parameter, one
after the other, by NumPy or torch's operations. All write the new values into the tensors in place.
"""
