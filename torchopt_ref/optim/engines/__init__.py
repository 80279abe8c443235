"""Engines: ways to run a rule.

``cpu`` and ``cuda`` are kernels: a rule's ``formula`` as machine code, one call for all tensors of
a batch. A kernel gets the addresses of the tensors (``memory.Places``). ``eager`` takes any
parameter, one after the other, by NumPy or torch's operations. All engines write the new values
into the tensors in place.
"""
