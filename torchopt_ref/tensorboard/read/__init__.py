"""A run read back: the points of its curves, and what the diagnosis says of them."""
