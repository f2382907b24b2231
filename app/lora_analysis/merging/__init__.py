"""Merge adapters: the weighted sum of their deltas, exact, then truncated as well as can be where that is asked for.

::

    adapters, weights ── match ──> layers of the sum ── plan ──> ranks, tensors, size ── write ──> file, report

The sum is itself an adapter whose layers are calculated when they are asked for (``summed.py``). What follows is what a
resize does, so the resize engine does it.
"""
