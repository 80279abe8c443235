"""Short trainings, and what they leave."""

import json

import torch

TINY = ["--model", "mlp", "--no-augment", "--epochs", "2", "--batch-size", "900", "--warmup", "3"]
"""Twenty steps on the embedded images, in a fraction of a second."""


def last_state(folder):
    """What the last checkpoint of a run holds."""
    return torch.load(last_checkpoint(folder), weights_only=True)


def last_checkpoint(folder):
    """Its name ends with a digest of all that it holds: equal names are equal trainings."""
    return max((folder / "checkpoints").glob("step-*.pt"))


def results(folder):
    return json.loads((folder / "results.json").read_text())
