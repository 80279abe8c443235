"""Whether gradients arrive, and how large they are."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from torchopt_ref.written import number

from ..history import History
from .evidence import LATER, NAMED, Curve, Finding, aligned, fallen, listed, loss_of

VANISHED = 1e-3
"""A layer's gradient has vanished if its norm is below this fraction of the largest among its
optimizer's layers, in the median record of the second half, and the loss has not halved. Broken:
the loss fell by at most 8 %."""

HELD = 5e-4
"""A small gradient holds a layer back only if the layer's update is below this fraction of its
weights: Adam makes full steps from small gradients, too."""

GONE = 1e-3
"""The gradient has faded if its norm is below this fraction of the first one."""

SPIKE = 1000.0
"""A gradient spikes if its norm is this many times the largest of the five records before. Healthy:
at most 8; broken: 128,000."""

CALM = 0.1
"""Steps are not large if the median layer's update is below this fraction of its weights."""

CONSTANT = 1e-3
"""A gradient is clipped in every step if its norm varies by at most this fraction. Broken: at most
3e-6. It is as constant in healthy trainings that clip, but these learn, or the size of their steps
does not depend on the gradient's (Adam)."""

SAME = 0.99
"""From this cosine of successive gradients on, the batch is always the same: then the norm is
constant without clipping, too."""


def without_gradient(history: History) -> Finding | None:
    """Layers in an optimizer whose gradient was None in every record."""
    layers = [
        name
        for name, tag in history.layers("weight norm").items()
        if len(history.curves[tag]) >= 3 and f"gradient norm/{name}" not in history.curves
    ]
    if not layers:
        return None
    total = len(history.layers("weight norm"))
    return Finding(
        "no gradient came",
        tuple(layers[:NAMED]),
        f"The gradient of {len(layers)} of {total} layers was None in every record: "
        f"{listed(layers)}.",
        "See that the loss depends on them: no detach(), torch.no_grad() or item() between them "
        "and the loss; and that zero_grad() is not called between backward() and step().",
        (f"update to weight/{layers[0]}", f"gradient norm/{layers[0]}"),
    )


def no_gradient_at_all(history: History) -> Finding | None:
    """The gradient is 0 in every layer and record: nothing else can be said of such a run."""
    tags = history.below("gradient norm")
    return zero_gradient(history) if all(history.is_zero(tag) for tag in tags.values()) else None


def zero_gradient(history: History) -> Finding | None:
    """Layers whose gradient was not None, but 0 in every record."""
    tags = history.layers("gradient norm")
    layers = [name for name, tag in tags.items() if history.is_zero(tag)]
    loss = loss_of(history)
    if not layers or (len(loss) and fallen(history) and loss.late == 0):
        return None
    total = len(tags)
    return Finding(
        "the gradient is 0",
        tuple(layers[:NAMED]),
        f"The gradient of {len(layers)} of {total} layers came, and was exactly 0 in every "
        f"record: {listed(layers)}.",
        "Look between them and the loss for a factor or a mask of 0, for argmax, round, sign or "
        "clamp, and whether gradients are zeroed between backward() and step().",
        (f"gradient norm/{layers[0]}", "gradient norm/[all]"),
    )


def forgotten(history: History) -> Finding | None:
    layers = history.facts().get("layers in no param group", [])
    outside = history.facts().get("parameters outside of the model", [])
    told = []
    if layers:
        told.append(
            f"{len(layers)} layer{'s' if len(layers) > 1 else ''} can be trained "
            f"(requires_grad=True), and no optimizer has their parameters: {listed(layers)}."
        )
    if outside:
        told.append(
            f"The output depends on {len(outside)} parameters that neither the model's modules "
            f"nor an optimizer has, of the shapes {listed(outside)}."
        )
    if not told:
        return None
    return Finding(
        "layers in no param group",
        tuple(layers[:NAMED]),
        " ".join(told),
        "Give the optimizer all of model.parameters(), keep layers in nn.ModuleList or "
        "nn.ModuleDict rather than in a list or dict, and freeze what is not meant to move by "
        "requires_grad_(False).",
        ("update to weight/[median]",),
    )


def faded(history: History) -> Finding | None:
    """All gradients of an optimizer are small compared with the first ones, and the loss rose."""
    fall, loss = fallen(history), loss_of(history)
    for name, tag in history.below("gradient norm").items():
        norm = Curve.of(history, tag)
        gone = name.startswith("[all") and len(norm) >= LATER and norm.late < GONE * norm.first
        if gone and fall is not None and fall < 0:
            return Finding(
                "vanishing gradients",
                (),
                f"The gradient norm was {number(norm.first)} in the first record, and is now "
                f"{number(norm.late)}; the loss was {number(loss.first, 3)}, and is now "
                f"{number(loss.late, 3)}.",
                "See whether the loss is flat where it is now: a saturated sigmoid, softmax or "
                "discriminator; use a loss of scores (logits).",
                (tag, "loss"),
            )
    return None


def vanished(history: History) -> Finding | None:
    """Layers whose gradients are small compared with those of other layers of their optimizer,
    unless the loss has halved all the same."""
    fall = fallen(history)
    if fall is not None and fall > 0.5:
        return None
    of_optimizer = history.facts().get("layers of each optimizer", {})
    shares: dict[str, float] = {}
    for names in of_optimizer.values() or [history.layers("gradient norm")]:
        shares |= beside_the_largest(history, names)
    small = [
        name
        for name in sorted(shares, key=lambda name: shares[name])
        if 0 < shares[name] < VANISHED and Curve.of(history, f"update to weight/{name}").late < HELD
    ][:NAMED]
    if not small:
        return None
    return Finding(
        "vanishing gradients",
        tuple(small),
        "As a fraction of the largest layer's, the gradient norm is "
        + ", ".join(f"{number(shares[name], 1)} in {name}" for name in small)
        + ".",
        "Choose initial weights by the activation (torchopt_ref.init.initialize), normalise "
        "between layers, add skip connections, or use ReLU in place of Sigmoid.",
        (f"gradient norm/{small[0]}", "gradient norm/[largest]"),
    )


def beside_the_largest(history: History, names: Iterable[str]) -> dict[str, float]:
    """Each layer's gradient norm as a fraction of the largest among ``names``, in the median record
    of the second half."""
    tags = [(name, f"gradient norm/{name}") for name in names]
    layers = [(name, tag) for name, tag in tags if len(Curve.of(history, tag)) >= LATER]
    if len(layers) < 2:
        return {}
    values = aligned(history, layers)
    values = values[len(values) // 2 :]
    largest = np.nanmax(values, axis=1, keepdims=True)
    seen = largest[:, 0] > 0
    if not seen.any():
        return {}
    shares = np.median(np.nan_to_num(values[seen] / largest[seen], nan=1.0), axis=0)
    return {name: float(share) for (name, _), share in zip(layers, shares, strict=True)}


def late_spikes(history: History) -> Finding | None:
    """A spike after at least eight records: large steps after it are its consequence."""
    found = spikes(history)
    before = history.steps("gradient norm/[all]") < (found.step if found else 0)
    return found if before.sum() >= LATER else None


def spikes(history: History) -> Finding | None:
    """A gradient far larger than in the five records before; earlier ones do not count, as norms
    fall with the loss. Not reported after large steps: these would be the cause."""
    norm = Curve.of(history, "gradient norm/[all]")
    worst, usual, place = 0.0, 0.0, 0
    for i in range(3, len(norm)):
        before = float(np.max(norm.values[max(i - 5, 0) : i]))
        if before > 0 and norm.values[i] / before > worst:
            worst, usual, place = norm.values[i] / before, before, i
    updates = Curve.of(history, "update to weight/[median]")
    steps = updates.values[updates.steps < norm.steps[place]] if worst else updates.values
    if worst < SPIKE or (len(steps) and steps[-3:].max() >= CALM):
        return None
    return Finding(
        "exploding gradients",
        (),
        f"In step {norm.steps[place]} the gradient norm was {number(norm.values[place])}; in the "
        f"records just before it was at most {number(usual)}.",
        "Clip the gradient (torch.nn.utils.clip_grad_norm_), look at the batch of that step, "
        "or warm the learning rate up.",
        ("gradient norm/[all]", "loss"),
        int(norm.steps[place]),
    )


def steps_have_a_size(history: History) -> bool:
    """Whether the size of steps does not depend on that of the gradient, as in Adam and RMSprop."""
    groups = history.facts().get("param groups", [])
    return any("beta2" in group or "alpha" in group for group in groups)


def clipped(history: History) -> Finding | None:
    """Reported for a training that hardly learns, and whose steps are proportional to the
    gradient."""
    norm = Curve.of(history, "gradient norm/[all]")
    late = norm.second_half
    fall = fallen(history)
    if len(late) < 4 or fall is None or fall > 0.2 or steps_have_a_size(history):
        return None
    usual = float(np.median(late))
    cosine = Curve.of(history, "gradient cosine/[all]")
    is_one_batch = len(cosine) > 0 and np.median(cosine.values) > SAME
    if usual == 0 or np.ptp(late) > CONSTANT * usual or is_one_batch:
        return None
    return Finding(
        "clipped in every step",
        (),
        f"The gradient norm is {number(usual)} in every record of the second half, so each "
        f"gradient is clipped to that, and the loss has fallen by only {max(fall, 0):.0%} of its "
        "first value.",
        "Clip at a norm that gradients reach rarely, so that only peaks are cut; or raise the "
        "learning rate by as much as is cut off.",
        ("gradient norm/[all]", "loss"),
    )
