"""How many processes share an experiment's work, and how they are started."""

import multiprocessing
import os
from multiprocessing.context import BaseContext


def cores() -> int:
    """How many this process may use; where the system does not say that, how many there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def context() -> BaseContext:
    """Processes that begin with what they need imported, which takes a process seconds.

    A server that has imported it, and done nothing else, is forked: this process may have threads
    in whatever state. Where there is no forking, each process imports for itself.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    server = multiprocessing.get_context("forkserver")
    # The first optimizer would import the compiler.
    server.set_forkserver_preload(["torchopt_ref.experiments.laboratory", "torch._dynamo"])
    return server
