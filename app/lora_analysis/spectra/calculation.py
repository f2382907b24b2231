"""The spectrum of every layer of an adapter, a few layers at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import hypot

from ..adapter import Adapter
from ..formats import open_adapter
from .selection import errors_by_layer, matching, unusable_modules
from .values import LayerSpectrum, SkippedLayer, Spectrum

Progress = Callable[[int, int], None]  # layers done, layers in all
Cancel = Callable[[], bool]


def spectrum(
    adapter: str | os.PathLike[str] | Adapter,
    *,
    layers: str | Sequence[str] | None = None,
    base: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Spectrum:
    """Singular values, norms and ranks of every layer's delta, scale included.

    ``layers`` is a glob or several, matched against layer names with their case; without one, all layers.
    ``base`` is the checkpoint the adapter was trained on: every layer that finds its weight there gets ``base``,
    figures of the delta beside the weight; the others are named in ``Spectrum.without_base``. It reads
    every weight.
    ``workers`` are threads, by default one per core. A path is opened and closed, an open adapter stays open.

    A layer that holds NaN, or whose factors do not fit, is among ``skipped`` with the reason and never hides the
    others. So are layers that have no singular values at all: vectors, and updates that are no delta.

    Raises: OptionError for a glob that matches nothing or fewer than one worker; FileAccessError, HeaderError,
    UnsafePickleError, ConfigError where the file cannot be opened or read; CancelledError.
    """
    if isinstance(adapter, Adapter):
        return _spectrum(adapter, layers, base, workers, progress, cancel)
    with open_adapter(adapter) as opened:
        found = _spectrum(opened, layers, base, workers, progress, cancel)
    return replace(found, path=os.fspath(adapter))  # as asked for: an open folder goes by the name of its weights


def _spectrum(
    adapter: Adapter,
    layers: str | Sequence[str] | None,
    base: str | os.PathLike[str] | None,
    workers: int | None,
    progress: Progress | None,
    cancel: Cancel | None,
) -> Spectrum:
    from ..linalg.streams import map_together, out_of, together
    from .layer import read_spectra, vector_norm

    broken = unusable_modules(adapter)
    names = matching([*adapter.layers, *broken], layers)
    wanted = [layer for name, layer in adapter.layers.items() if name in names]
    work = partial(read_spectra, errors_by_layer(adapter))
    groups = together(wanted, lambda layer: layer.rank or 0)
    found: list[LayerSpectrum] = []
    skipped: list[SkippedLayer] = []
    for outcome in map_together(work, groups, len(wanted), workers=workers, progress=progress, cancel=cancel):
        if isinstance(outcome, SkippedLayer):
            skipped.append(outcome)
        else:
            found.extend(outcome)
    skipped += [layer for name, layer in broken.items() if name in names]
    vectors = [vector_norm(layer) for layer in wanted]
    skipped += [one for one in vectors if isinstance(one, SkippedLayer)]
    whole = hypot(*(one for one in vectors if not isinstance(one, SkippedLayer)))
    if base is None:
        return Spectrum(adapter.path, tuple(found), tuple(skipped), vector_norm=whole)
    from .base import beside_base

    report = out_of(len(found), progress)
    compared, without = beside_base(adapter, found, base, workers=workers, progress=report, cancel=cancel)
    return Spectrum(adapter.path, compared, tuple(skipped), os.fspath(base), without, whole)
