"""MNIST and Fashion-MNIST as NumPy arrays.

``load()`` returns the embedded MNIST subset, which needs no network; ``load(name, root)`` reads the
full sets from torchvision's folder layout. ``load_split("train", ...)`` returns one of the two
splits; in a folder it opens no file of the other. ``python -m torchopt_ref.data.embed`` rebuilds
the embedded file. The data's own licences are in ``NOTICE.md`` beside it.
"""

from torchopt_ref.data._load import Dataset, load, load_split

__all__ = ["Dataset", "load", "load_split"]
