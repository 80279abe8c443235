"""What a training would be, in words and numbers: for ``--dry-run``."""

from __future__ import annotations

import os
from functools import partial

from torch import nn

from torchopt_ref.sides import optimizer_name

from ..config import OptimizerOptions
from ..data import Data
from ..distributed import Processes
from ..memory import GIB, Memory, available, estimate
from ..optimizers import make_optimizer
from ..passes import least_images, parts_of_batch
from ..state import TrainingState


def memory_of(
    model: nn.Module, options: OptimizerOptions, data: Data, processes: Processes, shards: int
) -> Memory:
    """The memory of one process in a training step of ``model``, which is not sharded yet."""
    share = -(-options.batch_size // processes.count)
    least = least_images(model, processes)
    parts = parts_of_batch(options.batch_size, least, options.accumulate, processes)
    return estimate(
        model,
        partial(make_optimizer, options=options),
        data.shape,
        images=-(-share // parts),
        copies=2 if options.ema else 1,
        shards=shards,
    )


def describe(training: TrainingState, epochs: int, data: Data, memory: Memory) -> str:
    """The model, its parameters, the optimizer's groups, the data, the memory."""
    model = training.model
    parameters = [each for each in model.parameters() if each.requires_grad]
    room = available(training.device)
    groups = [
        f"  {len(group['params'])} tensors, {sum(p.numel() for p in group['params']):,} numbers, "
        f"weight decay {group['weight_decay']}"
        for group in training.optimizer.param_groups
    ]
    held_out = data.validation.images if data.validation else 0
    return "\n".join(
        [
            str(model),
            "",
            f"{len(parameters)} parameters, {sum(p.numel() for p in parameters):,} numbers; "
            f"{optimizer_name(type(training.optimizer))}'s groups:",
            *groups,
            f"input {' x '.join(map(str, data.shape))}, {data.classes} classes; "
            f"{data.train.images:,} images to train, {held_out:,} to validate, "
            f"{data.test.images:,} to test",
            f"{len(data.train):,} steps in each of {epochs} epochs, on {training.device}, "
            f"{training.processes.count} process(es)",
            f"memory of a process, about {mib(memory.total)}: weights {mib(memory.weights)}, "
            f"gradients {mib(memory.gradients)}, optimizer {mib(memory.slots)}, kept for the "
            f"backward pass {mib(memory.activations)}",
            f"available: {room / GIB:.1f} GiB",
        ]
    )


def mib(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"


def processes_here() -> int:
    """Processes of the training on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
