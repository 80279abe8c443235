"""One optimizer step on a busy machine, where waiting for threads takes long."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from . import optim
from .shapes import SMALL, cnn, shapes_of, vision
from .timing import Case

BUSY = """
import os, sys, threading
threading.Thread(target=lambda: os._exit(len(sys.stdin.read()))).start()
while True:
    pass
"""
"""A program that runs until its standard input is closed, which also happens when the process that
started it ends."""


def cases(device: torch.device) -> Iterator[Case]:
    for model, shapes in (
        ("1,000 x 64", SMALL),
        ("small CNN", shapes_of(cnn)),
        ("ResNet-18", vision("resnet18")),
    ):
        case = optim.case("Adam", model, shapes, device)
        yield dataclasses.replace(case, name=f"{case.name}, under load", during=busy)


@contextmanager
def busy() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Keep the cores busy with other processes, one for each of torch's threads."""
    command = [sys.executable, "-c", BUSY]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(torch.get_num_threads())
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.communicate()  # closes its input, and waits for it
