"""Two processes under DDP: one writes, means are taken where asked."""

import json

import pytest
import torch

WORKER = """
import sys, json, warnings, torch, torch.distributed as dist
from contextlib import nullcontext
from pathlib import Path
from torch import nn
from torchopt_ref.tensorboard import JsonLines, Monitor
rank, folder = int(sys.argv[1]), Path(sys.argv[2])
warnings.simplefilter("error", RuntimeWarning)
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)

def train(watch, lr=0.01):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    ddp = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.Adam(ddp.parameters(), lr=lr)
    draw = torch.Generator().manual_seed(rank)
    losses = []
    with watch(ddp, optimizer) as monitor:
        for _ in range(20):
            x, y = torch.randn(16, 6, generator=draw), torch.randint(3, (16,), generator=draw)
            optimizer.zero_grad()
            output = ddp(x)
            loss = nn.functional.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if monitor:
                monitor.log(loss=loss, output=output, target=y, own=rank)
    return losses, model[0].weight.flatten().tolist()

found = {"without": train(lambda model, optimizer: nullcontext())}
for reduce in (False, True):
    found[str(reduce)] = train(lambda model, optimizer: Monitor(
        model, optimizer, folder / str(reduce), every=5, reduce=reduce, nonfinite="raise",
        sinks=[JsonLines(folder / f"{reduce}.jsonl")],
    ))
told = []
train(lambda model, optimizer: Monitor(
    model, optimizer, folder / "broken", every=5, on_finding=lambda found: told.append(found.kind)
), lr=10)
found["told"] = told
(folder / f"{rank}.json").write_text(json.dumps(found))
dist.destroy_process_group()
"""


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_rank_0_writes_and_means_are_taken_where_asked(starter, tmp_path, read):
    log = tmp_path / "log"
    processes = [starter.start([rank, tmp_path], log, code=WORKER) for rank in (0, 1)]
    assert [starter.wait(process) for process in processes] == [0, 0], log.read_text()
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert ranks[1]["told"] == []
    assert "learning rate too high" in ranks[0]["told"]
    for found in ranks:
        assert found["False"] == found["True"] == found["without"]
    last = [sum(found["without"][0][15:]) / 5 for found in ranks]
    for reduce, loss, own in (("False", last[0], 0), ("True", sum(last) / 2, 0.5)):
        assert len(list((tmp_path / reduce).iterdir())) == 1
        curves = read(tmp_path / reduce)
        assert curves["loss"][20] == pytest.approx(loss, rel=1e-5)
        assert curves["own"][20] == own
        written = map(json.loads, (tmp_path / f"{reduce}.jsonl").read_text().splitlines())
        points = {each["step"]: each["loss"] for each in written if "loss" in each}
        assert points == pytest.approx(curves["loss"])
        names = {tag.partition("/")[2] for tag in curves.scalars if tag.startswith("weight norm/")}
        assert names == {"0 Linear", "1 BatchNorm1d", "3 Linear", "[all]"}
        assert "activation std/2 ReLU" in curves.scalars
        whole = curves["step time/whole step [ms]"][20]
        assert curves["speed/samples per second"][20] == pytest.approx(32e3 / whole)
