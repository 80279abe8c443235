"""A side shows its parameters and slots as arrays, and can go on from where another side is."""

import numpy as np
import torch

from numpy_ref import optimizers
from numpy_ref.network import MultiLayerNet
from torchopt_ref import optim
from torchopt_ref.sides import (
    NumpyGroups,
    NumpyNetwork,
    NumpySide,
    TorchNetwork,
    TorchSide,
    Twin,
)


def arrays(seed):
    rng = np.random.default_rng(seed)
    return {"W": rng.standard_normal((3, 2)), "b": rng.standard_normal(2)}


def sides(seed=0):
    params = {name: torch.nn.Parameter(torch.from_numpy(a)) for name, a in arrays(seed).items()}
    torch_side = TorchSide(params, optim.Adam([*params.values()]))
    return NumpySide(arrays(seed), optimizers.Adam()), torch_side


def networks():
    rng = np.random.default_rng(0)
    network = MultiLayerNet(4, (5,), 3, batchnorm=True, rng=rng)
    twin = Twin(network)
    return (
        NumpyNetwork(network, optimizers.Adam()),
        TorchNetwork(twin, optim.Adam(twin.parameters())),
    )


def batch(seed):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((6, 4)), rng.integers(3, size=6)


def require_same_bits(one, other):
    one, other = one.tensors(), other.tensors()
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].keys() == other[name].keys()
        for slot, array in one[name].items():
            np.testing.assert_array_equal(array, other[name][slot], err_msg=f"{name} {slot}")


def test_both_sides_show_the_same_parameters_and_slots():
    mine, theirs = sides()
    for step in range(3):
        for side in (mine, theirs):
            side.step(arrays(step))
    assert mine.tensors()["W"].keys() == {"param", "step", "exp_avg", "exp_avg_sq"}
    require_same_bits(mine, theirs)


def test_either_side_goes_on_from_where_the_other_is():
    for forward in (True, False):
        follower, leader = sides() if forward else sides()[::-1]
        for side, steps in ((follower, 1), (leader, 4)):
            for step in range(steps):
                side.step(arrays(step))
        follower.copy_from(leader)
        require_same_bits(follower, leader)
        for side in (follower, leader):
            side.step(arrays(9))
        require_same_bits(follower, leader)


def test_each_numpy_optimizer_updates_its_parameters_only():
    params = arrays(0) | {"gamma": np.ones(2)}
    groups = NumpyGroups((optimizers.SGD(lr=0.5), ["W"]), (optimizers.SGD(lr=0.25), ["b"]))
    NumpySide(params, groups).step({name: np.ones_like(array) for name, array in params.items()})
    np.testing.assert_array_equal(params["W"], arrays(0)["W"] - 0.5)
    np.testing.assert_array_equal(params["b"], arrays(0)["b"] - 0.25)
    np.testing.assert_array_equal(params["gamma"], np.ones(2))


def test_a_numpy_network_that_has_followed_trains_on_as_torchs():
    mine, theirs = networks()
    mine.train(*batch(0))
    for seed in (1, 2):
        theirs.train(*batch(seed))
    mine.follow(theirs)
    require_same_bits(mine, theirs)
    for name, statistic in mine.statistics().items():
        np.testing.assert_array_equal(statistic, theirs.statistics()[name], err_msg=name)
    np.testing.assert_allclose(mine.train(*batch(3)), theirs.train(*batch(3)), rtol=1e-14)


def test_torchs_network_takes_gradients_as_numpys_has_them():
    mine, theirs = networks()
    mine.train(*batch(0))
    theirs.step(mine.grads)
    require_same_bits(mine, theirs)
