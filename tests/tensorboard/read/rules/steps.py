"""On either side of the thresholds of the rules about steps."""

from tests.tensorboard.read.rules.made import Line, at, late, line, run
from torchopt_ref.tensorboard.read.rules import steps

WAITED, CARRIED = "losses since the last step", "gradient carried over"


def options(loss=1.0, **group):
    return run({"loss": loss}, param_groups=[group])


def under_epsilon(size, group="beta2", **others):
    curves = {"learning rate/group 0": 0.1, "effective step/a": 2, "update norm/a": 0.2, **others}
    return run(
        {**curves, "gradient norm/a": late(1, size)}, param_groups=[{group: 0.9, "eps": 1e-3}]
    )


def large(update=0.5, loss=1.0, **others):
    names = {f"update to weight/{name}": update for name in "abcd"}
    sizes = {"weight norm/a": 1, "gradient norm/[all]": others.get("norm", 1)}
    return run({"loss": loss, **sizes, **names})


def peak(height, last, records=7):
    """A loss of 2 that rises to ``height`` times that, and falls to ``last`` times that."""
    return at(1, 2 * height, 2, records - 2) + [2 * last] * 2


def ended(rate, other=0):
    return run({"learning rate/group 0": rate, "learning rate/group 1": other, "loss": 1})


def small(update=5e-5, loss=1.0, rate=1.0, resting=0):
    curves = {"loss": loss, "learning rate/group 0": rate, "weight norm/a": 1, "gradient norm/a": 1}
    still = {f"update to weight/{i}": 0 for i in range(resting)}
    return run({**curves, "update to weight/a": update, **still})


ABC = ("a", "b", "c")
TABLE = {
    (steps.no_step, "no step was seen"): [
        Line("losses", lambda n: run({WAITED: n}), 0, 5, "The loss was computed 5 times"),
    ],
    (steps.no_step, "steps have stopped"): [
        Line(
            "losses",
            lambda n: run({WAITED: at(11, n, 0)}, layers=1),
            *(0, 5, "After step 111 the loss was computed 5 times", (), 111),
        ),
        Line(
            "records of 12 that end without a step",
            lambda n: run({WAITED: [5] * n, "loss": 1}, layers=1),
            *(11, 12, "", (), 111),
        ),
    ],
    (steps.carried_over, "gradients are never zeroed"): [
        Line("the part", lambda x: run({CARRIED: x}), 0.29, 0.31, "31% of what", (), 111),
        Line(
            "the second step",
            lambda x: run({CARRIED: [1, x, 0]}),
            *(0.58, 0.62, "31% of what", (), 21),
        ),
        Line(
            "the first step, that has none before it",
            lambda start: run({CARRIED: [1, 0.1]}, start=start),
            *(1, 2, "55% of what", (), 12),
        ),
    ],
    (steps.unusual_options, "unusual options"): [
        Line(
            "beta1", lambda x: options(beta1=x, beta2=0.9), 0.89, 0.9, "beta1 is 0.9 and beta2 0.9"
        ),
        Line("beta2", lambda x: options(beta1=0.1, beta2=x), 0.51, 0.49, "beta2 is 0.49: squares"),
        Line("eps of Adam", lambda x: options(beta2=0.9, eps=x), 0.048, 0.052, "eps is 0.052,"),
        Line("eps of RMSprop", lambda x: options(eps=x), 9.5, 10.5, "eps is 10.5,"),
        Line("momentum", lambda x: options(momentum=x), 0.9979, 0.9981, "for 526 steps"),
        Line("momentum of 1", lambda x: options(momentum=x), 1, 0.999, "for 1,000 steps"),
        Line("beta1 without beta2", lambda x: options(beta1=x), 0.9979, 0.9981),
        Line("beta1 as a momentum", lambda x: options(beta1=x, beta2=0.9999), 0.9979, 0.9981),
        Line(
            "weight decay",
            lambda x: options(lr=0.1, weight_decay=x),
            *(0.76, 0.84, "The learning rate 0.1 and the weight decay 0.84 take 8%"),
        ),
        Line(
            "with momentum", lambda x: options(lr=0.1, momentum=0.9, weight_decay=x), 0.076, 0.084
        ),
        Line(
            "with momentum of 1",
            lambda x: options(lr=x, momentum=1, weight_decay=1),
            *(7.6e-5, 8.4e-5),
        ),
        Line("records of the loss", lambda n: options([1] * n, lr=0.1, weight_decay=1), 5, 6),
        Line(
            "decoupled weight decay",
            lambda name: options(lr=0.1, weight_decay=1, beta2=0.9, optimizer=name),
            *("torch.Adam", "torch.AdamW"),
        ),
    ],
    (steps.under_epsilon, "unusual options"): [
        Line(
            "the gradient",
            under_epsilon,
            1.05e-4,
            9e-5,
            "about 9e-5 in size, and eps is 0.001",
            (),
            1,
        ),
        Line("beta2", lambda name: under_epsilon(9e-5, name), "alpha", "beta2", "", (), 1),
        Line(
            "the step of a layer with a large gradient",
            lambda x: under_epsilon(
                9e-5, **{"gradient norm/b": 1, "effective step/b": 2, "update norm/b": x}
            ),
            *(0.2, 0, "", (), 1),
        ),
        Line("a gradient of 0", under_epsilon, 0, 1e-6, "", (), 1),
    ],
    (steps.big_steps, "learning rate too high"): [
        Line("the update", large, 0.095, 0.11, "by 0.11 times their own size;", ABC, 1),
        Line("which is large", lambda x: large(at(4, x, 0.01)), 0.095, 0.105, "Step 41", ABC, 41),
        Line(
            "a loss at its peak",
            lambda x: large(loss=peak(x, 0.9)),
            1.95,
            2.05,
            "up to 4.1",
            ABC,
            1,
        ),
        Line("records of the loss", lambda n: large(loss=[1, 2, 4][:n]), 2, 3, "", ABC, 1),
        Line("the first loss", lambda x: large(loss=[x, 1, *[0.5] * 5]), -0.4, 0.4, "", ABC, 1),
        Line("a loss after its peak", lambda x: large(loss=peak(3, x)), 0.49, 0.51, "", ABC, 1),
        Line("a loss after a leap", lambda x: large(loss=peak(x, 0.3)), 19, 21, "", ABC, 1),
        Line("a loss made good", lambda x: large(loss=peak(25, x)), 0.095, 0.105, "", ABC, 1),
        Line(
            "the loss where gradients are gone",
            lambda x: large(loss=late(x), norm=late(0)),
            *(0.0095, 0.0105, "", ABC, 1),
        ),
        Line(
            "records without a gradient",
            lambda n: large(loss=late(0.5), norm=[1] * (12 - n) + [0] * n),
            *(2, 3, "", ABC, 1),
        ),
        Line(
            "records of the gradient",
            lambda n: large(loss=late(0.5), norm=[0] * n),
            *(2, 3, "", ABC, 1),
        ),
        Line("records of the loss", lambda n: large(loss=[1] * n), 7, 8, "", ABC, 1),
        Line("how far the loss fell", lambda x: large(loss=late(1 - x)), 0.11, 0.09, "", ABC, 1),
        Line("how the loss falls", lambda x: large(loss=line(1, 1 - x)), 0.072, 0.066, "", ABC, 1),
        Line("how the loss rose", lambda x: large(loss=late(x, records=7)), 0.95, 2.05, "", ABC, 1),
        Line(
            "the first record of large ones",
            lambda x: large([x, *[0.5] * 11]),
            None,
            0.5,
            "",
            ABC,
            1,
        ),
    ],
    (steps.ended_early, "the learning rate ends too early"): [
        Line(
            "the rate",
            lambda x: ended([1] * 5 + [x] * 7),
            *(1.05e-3, 0.95e-3, "After step 41 of 111", (), 41),
        ),
        Line(
            "another group's rate",
            lambda x: ended([1] * 5 + [0] * 7, at(0, 1, x)),
            0.1,
            0,
            "",
            (),
            41,
        ),
        Line("records with a rate", lambda n: ended([1] * n + [0] * (12 - n)), 7, 6, "", (), 51),
        Line("records", lambda n: ended([1, 1, *[0] * (n - 2)]), 5, 6, "", (), 11),
    ],
    (steps.small_steps, "learning rate too low"): [
        Line("the update", small, 1.05e-4, 9e-5, "by 9e-5 times their own size"),
        Line("how far the loss fell", lambda x: small(loss=late(1 - x)), 0.11, 0.09),
        Line("the warmup", lambda x: small(rate=line(1, x)), 1.55, 1.45),
        Line("a rate that falls again", lambda x: small(rate=[1] * 6 + [3] * 5 + [x]), 3, 2.9),
        Line("records", lambda n: small([5e-5] * n), 5, 6),
        Line("beside layers that rest", lambda x: small(x, resting=3), 1.05e-4, 9e-5),
        Line("whether one moves", lambda x: small(x, resting=3), 0, 1e-9),
    ],
    (steps.still, "layers that do not move"): [
        Line(
            "the update",
            lambda x: run({"update to weight/a": at(5, x, 0), "gradient norm/a": late(2)}),
            *(1e-9, 0, "No step changed a, although a gradient came: its norm in a is 2.", ("a",)),
        ),
        Line(
            "the gradient",
            lambda x: run({"update to weight/a": 0, "gradient norm/a": late(x, 0)}),
            *(0, 1e-9, "", ("a",)),
        ),
        Line(
            "records",
            lambda n: run({"update to weight/a": 0, "gradient norm/a": 1}, records=n),
            *(2, 3, "", ("a",)),
        ),
    ],
}
