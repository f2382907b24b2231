"""NaN, infinity and layers that do nothing: what only the values tell."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from ..adapter import Adapter, Finding
from ..errors import CancelledError
from ..formats.chunks import Cancel, Progress
from ..text import printable

MAX_FINDINGS = 100


def scan_values(adapter: Adapter, *, progress: Progress | None = None, cancel: Cancel | None = None) -> list[Finding]:
    """Read every tensor once, one at a time, and report those that hold NaN or infinity.

    ``progress(bytes_done, bytes_in_all)``. At most 100 tensors are named; a last finding counts the rest.
    Raises: CancelledError soon after ``cancel()`` is true.
    """
    found = list(_not_finite(adapter, progress, cancel))
    hidden = len(found) - MAX_FINDINGS
    if hidden > 0:
        found[MAX_FINDINGS:] = [Finding("error", "non-finite", f"{hidden} more tensors hold NaN or infinity")]
    return found


def _not_finite(adapter: Adapter, progress: Progress | None, cancel: Cancel | None) -> Iterator[Finding]:
    import numpy as np

    total = sum(info.nbytes for info in adapter.source.tensors.values())
    done = 0
    for layer, key in _tensors(adapter):
        if cancel is not None and cancel():
            raise CancelledError("stopped as asked, while reading the values")
        array = adapter.source.array(key)
        if array.dtype.kind not in "iub":
            finite = int(np.count_nonzero(np.isfinite(array)))
            if finite != array.size:
                message = f"{printable(key)}: {array.size - finite:,} of {array.size:,} values are NaN or infinite"
                yield Finding("error", "non-finite", message, layer)
        done += adapter.source.tensors[key].nbytes
        if progress is not None:
            progress(done, total)


def _tensors(adapter: Adapter) -> Iterator[tuple[str | None, str]]:
    """Every tensor once, with the layer it belongs to."""
    of_layers = ((layer.name, key) for layer in adapter.layers.values() for key in layer.keys.values())
    others = chain((extra.key for extra in adapter.extras), adapter.unrecognised_keys)
    seen: set[str] = set()
    for layer, key in chain[tuple[str | None, str]](of_layers, ((None, key) for key in others)):
        if key in adapter.source.tensors and key not in seen:
            seen.add(key)
            yield layer, key
