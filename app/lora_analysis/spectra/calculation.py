"""The spectrum of every layer of an adapter, a few layers at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial

from ..adapter import Adapter, Finding
from ..errors import OptionError
from ..formats import open_adapter
from ..text import printable
from .values import LayerSpectrum, SkippedLayer, Spectrum

Progress = Callable[[int, int], None]  # layers done, layers in all
Cancel = Callable[[], bool]


def spectrum(
    adapter: str | os.PathLike[str] | Adapter,
    *,
    layers: str | Sequence[str] | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Spectrum:
    """Singular values, norms and ranks of every layer's delta, scale included.

    ``layers`` is a glob or several, matched against layer names with their case; without one, all layers.
    ``workers`` are threads, by default one per core. A path is opened and closed, an open adapter stays open.

    A layer that holds NaN, or whose factors do not fit, is among ``skipped`` with the reason and never hides the
    others. So are layers that have no singular values at all: vectors, and updates that are no delta.

    Raises: OptionError for a glob that matches nothing or fewer than one worker; FileAccessError, HeaderError,
    UnsafePickleError, ConfigError where the file cannot be opened or read; CancelledError.
    """
    if isinstance(adapter, Adapter):
        return _spectrum(adapter, layers, workers, progress, cancel)
    with open_adapter(adapter) as opened:
        found = _spectrum(opened, layers, workers, progress, cancel)
    return replace(found, path=os.fspath(adapter))  # as asked for: an open folder goes by the name of its weights


def _spectrum(
    adapter: Adapter,
    layers: str | Sequence[str] | None,
    workers: int | None,
    progress: Progress | None,
    cancel: Cancel | None,
) -> Spectrum:
    from ..linalg.streams import map_layers
    from .layer import read_spectra

    broken = _broken_modules(adapter)
    names = _matching([*adapter.layers, *broken], layers)
    wanted = [layer for name, layer in adapter.layers.items() if name in names]
    report = partial(_report, progress, len(wanted)) if progress is not None else None
    work = partial(read_spectra, _errors_by_layer(adapter))
    found: list[LayerSpectrum] = []
    skipped: list[SkippedLayer] = []
    for outcome in map_layers(work, wanted, workers=workers, progress=report, cancel=cancel):
        if isinstance(outcome, SkippedLayer):
            skipped.append(outcome)
        else:
            found.extend(outcome)
    skipped += [layer for name, layer in broken.items() if name in names]
    return Spectrum(adapter.path, tuple(found), tuple(skipped))


def _report(progress: Progress, total: int, done: int) -> None:
    progress(done, total)


def _matching(names: Sequence[str], patterns: str | Sequence[str] | None) -> frozenset[str]:
    """Names that match any pattern; all of them where there is none. Every pattern has to match something."""
    if not patterns:
        return frozenset(names)
    matched: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found = [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            first = f"the first is {printable(names[0], limit=120)}" if names else "the file holds no layer"
            raise OptionError(f"{printable(pattern, limit=80)} matches none of {len(names)} layers; {first}")
        matched.update(found)
    return frozenset(matched)


def _errors_by_layer(adapter: Adapter) -> dict[str, Finding]:
    """What opening the file found wrong with layers that it could describe all the same: rank 0, alpha NaN."""
    return {
        finding.layer: finding
        for finding in adapter.findings
        if finding.layer is not None and finding.severity == "error"
    }


def _broken_modules(adapter: Adapter) -> dict[str, SkippedLayer]:
    """Modules that could not become layers, such as one factor without the other: the first finding about each."""
    broken: dict[str, SkippedLayer] = {}
    for finding in adapter.findings:
        if finding.layer is not None and finding.layer not in adapter.layers:
            skipped = SkippedLayer(finding.layer, finding.code, finding.message, finding.severity == "error")
            broken.setdefault(finding.layer, skipped)
    return broken
