"""Fashion-MNIST in torchvision's folder layout, with random images."""

import numpy as np


def write_fashion(root, **splits):
    """Files for ``train=(count, rng)`` and ``t10k=(count, rng)`` under ``root``."""
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, (count, rng) in splits.items():
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        for kind, array in (("images", images), ("labels", labels)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            file = raw / f"{prefix}-{kind}-idx{array.ndim}-ubyte"
            file.write_bytes(header + array.tobytes())
