"""What an objective may see: the two parts of the training data."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from tests.experiments.search.cases import TINY
from torchopt_ref.experiments import search
from torchopt_ref.experiments.search.objective import Objective, SearchData, hold_out
from torchopt_ref.experiments.search.stages import search_data


def test_a_fifth_of_the_training_data_validates_and_the_parts_are_copies():
    images = np.arange(50 * 784, dtype=np.float32).reshape(50, 784)
    labels = np.arange(50)
    parts = hold_out(images, labels, seed=3)
    assert len(parts.validation_labels) == 10
    both = np.concatenate([parts.train_labels, parts.validation_labels])
    assert sorted(both) == list(range(50))
    np.testing.assert_array_equal(images[parts.train_labels], parts.train_images)
    np.testing.assert_array_equal(images[parts.validation_labels], parts.validation_images)
    for array in vars(parts).values():
        assert not np.shares_memory(array, images)
        assert array.base is None
    assert sorted(parts.validation_labels) != list(range(10))
    assert list(hold_out(images, labels, 3).train_labels) == list(parts.train_labels)
    assert list(hold_out(images, labels, 4).train_labels) != list(parts.train_labels)


def test_the_objective_holds_a_recipe_and_the_two_parts_of_the_training_data():
    assert [field.name for field in fields(Objective)] == ["recipe", "data"]
    assert [field.name for field in fields(SearchData)] == [
        *("train_images", "train_labels", "validation_images", "validation_labels")
    ]
    config = replace(TINY, samples=50)
    objective = Objective(config.recipe(0), search_data(config))
    data = config.data()
    assert not any(isinstance(v, Path | search.Config) for v in vars(objective.recipe).values())
    for name in ("train", "validation"):
        images = getattr(objective.data, f"{name}_images")
        seen = (data.train_images[:50, None] == images).all(axis=2)
        assert (seen.sum(axis=0) == 1).all()
