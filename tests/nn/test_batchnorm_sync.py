"""BatchNorm with statistics shared by processes (gloo, CPU) equals one with the whole batch."""

from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from torchopt_ref.nn import BatchNorm2d

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="needs torch.distributed's gloo"
)

STEPS = 3
# The samples of each process: in a group of the first two, or in the world of all three.
SPLITS = {
    "two": [(3, 3), (3, 3), (3, 3)],
    "two uneven": [(5, 1), (1, 5), (4, 2)],
    "two, one without any": [(6, 0), (0, 6), (6, 0)],
    "world": [(1, 2, 3), (2, 2, 2), (4, 0, 2)],
}


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
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=3,
        timeout=timedelta(seconds=60),
    )
    first_two, third = dist.new_group([0, 1]), dist.new_group([2])
    results = {}
    for name, split in SPLITS.items():
        if name != "world" and rank == 2:
            continue
        group = {} if name == "world" else {"process_group": first_two}
        parts = [t.split(sizes) for step, sizes in enumerate(split) for t in whole_batch(step)]
        parts = [part[rank] for part in parts]
        batches = list(zip(parts[::2], parts[1::2], strict=True))
        results[name] = train(make_layer(sync=True, **group), batches)
    if rank == 2:
        batch = whole_batch(0)
        results["group of one"] = train(make_layer(sync=True, process_group=third), [batch])
        results["evaluation"] = train(make_layer(sync=True).eval(), [batch])
        untracked = make_layer(sync=True, track_running_stats=False).eval()
        results["evaluation without buffers"] = train(untracked, [batch])
        x = batch[0].requires_grad_()
        y = make_layer(sync=True, process_group=third)(x)
        torch.autograd.grad(y.sum(), x, create_graph=True)
    else:
        x = whole_batch(0)[0].requires_grad_()
        layer = make_layer(sync=True, process_group=first_two)
        try:
            torch.autograd.grad(layer(x).sum(), x, create_graph=True)
        except NotImplementedError as error:
            results["second derivative"] = str(error)
        one = whole_batch(0)[0][rank : rank + 1, :, :1, :1]
        results["one value each"] = layer(one).detach()
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


WORKER = """
import sys
from tests.nn.test_batchnorm_sync import worker
worker(int(sys.argv[1]), sys.argv[2])
"""


@pytest.fixture(scope="module")
def processes(starter, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sync")
    log = folder / "log"
    pids = [starter.start([rank, folder], log, code=WORKER) for rank in range(3)]
    assert [starter.wait(pid) for pid in pids] == [0, 0, 0], log.read_text()
    return [torch.load(folder / f"{rank}.pt") for rank in range(3)]


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("split", SPLITS)
def test_processes_that_share_equal_one_with_the_whole_batch(processes, split):
    expected, expected_buffers = train(make_layer(), map(whole_batch, range(STEPS)))
    shares = [process[split] for process in processes if split in process]
    assert len(shares) == (3 if split == "world" else 2)
    for step, (y, dx, dweight, dbias) in enumerate(expected):
        results = [steps[step] for steps, _ in shares]
        assert_close(torch.cat([r[0] for r in results]), y)
        assert_close(torch.cat([r[1] for r in results]), dx)
        assert_close(sum(r[2] for r in results), dweight)
        assert_close(sum(r[3] for r in results), dbias)
    for _, buffers in shares:
        assert_close(buffers, expected_buffers)
        # The processes agree to the last bit, so that they stay the same model.
        assert all(map(torch.equal, buffers, shares[0][1]))


def test_one_value_per_channel_is_enough_if_another_process_has_one(processes):
    actual = torch.cat([process["one value each"] for process in processes[:2]])
    assert_close(actual, make_layer()(whole_batch(0)[0][:2, :, :1, :1]).detach())


def test_a_group_of_one_and_evaluation_share_nothing(processes):
    batch = whole_batch(0)
    alone = {
        "group of one": make_layer(),
        "evaluation": make_layer().eval(),
        "evaluation without buffers": make_layer(track_running_stats=False).eval(),
    }
    for name, layer in alone.items():
        assert all(map(torch.equal, processes[2][name][0][0], train(layer, [batch])[0][0]))


def test_a_second_derivative_is_refused(processes):
    for process in processes[:2]:
        assert "no second derivative" in process["second derivative"]


def test_without_a_process_group_it_is_an_ordinary_layer():
    x, dy = whole_batch(0)
    results = [train(layer, [(x, dy)])[0][0] for layer in (make_layer(sync=True), make_layer())]
    assert all(map(torch.equal, *results))
