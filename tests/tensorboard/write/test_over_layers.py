"""The curves over all layers, against those of the layers."""

import numpy as np
import torch
from torch import nn

from tests.tensorboard.trainings import mlp, train
from torchopt_ref.tensorboard import Monitor


def test_largest_median_and_smallest_of_the_layers(tmp_path, read):
    torch.manual_seed(0)
    model = nn.Sequential(mlp(), nn.BatchNorm1d(10), nn.Sigmoid())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, tmp_path, every=5) as monitor:
        train(model, optimizer, monitor, steps=10)
    run = read(tmp_path)
    for quantity, layers in (
        ("activation std", ("0.1 ReLU", "0.4 ReLU", "0.7 ReLU", "2 Sigmoid")),
        ("activation gradient std", ("0.1 ReLU", "0.4 ReLU", "0.7 ReLU", "2 Sigmoid")),
        ("dead units", ("0.1 ReLU", "0.4 ReLU", "0.7 ReLU")),
        ("saturated", ("2 Sigmoid",)),
        ("batch norm mean shift", ("1 BatchNorm1d",)),
        ("batch norm variance ratio", ("1 BatchNorm1d",)),
    ):
        values = [run[f"{quantity}/{layer}"][10] for layer in layers]
        assert run[f"{quantity}/[largest]"][10] == max(values)
        assert run[f"{quantity}/[smallest]"][10] == min(values)
        assert np.float32(np.median(values)) == run[f"{quantity}/[median]"][10]
