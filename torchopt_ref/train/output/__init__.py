"""What a person or a program sees of a training.

``display`` is the terminal, ``curves`` and ``monitoring`` are for TensorBoard, ``profiling`` traces
some steps, ``description`` is the dry run.
"""
