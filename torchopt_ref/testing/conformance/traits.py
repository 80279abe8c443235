"""What an optimizer declares about itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from torchopt_ref.errors import unknown


@dataclass(frozen=True)
class Traits:
    """Properties by design. A check that they make meaningless is skipped, not failed.

    All are off by default; ``Traits.named(["stochastic"])`` switches on by name.
    """

    needs_closure: bool = False
    """``step`` must be given a closure (L-BFGS, SAM)."""

    two_dimensional_only: bool = False
    """It takes matrices only (Muon)."""

    sparse_only: bool = False
    """It takes sparse gradients only (SparseAdam)."""

    lr_free: bool = False
    """``lr`` is not the step size: there is none, or it only sets where the search for one starts
    (Rprop, Prodigy)."""

    stochastic: bool = False
    """It draws from torch's random numbers (stochastic rounding); torch is seeded before each step.
    """

    couples_parameters: bool = False
    """The step of one parameter depends on the others (L-BFGS, a global norm)."""

    history: bool = False
    """Its state grows with the steps up to a bound of its own (L-BFGS)."""

    state_bytes: float | None = None
    """Bytes of state tensors per byte of parameters: Adam's are 2. None: reported, not checked."""

    @classmethod
    def named(cls, names: Iterable[str], state_bytes: float | None = None) -> Traits:
        """The traits with the given names on; ``UserError`` for a name that is none."""
        chosen = list(names)
        for name in chosen:
            if name not in cls.switches():
                raise unknown("trait", name, cls.switches())
        return cls(**dict.fromkeys(chosen, True), state_bytes=state_bytes)

    @classmethod
    def switches(cls) -> list[str]:
        """The names of the traits that are on or off."""
        return [field.name for field in fields(cls) if field.name != "state_bytes"]


PLAIN = Traits()
"""An optimizer like most: no trait is on."""
