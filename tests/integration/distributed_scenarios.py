"""What ``test_distributed.py`` runs in two processes; a scenario raises if something is wrong."""

import copy
import datetime
import json
import traceback
from pathlib import Path
from unittest import mock

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
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

from torchopt_ref import optim
from torchopt_ref.optim import batch

CLASSES = {
    "SGD": (optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    "AdaGrad": (optim.AdaGrad, {}),
    "RMSprop": (optim.RMSprop, {"centered": True}),
    "Adam": (optim.Adam, {"amsgrad": True}),
    "AdamW": (optim.AdamW, {"fused": True}),
    "book.Adam": (optim.book.Adam, {}),
    "keras.Adam": (optim.keras.Adam, {}),
    "optax.Adam": (optim.optax.Adam, {}),
    "optax.Adagrad": (optim.optax.Adagrad, {}),
}
ALL_CLASSES = CLASSES | {
    "Momentum": (optim.Momentum, {"dampening": 0.5}),
    "Nesterov": (optim.Nesterov, {}),
    "book.SGD": (optim.book.SGD, {}),
    "book.Momentum": (optim.book.Momentum, {}),
    "book.Nesterov": (optim.book.Nesterov, {}),
    "book.AdaGrad": (optim.book.AdaGrad, {}),
    "book.RMSprop": (optim.book.RMSprop, {}),
    "keras.SGD": (optim.keras.SGD, {"momentum": 0.9}),
    "keras.Adagrad": (optim.keras.Adagrad, {}),
    "keras.RMSprop": (optim.keras.RMSprop, {"centered": True}),
    "keras.AdamW": (optim.keras.AdamW, {"amsgrad": True}),
    "optax.SGD": (optim.optax.SGD, {"momentum": 0.9}),
    "optax.RMSprop": (optim.optax.RMSprop, {"momentum": 0.9}),
    "optax.AdamW": (optim.optax.AdamW, {"nesterov": True}),
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


SHAPES = ((8, 6), (7, 5), (1, 4), (6,), (3, 8))
"""Of an odd number of rows, one process has fewer; of one row, it has none."""

PLACEMENTS = {
    "rows": [Shard(0)] * 5,
    "columns": [*[Shard(1)] * 3, Shard(0), Shard(1)],
    "replicated": [Replicate()] * 5,
    "mixed with plain tensors": [Shard(0), None, Replicate(), None, Shard(1)],
}


def tensors(seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in SHAPES]


def placed(tensor, mesh, placement):
    return tensor.clone() if placement is None else distribute_tensor(tensor, mesh, [placement])


def only_kernels(*_):
    raise AssertionError("a step was not taken by a kernel")


def shards(name):
    """Given the same gradients, the bits of what is not sharded, and by the same kernel."""
    cls, options = ALL_CLASSES[name]
    mesh = init_device_mesh("cpu", (2,))
    for dtype in (torch.float32, torch.bfloat16):
        for placements in PLACEMENTS.values():
            params = [
                nn.Parameter(placed(tensor, mesh, placement))
                for tensor, placement in zip(tensors(0, dtype), placements, strict=True)
            ]
            whole = [nn.Parameter(tensor) for tensor in tensors(0, dtype)]
            optimizer, single = (cls(each, lr=0.1, **options) for each in (params, whole))
            for step in range(1, 4):
                for param, one, grad, placement in zip(
                    params, whole, tensors(step, dtype), placements, strict=True
                ):
                    param.grad, one.grad = placed(grad, mesh, placement), grad
                with mock.patch.object(batch, "by_eager", only_kernels):
                    optimizer.step()
                single.step()
                if step == 2:
                    saved = copy.deepcopy(optimizer.state_dict())
                    optimizer = cls(params, lr=0.7, **options)
                    optimizer.load_state_dict(saved)
            for param, one in zip(params, whole, strict=True):
                assert torch.equal(full(param.detach()), one)
                for slot, value in single.state[one].items():
                    own = optimizer.state[param][slot]
                    assert slot == "step" or isinstance(own, DTensor) == isinstance(param, DTensor)
                    assert own.dtype == value.dtype
                    assert torch.equal(full(own), value)


def gradients_placed_otherwise(name):
    """They are brought to the parameter's placements, and summed if they still have to be."""
    cls, options = ALL_CLASSES[name]
    mesh = init_device_mesh("cpu", (2,))
    _, start, *_ = tensors(0, torch.float32)
    _, grad, *_ = tensors(1, torch.float32)
    one = nn.Parameter(start.clone())
    one.grad = grad
    cls([one], lr=0.1, **options).step()
    summed = DTensor.from_local(grad / 2, mesh, [Partial()])
    for given in (placed(grad, mesh, Replicate()), placed(grad, mesh, Shard(1)), summed):
        param = nn.Parameter(placed(start, mesh, Shard(0)))
        param.grad = given
        with mock.patch.object(batch, "by_eager", only_kernels):
            cls([param], lr=0.1, **options).step()
        assert torch.equal(full(param.detach()), one)


def parameters_still_to_be_summed(name):
    """Their parts do not step alone: a rule is not linear."""
    cls, options = CLASSES[name]
    if options.get("fused"):
        return
    mesh = init_device_mesh("cpu", (2,))
    _, start, *_ = tensors(0, torch.float64)
    _, grad, *_ = tensors(1, torch.float64)
    one, param = nn.Parameter(start), nn.Parameter(DTensor.from_local(start / 2, mesh, [Partial()]))
    one.grad, param.grad = grad, DTensor.from_local(grad, mesh, [Replicate()])
    for each in (one, param):
        cls([each], lr=0.1, **options).step()
    torch.testing.assert_close(full(param.detach()), one.detach(), rtol=1e-12, atol=1e-12)


CASES = [
    (scenario, name)
    for scenario in (ddp, zero_redundancy, fsdp2, checkpoint, parameters_still_to_be_summed)
    for name in CLASSES
] + [(scenario, name) for scenario in (shards, gradients_placed_otherwise) for name in ALL_CLASSES]
FOURTH = 4
"""Of the cases one in so many is not slow: every scenario, each with other optimizers."""


def worker(rank, folder, every):
    """Run one in ``every`` of the cases, in one of two processes, which writes a file ``rank``."""
    torch.set_num_threads(1)
    timeout = datetime.timedelta(seconds=60)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=timeout
    )
    with Path(folder, str(rank)).open("w", buffering=1) as file:
        for scenario, name in CASES[::every]:
            try:
                scenario(name)
                error = ""
            except Exception:
                error = traceback.format_exc()
            found = {"scenario": scenario.__name__, "optimizer": name, "error": error}
            print(json.dumps(found), file=file)
            dist.barrier()
    dist.destroy_process_group()
