"""Principal components of an adapter's factors, or the singular directions of its deltas; ``LoraPcaAnalyzer``."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .adapter import VECTOR_KINDS, Adapter, Layer
from .background import in_thread
from .errors import FormatError, MissingExtraError, NonFiniteError, OpaqueUpdateError, OptionError, ShapeError
from .failures import caught
from .formats import open_adapter
from .json_ready import encodable
from .spectra.selection import errors_by_layer, matching, unusable_modules
from .spectra.values import SkippedLayer

if TYPE_CHECKING:
    from .linalg.floats import Float64Array

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]
Progress = Callable[[int, int], None]  # layers done, layers in all
Cancel = Callable[[], bool]
Target = Literal["factors", "delta"]
TARGETS = ("factors", "delta")
_LAYER_ERRORS = (FormatError, NonFiniteError, OpaqueUpdateError, ShapeError)


class _Request(NamedTuple):
    wanted: int  # components
    target: str
    arrays: bool


def analyze_pca(
    adapter: PathLike | Adapter,
    n_components: int,
    *,
    layers: str | Sequence[str] | None = None,
    target: str = "factors",
    include_arrays: bool = True,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> dict[str, Any]:
    """The dict of :meth:`LoraPcaAnalyzer.analyze_lora_pca`, from synchronous code and with exceptions.

    Raises: OptionError for fewer than one component, an unknown target, or a glob that matches nothing;
    MissingExtraError without scikit-learn (see docs/decisions); what ``open_adapter`` raises; CancelledError.
    """
    request = _Request(_whole(n_components), _known(target), include_arrays)
    if target == "factors":
        require_scikit_learn()
    if isinstance(adapter, Adapter):
        return _analyze(adapter, adapter.path, request, layers, workers, progress, cancel)
    with open_adapter(adapter, lenient_metadata=True) as opened:
        return _analyze(opened, os.fspath(adapter), request, layers, workers, progress, cancel)


def require_scikit_learn() -> None:
    """Raises: MissingExtraError where scikit-learn is not installed. It is looked for and not loaded: a second."""
    try:
        installed = find_spec("sklearn") is not None
    except ValueError:  # something that is no module stands under its name
        installed = False
    if not installed:
        raise MissingExtraError("principal component analysis needs scikit-learn, which is not installed", extra="pca")


def _analyze(
    adapter: Adapter,
    path: str,
    request: _Request,
    layers: str | Sequence[str] | None,
    workers: int | None,
    progress: Progress | None,
    cancel: Cancel | None,
) -> dict[str, Any]:
    from .linalg.streams import map_layers, out_of

    broken = unusable_modules(adapter)
    names = matching([*adapter.layers, *broken], layers)
    wanted = [layer for name, layer in adapter.layers.items() if name in names]
    work = partial(_of_layer, errors_by_layer(adapter), request)
    report = out_of(len(wanted), progress)
    results: dict[str, dict[str, Any]] = {}
    skipped: list[SkippedLayer] = []
    for outcome in map_layers(work, wanted, workers=workers, progress=report, cancel=cancel):
        if isinstance(outcome, SkippedLayer):
            skipped.append(outcome)
        else:
            results.update(outcome)
    skipped += [layer for name, layer in broken.items() if name in names]
    return {
        "success": True,
        "path": encodable(path),
        "target": request.target,
        "n_components": request.wanted,
        "pca_results": results,
        "total_layers": len(names),
        "total_matrices": len(results),
        "capped": sum(found["capped"] for found in results.values()),
        "skipped": [layer.to_dict() for layer in skipped],
    }


def _whole(count: Any) -> int:
    if isinstance(count, bool) or not hasattr(count, "__index__") or count < 1:
        raise OptionError(f"{count!r} components were asked for; it is a whole number of at least 1")
    return int(count)


def _known(target: str) -> str:
    if target not in TARGETS:
        raise OptionError(f"the target is {target!r}; there are {', '.join(TARGETS)}")
    return target


# -- one layer -----------------------------------------------------------------------------------------


def _of_layer(errors: Mapping[str, Any], request: _Request, layer: Layer) -> dict[str, dict[str, Any]] | SkippedLayer:
    """The results of a layer's matrices by name, or why there are none. Raises: FileAccessError."""
    stated = errors.get(layer.name)
    if stated is not None:
        return SkippedLayer(layer.name, stated.code, stated.message, is_error=True)
    if layer.opaque is not None:
        return SkippedLayer(layer.name, "opaque", layer.opaque, is_error=False)
    if layer.kind in VECTOR_KINDS:
        return SkippedLayer(layer.name, "vector", f"a {layer.kind} difference is no matrix", is_error=False)
    try:
        of = _of_factors if request.target == "factors" else _of_delta
        return {encodable(name): found for name, found in of(layer, request)}
    except OpaqueUpdateError as error:
        return SkippedLayer(layer.name, error.code, error.message, is_error=False)
    except _LAYER_ERRORS as error:
        return SkippedLayer(layer.name, error.code, error.message, is_error=True)


def _of_factors(layer: Layer, request: _Request) -> Iterator[tuple[str, dict[str, Any]]]:
    from .linalg.pca import principal_components
    from .pca_matrices import factor_matrices

    for name, samples, values in factor_matrices(layer, layer.update()):
        if 0 in values.shape:
            raise ShapeError(f"{name} is {list(values.shape)}: it holds no values")
        count = min(request.wanted, *values.shape)
        try:
            found = principal_components(values, count, arrays=request.arrays)
        except NonFiniteError as error:
            raise NonFiniteError(f"{name}: {error.message}") from error
        yield (
            name,
            _entry(
                request,
                shape=values.shape,
                samples=samples,
                ratios=found.explained_variance_ratio,
                values=found.singular_values,
                total=found.total_variance,
                components=found.components,
                scores=found.scores,
                constant=found.constant_columns,
            ),
        )


def _of_delta(layer: Layer, request: _Request) -> Iterator[tuple[str, dict[str, Any]]]:
    import numpy as np

    from .linalg.pca import signed_like_components
    from .linalg.subspace import span
    from .pca_matrices import delta_parts

    for name, update in delta_parts(layer, layer.update()):
        found = span(update, limit=request.wanted)
        out, columns = found.shape
        components = scores = None
        if request.arrays:
            rows = found.v().T
            signs = signed_like_components(rows) if found.rank else np.ones(0)
            components, scores = rows * signs[:, None], found.u() * (found.s * signs)
        yield (
            name,
            _entry(
                request,
                shape=(out, columns),
                samples="output",
                ratios=np.square(found.s) / found.energy if found.rank else np.zeros(0),
                values=found.s,
                total=float(found.energy) / (out - 1) if out > 1 else 0.0,
                components=components,
                scores=scores,
                constant=0,
            ),
        )


def _entry(
    request: _Request,
    *,
    shape: tuple[int, ...],
    samples: str,
    ratios: Float64Array,
    values: Float64Array,
    total: float,
    components: Float64Array | None,
    scores: Float64Array | None,
    constant: int,
) -> dict[str, Any]:
    return {
        "explained_variance_ratio": ratios.tolist(),
        "singular_values": values.tolist(),
        "components": components,
        "transformed_data": scores,
        "n_components": len(values),
        "total_variance": total,
        "cumulative_variance": ratios.cumsum().tolist(),
        "shape": list(shape),
        "samples": samples,
        "capped": len(values) < request.wanted,
        "constant_columns": constant,
        "note": _note(request, shape, len(values), total, constant),
    }


def _note(request: _Request, shape: tuple[int, ...], used: int, total: float, constant: int) -> str | None:
    """What to know before reading the numbers of one matrix."""
    notes = []
    if used < request.wanted:
        bound = "its rank" if request.target == "delta" else f"a matrix of {shape[0]} x {shape[1]}"
        notes.append(f"{request.wanted} components were asked for, {bound} has {used}")
    if request.target == "factors" and shape[0] == 1:
        notes.append("one sample (rank 1) has no variance")
    elif total == 0:
        notes.append("nothing varies: every value is 0")
    if constant and total:
        notes.append(f"{constant} constant columns count as zeros")
    return "; ".join(notes) or None


# -- the application's interface ---------------------------------------------------------------------


class LoraPcaAnalyzer:
    """PCA of adapters for applications: coroutines that return plain values and do not raise for bad input.

    The work runs in a thread, layers in parallel with one BLAS thread each; cancelling the task stops it.
    """

    async def analyze_lora_pca(
        self,
        path: PathLike,
        n_components: int,
        *,
        layers: str | Sequence[str] | None = None,
        target: str = "factors",
        include_arrays: bool = True,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Principal components of every stored factor (``target="factors"``), standardised, or the singular
        directions of every delta (``target="delta"``), not centred.

        ``layers`` is a glob or several. ``include_arrays=False`` leaves ``components`` and ``transformed_data`` None.

        Returns: ``success``, ``pca_results`` (by matrix, ``<layer>.lora_A`` and so on: ``explained_variance_ratio``,
        ``singular_values``, ``cumulative_variance`` as lists, ``components`` ``(k, features)`` and ``transformed_data``
        ``(samples, k)`` as float64 arrays, ``n_components``, ``total_variance``, ``shape``, ``samples``, ``capped``,
        ``constant_columns``, ``note``), ``n_components``, ``total_layers``, ``total_matrices``, ``capped`` and
        ``skipped`` (``name``, ``code``, ``reason``, ``is_error``). Where it failed ``success`` is False and ``error``
        ``{"type", "code", "message"}``, with ``install`` where an optional part is missing.
        """
        return await in_thread(
            lambda cancel: _answer(
                path,
                n_components,
                layers=layers,
                target=target,
                include_arrays=include_arrays,
                workers=workers,
                progress=progress,
                cancel=cancel,
            )
        )

    async def generate_pca_visualization(self, result: Mapping[str, Any], path: PathLike) -> bool:
        """Draw explained and cumulative variance, singular values and components as ``.png``, ``.svg`` or ``.pdf``.

        Components are a heatmap where the result is of one matrix and holds arrays; else what each of them explains.
        False, and a line in the log, where that failed; then nothing was changed.
        """

        def work() -> None:
            from .plots.pca import draw_pca

            draw_pca(result, path)

        return await in_thread(lambda _cancel: caught(work, doing="drawing", path=path, logger=logger) is None)

    async def export_pca_results(self, result: Mapping[str, Any], path: PathLike) -> bool:
        """Write a result as ``.json``, ``.csv`` or ``.npz``; an older export is replaced. False, and a line in the log,
        where that failed; then nothing was changed."""

        def work() -> None:
            from .pca_export import write_results

            write_results(result, path, overwrite=True)

        return await in_thread(lambda _cancel: caught(work, doing="exporting", path=path, logger=logger) is None)


def _answer(path: PathLike, n_components: int, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "success": False,
        "pca_results": {},
        "n_components": n_components,
        "total_layers": 0,
        "total_matrices": 0,
        "capped": 0,
        "skipped": [],
    }

    def work() -> None:
        found.update(analyze_pca(path, n_components, **options))

    error = caught(work, doing="the component analysis", path=path, logger=logger)
    return found if error is None else {**found, "error": error}
