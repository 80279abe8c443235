"""How the processes that share an experiment's work are started."""

import multiprocessing
from multiprocessing.context import ForkServerContext, SpawnContext


def context() -> ForkServerContext | SpawnContext:
    """Processes that begin with what they need imported, which takes a process seconds.

    A server that has imported it, and done nothing else, is forked: this process may have threads
    in whatever state. Where there is no forking, each process imports for itself.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    server = multiprocessing.get_context("forkserver")
    # The first optimizer would import the compiler.
    server.set_forkserver_preload(["torchopt_ref.experiments.lab.run", "torch._dynamo"])
    return server
