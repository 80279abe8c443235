"""The textbook's methods, as each dialect computes them."""

from __future__ import annotations

from torchopt_ref.sides import BY_NAME, KNOWN, Configuration

from .words import Words

DIALECTS = {
    "book": Words("the textbook", "教科书"),
    "torch": Words("torch.optim", "torch.optim"),
    "keras": Words("Keras", "Keras"),
    "optax": Words("Optax", "Optax"),
}
"""Whose formulas and defaults the optimizers have, and what a report calls it."""

OPTIONS_OF_SGD = {"Momentum": {"momentum": 0.9}, "Nesterov": {"momentum": 0.9, "nesterov": True}}
"""What makes SGD the method, in a dialect that has no class for it."""


def in_dialect(method: str, dialect: str, lr: float | None = None) -> Configuration:
    """The optimizer of a method (SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam) in a dialect.

    Without ``lr`` its learning rate is the book's for the method, in every dialect, and its
    momentum 0.9, as the book's: so the dialects differ by their formulas and other defaults alone.
    """
    if lr is None:
        lr = BY_NAME[f"book.{method}"].reference().hyper["lr"]
    # AdaGrad is Adagrad in two of them.
    found = {known.ours.__name__.casefold(): known for known in KNOWN if known.dialect == dialect}
    if known := found.get(method.casefold()):
        return Configuration(known, {"lr": lr})
    return Configuration(found["sgd"], {"lr": lr} | OPTIONS_OF_SGD[method])


def said_of(dialect: str, words: Words) -> Words:
    """Words of the book's optimizers, or of another dialect's, which then stands behind them."""
    if dialect == "book":
        return words
    name = DIALECTS[dialect]
    return Words(f"{words.en} (as in {name.en})", f"{words.zh}（{name.zh} 的写法）")
