"""What ``test_distributed.py`` runs in two processes; a scenario raises if something is wrong."""

import datetime
import traceback

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor

from torchopt_ref import optim

CLASSES = {
    "SGD": (optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    "AdaGrad": (optim.AdaGrad, {}),
    "RMSprop": (optim.RMSprop, {"centered": True}),
    "Adam": (optim.Adam, {"amsgrad": True}),
    "AdamW": (optim.AdamW, {"fused": True}),
    "Adam flat": (optim.Adam, {"flat": True}),
    "Momentum flat": (optim.Momentum, {"flat": True, "weight_decay": 0.1}),
}


def model_and_batches():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(6, 8, 6, dtype=torch.float64, generator=generator)
    return model, x


def train(model, optimizer, batches):
    for x in batches:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


def share(batches):
    """This process' half of every batch: the mean over both is the mean over the whole."""
    return [x.chunk(2)[dist.get_rank()] for x in batches]


def alone(name):
    """The parameters that one process reaches."""
    cls, options = CLASSES[name]
    model, batches = model_and_batches()
    train(model, cls(model.parameters(), lr=0.05, **options), batches)
    return [param.detach() for param in model.parameters()]


def full(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def assert_as_alone(model, name):
    for param, expected in zip(model.parameters(), alone(name), strict=True):
        torch.testing.assert_close(full(param.detach()), expected, rtol=1e-10, atol=1e-12)


def ddp(name):
    cls, options = CLASSES[name]
    model, batches = model_and_batches()
    parallel = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
    train(parallel, cls(parallel.parameters(), lr=0.05, **options), share(batches))
    assert_as_alone(model, name)


def zero_redundancy(name):
    cls, options = CLASSES[name]
    model, batches = model_and_batches()
    parallel = nn.parallel.DistributedDataParallel(model)
    optimizer = ZeroRedundancyOptimizer(
        parallel.parameters(), optimizer_class=cls, lr=0.05, **options
    )
    train(parallel, optimizer, share(batches))
    assert_as_alone(model, name)
    optimizer.consolidate_state_dict(to=0)
    if dist.get_rank() == 0:
        single = cls(model.parameters(), lr=0.05, **options)
        single.load_state_dict(optimizer.state_dict())
        assert len(single.state_dict()["state"]) in (0, 4)


def sharded():
    model, batches = model_and_batches()
    mesh = init_device_mesh("cpu", (2,))
    fully_shard(model[0], mesh=mesh)
    fully_shard(model[2], mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model, share(batches)


def fsdp2(name):
    cls, options = CLASSES[name]
    model, batches = sharded()
    optimizer = cls(model.parameters(), lr=0.05, **options)
    train(model, optimizer, batches)
    assert_as_alone(model, name)
    for param in model.parameters():
        for slot, value in optimizer.state[param].items():
            assert slot == "step" or isinstance(value, DTensor), slot


def checkpoint(name):
    """Half the steps, the state through ``get/set_optimizer_state_dict``, the other half."""
    cls, options = CLASSES[name]
    model, batches = sharded()
    optimizer = cls(model.parameters(), lr=0.05, **options)
    train(model, optimizer, batches[:3])
    saved = get_optimizer_state_dict(model, optimizer)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    resumed, _ = sharded()
    resumed.load_state_dict(weights)
    successor = cls(resumed.parameters(), lr=0.5, **options)
    set_optimizer_state_dict(resumed, successor, saved)
    train(resumed, successor, batches[3:])
    assert_as_alone(resumed, name)


SCENARIOS = (ddp, zero_redundancy, fsdp2, checkpoint)


def worker(rank, store, results):
    """Run everything in one of two processes; what went wrong goes to ``results``."""
    torch.set_num_threads(1)
    timeout = datetime.timedelta(seconds=60)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timeout
    )
    for scenario in SCENARIOS:
        for name in CLASSES:
            try:
                scenario(name)
                outcome = ""
            except Exception:
                outcome = traceback.format_exc()
            results[scenario.__name__, name, rank] = outcome
            dist.barrier()
    dist.destroy_process_group()
