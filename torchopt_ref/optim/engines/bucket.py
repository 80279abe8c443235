"""What an engine is given: parameters that take the same step."""

from typing import Any, NamedTuple

from torch import Tensor


class Bucket(NamedTuple):
    """Parallel lists of one device, with one dtype for each list, and the scalars of their step.

    ``params`` and ``slots`` are written in place.
    """

    params: list[Tensor]
    grads: list[Tensor]
    slots: dict[str, list[Tensor]]
    scalars: dict[str, Any]

    def only(self, positions: list[int]) -> "Bucket":
        """The bucket of the parameters at ``positions``."""

        def pick(some: list[Tensor]) -> list[Tensor]:
            return [some[position] for position in positions]

        slots = {name: pick(some) for name, some in self.slots.items()}
        return Bucket(pick(self.params), pick(self.grads), slots, self.scalars)
