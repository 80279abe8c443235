"""What the probes say of an optimizer whose formula is known."""

import pytest

from torchopt_ref.sides import BY_NAME
from torchopt_ref.testing.explanation.probes import facts
from torchopt_ref.testing.explanation.subject import Subject

NONE, SUM = "none: a step is proportional to its gradient", "the root of the sum of all squared"
MOVING = "the root of a moving average of squares, not corrected (decay 0.99)"
CORRECTED = "the root of a moving average of squares, corrected for its start at zero"
OUTSIDE, INSIDE = "outside the root, sqrt(s) + eps", "inside the root, sqrt(s + eps)"
AFTER = ", after the correction of the average"
BEFORE = ", before the correction of the average (at first it counts 31.6 times)"
PRESENT = "outside the velocity, which takes the rate of the present step"
PAST = "inside the velocity, which keeps the rate of each past step"
GRADIENTS, STEPS = "the sum of past gradients", "the sum of past steps"
AVERAGE = "a moving average of gradients, corrected for its start at zero"
L2 = "L2: weight_decay * p is added to the gradient, and remembered with it"
DECOUPLED = "decoupled: p goes down by lr * weight_decay * p "
SHRINKS = f"{DECOUPLED}(multiplied by 1 - lr * weight_decay before the step)"
SUBTRACTS = f"{DECOUPLED}(lr * weight_decay * p is subtracted before the step)"
ALL = {"direction": "down, against the gradient", "precision of lr": "used as it is given"}
ROUNDED = {"precision of lr": "rounded to float32", "weight decay": SUBTRACTS}
IN_FLOAT32 = "in float32 for float32 parameters (the first step is 6.7e-6 off)"

SGD = {"divisor": NONE, "place of lr": PRESENT, "velocity": GRADIENTS, "momentum": "plain"}
SGD |= {"nesterov": "Nesterov's"}
RMSPROP = {"divisor": MOVING, "eps": OUTSIDE, "start of the squares": "at 0"}
ADAM = {"divisor": CORRECTED, "start of the squares": "at 0", "place of lr": PRESENT}
ADAM |= {"velocity": AVERAGE, "momentum": "plain", "correction": "in float64"}

CASES = [
    ("AdaGrad", {}, {"divisor": f"{SUM} gradients", "eps": OUTSIDE, "start of the squares": "at 0",
     "weight decay": "L2: weight_decay * p is added to the gradient, and divided with it"}),
    ("keras.Adagrad", {}, {"divisor": f"{SUM} gradients", "eps": INSIDE,
     "start of the squares": "at 0.1", **ROUNDED}),
    ("book.RMSprop", {}, RMSPROP),
    ("RMSprop", {"momentum": 0.9, "centered": True}, RMSPROP | {"place of lr": PRESENT,
     "velocity": STEPS, "momentum": "plain", "weight decay": L2}),
    ("optax.RMSprop", {"momentum": 0.9, "bias_correction": True}, {"divisor": CORRECTED,
     "eps": INSIDE + AFTER, "start of the squares": "at 0", "place of lr": PAST,
     "velocity": STEPS, "momentum": "plain", "nesterov": "Nesterov's"}),
    ("optax.RMSprop", {"bias_correction": True, "initial_scale": 1.0}, {"divisor": CORRECTED,
     "eps": INSIDE + AFTER, "start of the squares": "not decided: not at 0", "place of lr": PAST,
     "velocity": STEPS, "momentum": "plain", "nesterov": "Nesterov's"}),
    ("optax.RMSprop", {"initial_scale": 1.0, "eps_in_sqrt": False}, {"eps": OUTSIDE,
     "divisor": "the root of a moving average of squares, not corrected (decay 0.9)",
     "start of the squares": "at 1", "place of lr": PAST, "velocity": STEPS,
     "momentum": "plain", "nesterov": "Nesterov's"}),
    ("Adam", {"weight_decay": 0.1, "amsgrad": True}, ADAM | {"eps": OUTSIDE + AFTER,
     "weight decay": L2}),
    ("AdamW", {}, ADAM | {"eps": OUTSIDE + AFTER, "weight decay": SHRINKS}),
    ("book.Adam", {}, ADAM | {"eps": OUTSIDE + BEFORE}),
    ("keras.Adam", {"weight_decay": 0.1}, ADAM | ROUNDED | {"eps": OUTSIDE + BEFORE,
     "correction": IN_FLOAT32}),
    ("optax.Adam", {"nesterov": True}, ADAM | {"eps": OUTSIDE + AFTER, "eps_root": INSIDE + AFTER,
     "momentum": "Nesterov's, each part corrected for its own step", "correction": IN_FLOAT32}),
    ("SGD", {"momentum": 0.9, "dampening": 0.5, "maximize": True}, SGD | {"weight decay": L2,
     "direction": "up, along the gradient"}),
    ("keras.SGD", {"momentum": 0.9}, SGD | ROUNDED | {"place of lr": PAST}),
    ("optax.SGD", {"momentum": 0.9, "nesterov": True}, {"divisor": NONE, "place of lr": PRESENT,
     "velocity": GRADIENTS, "momentum": "Nesterov's"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "options", "expected"), CASES, ids=[f"{name}-{options}" for name, options, _ in CASES]
)
def test_every_topic_of_a_known_formula_is_told(name, options, expected):
    found = facts(Subject(name, BY_NAME[name].ours, options))
    assert {each.topic: each.words for each in found} == ALL | expected
