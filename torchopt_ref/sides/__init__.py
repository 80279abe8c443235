"""NumPy and torch side by side: what every comparison of the two needs.

``KNOWN`` says which reference belongs to which optimizer; ``load_target`` and ``load_reference``
find those that a command line names. ``NumpySide`` and ``TorchSide`` hold parameters with
their optimizer, ``NumpyNetwork`` and ``TorchNetwork`` a whole network with its optimizer; ``Twin``
is the torch counterpart of a NumPy network. ``ulp_distance`` counts how far two arrays are apart.
"""

from .factories import (
    FLAGS,
    check_switches,
    import_module,
    load_reference,
    load_target,
    name_of,
    options_of,
)
from .known import (
    BY_NAME,
    ENGINES,
    KNOWN,
    Configuration,
    Known,
    configurations,
    optimizer_name,
)
from .networks import NumpyNetwork, TorchNetwork
from .side import Arrays, NumpyGroups, NumpySide, Reference, Side, TorchSide
from .twin import Twin, as_array
from .ulp import NOT_EQUAL, ulp_distance, ulp_text

__all__ = [
    "BY_NAME",
    "ENGINES",
    "FLAGS",
    "KNOWN",
    "NOT_EQUAL",
    "Arrays",
    "Configuration",
    "Known",
    "NumpyGroups",
    "NumpyNetwork",
    "NumpySide",
    "Reference",
    "Side",
    "TorchNetwork",
    "TorchSide",
    "Twin",
    "as_array",
    "check_switches",
    "configurations",
    "import_module",
    "load_reference",
    "load_target",
    "name_of",
    "optimizer_name",
    "options_of",
    "ulp_distance",
    "ulp_text",
]
