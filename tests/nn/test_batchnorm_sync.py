"""BatchNorm with statistics shared by two processes (gloo, CPU) equals one with the whole batch."""

import tempfile

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from torchopt_ref.nn import BatchNorm2d

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="needs torch.distributed's gloo"
)

STEPS = 3
# How many of the samples of a step the first process has; the second one has the others.
SPLITS = {"even": (3, 3, 3), "uneven": (5, 1, 4), "one without any": (6, 0, 6)}


def whole_batch(step):
    generator = torch.Generator().manual_seed(step)
    shape = (6, 3, 2, 4)
    x = torch.randn(shape, generator=generator, dtype=torch.float64) * 0.5 + 100
    return x, torch.randn(shape, generator=generator, dtype=torch.float64)


def train(layer, batches):
    """The outputs, input gradients and parameter gradients of each step, and the buffers."""
    results = []
    for x, dy in batches:
        x = x.clone().requires_grad_()
        y = layer(x)
        results.append((y.detach(), *torch.autograd.grad(y, (x, layer.weight, layer.bias), dy)))
    return results, [b.clone() for b in layer.buffers()]


def make_layer(**options):
    layer = BatchNorm2d(3, dtype=torch.float64, **options)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, -1.0, 2.0]))
        layer.bias.copy_(torch.tensor([1.0, 0.0, -1.0]))
    return layer


def worker(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    alone = [dist.new_group([0]), dist.new_group([1])][rank]
    results = {}
    for name, split in SPLITS.items():
        batches = []
        for step, first in enumerate(split):
            part = slice(first) if rank == 0 else slice(first, None)
            batches.append(tuple(t[part] for t in whole_batch(step)))
        results[name] = train(make_layer(sync=True), batches)
    x, dy = batches[-1]
    results["own group"] = train(make_layer(sync=True, process_group=alone), [(x, dy)])
    results["not shared"] = train(make_layer(), [(x, dy)])
    results["evaluation"] = train(make_layer(sync=True).eval(), [(x, dy)] if rank == 0 else [])
    x.requires_grad_()
    try:
        torch.autograd.grad(make_layer(sync=True)(x).sum(), x, create_graph=True)
    except NotImplementedError as error:
        results["second derivative"] = str(error)
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def processes():
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(worker, (folder,), nprocs=2)
        yield [torch.load(f"{folder}/{rank}.pt") for rank in range(2)]


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("split", SPLITS)
def test_two_processes_equal_one(processes, split):
    expected, expected_buffers = train(make_layer(), map(whole_batch, range(STEPS)))
    (first, first_buffers), (second, second_buffers) = (p[split] for p in processes)
    for (y, dx, dweight, dbias), a, b in zip(expected, first, second, strict=True):
        assert_close(torch.cat([a[0], b[0]]), y)
        assert_close(torch.cat([a[1], b[1]]), dx)
        assert_close(a[2] + b[2], dweight)
        assert_close(a[3] + b[3], dbias)
    assert_close(first_buffers, expected_buffers)
    # The processes agree to the last bit, so that they stay the same model.
    assert all(map(torch.equal, first_buffers, second_buffers))


def test_a_group_of_one_and_evaluation_share_nothing(processes):
    for result in processes:
        assert all(map(torch.equal, result["own group"][0][0], result["not shared"][0][0]))
    assert len(processes[0]["evaluation"][0]) == 1


def test_a_second_derivative_is_refused(processes):
    for result in processes:
        assert "no second derivative" in result["second derivative"]


def test_without_a_process_group_it_is_an_ordinary_layer():
    x, dy = whole_batch(0)
    results = [train(layer, [(x, dy)])[0][0] for layer in (make_layer(sync=True), make_layer())]
    assert all(map(torch.equal, *results))
