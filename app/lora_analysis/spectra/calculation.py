"""The spectrum of every layer of an adapter, a few layers at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING

from ..adapter import Adapter, Dense, Hadamard, Kronecker, Layer, LowRank, Opaque, Stacked, Vector
from ..errors import FormatError, NonFiniteError, OpaqueUpdateError, OptionError, ShapeError
from ..formats import open_adapter
from ..formats.blocks import block_of
from ..text import printable
from .values import LayerSpectrum, SkippedLayer, Spectrum

if TYPE_CHECKING:
    from ..linalg.floats import Float64Array

Progress = Callable[[int, int], None]  # layers done, layers in all
Cancel = Callable[[], bool]
Outcome = tuple[LayerSpectrum, ...] | SkippedLayer
Matrix = LowRank | Dense | Hadamard | Kronecker

# What is wrong with one layer. Anything else, a file that is gone or a request to stop, concerns the whole.
_LAYER_ERRORS = (FormatError, NonFiniteError, OpaqueUpdateError, ShapeError)


def spectrum(
    adapter: str | os.PathLike[str] | Adapter,
    *,
    layers: str | Sequence[str] | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Spectrum:
    """Singular values of every layer's delta, scale included, with norms and ranks; no delta is formed where a
    smaller route is exact.

    ``layers`` is a glob or several, matched against layer names in upper and lower case as written; without one,
    all layers. A path is opened and closed again, an open adapter stays open. A layer that holds NaN, or whose
    factors do not fit, is among ``skipped`` with the reason and never hides the others; so are those that have no
    singular values at all.

    Raises: OptionError for a glob that matches nothing or fewer than one worker; FileAccessError, HeaderError,
    UnsafePickleError, ConfigError where the file cannot be opened or read; CancelledError.
    """
    if isinstance(adapter, Adapter):
        return _spectrum(adapter, layers, workers, progress, cancel)
    with open_adapter(adapter) as opened:
        return _spectrum(opened, layers, workers, progress, cancel)


def _spectrum(
    adapter: Adapter,
    layers: str | Sequence[str] | None,
    workers: int | None,
    progress: Progress | None,
    cancel: Cancel | None,
) -> Spectrum:
    from ..linalg.streams import map_layers

    broken = _broken_modules(adapter)
    names = _matching([*adapter.layers, *broken], layers)
    wanted = [layer for name, layer in adapter.layers.items() if name in names]
    report = partial(_report, progress, len(wanted)) if progress is not None else None
    work = partial(_outcome, _stated_errors(adapter))
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


# -- which layers ------------------------------------------------------------------------------------


def _matching(names: Sequence[str], patterns: str | Sequence[str] | None) -> frozenset[str]:
    """Names that match any pattern; all of them where there is none. Every pattern has to match something."""
    if not patterns:
        return frozenset(names)
    matched: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found = [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            shown = f"the first is {printable(names[0], limit=120)}" if names else "the file holds no layer"
            raise OptionError(f"no layer matches {printable(pattern, limit=80)} out of {len(names)}; {shown}")
        matched.update(found)
    return frozenset(matched)


def _broken_modules(adapter: Adapter) -> dict[str, SkippedLayer]:
    """Modules that could not even become layers: the first finding about each."""
    broken: dict[str, SkippedLayer] = {}
    for finding in adapter.findings:
        if finding.layer is not None and finding.layer not in adapter.layers:
            skipped = SkippedLayer(finding.layer, finding.code, finding.message, finding.severity == "error")
            broken.setdefault(finding.layer, skipped)
    return broken


def _stated_errors(adapter: Adapter) -> dict[str, tuple[str, str]]:
    """Layer to ``(code, message)`` of what opening the file found wrong with it."""
    return {
        finding.layer: (finding.code, finding.message)
        for finding in adapter.findings
        if finding.layer is not None and finding.severity == "error"
    }


# -- one layer ---------------------------------------------------------------------------------------


def _outcome(errors: dict[str, tuple[str, str]], layer: Layer) -> Outcome:
    """A layer's spectra, or why it has none; runs in the workers."""
    if layer.name in errors:
        code, message = errors[layer.name]
        return SkippedLayer(layer.name, code, message, is_error=True)
    if layer.opaque is not None:
        return SkippedLayer(layer.name, "opaque", layer.opaque, is_error=False)
    try:
        return _read(layer)
    except _LAYER_ERRORS as error:
        return SkippedLayer(layer.name, error.code, error.message, is_error=True)


def _read(layer: Layer) -> Outcome:
    update = layer.update()
    match update:
        case Vector():
            return SkippedLayer(layer.name, "vector", f"a {layer.kind} difference is no matrix", is_error=False)
        case Opaque():
            return SkippedLayer(layer.name, "opaque", update.reason, is_error=False)
        case Stacked():
            return tuple(_of_matrix(layer, part, expert) for expert, part in enumerate(update.parts))
        case _:
            return (_of_matrix(layer, update, None),)


def _of_matrix(layer: Layer, matrix: Matrix, expert: int | None) -> LayerSpectrum:
    from ..linalg.products import singular_values
    from ..linalg.spectrum import summarise

    values: Float64Array = singular_values(matrix)
    values.flags.writeable = False
    return LayerSpectrum(
        name=layer.name,
        expert=expert,
        component=layer.component,
        block=block_of(layer.name),
        kind=layer.kind,
        shape=matrix.shape,
        rank=layer.rank,
        scale=layer.scale,
        has_magnitude=layer.magnitude_axis is not None,
        singular_values=values,
        summary=summarise(values),
    )
