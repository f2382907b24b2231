"""Figures of files: open, calculate, draw. What ``lora plot``, the server and ``LoraVisualizer`` have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from .adapter import Adapter
from .errors import OptionError
from .formats import open_adapter
from .text import quantity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .spectra.values import Spectrum

PathLike = str | os.PathLike[str]
Progress = Callable[[int, int], None]  # layers done, layers in all
Cancel = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class FigureRequest:
    """What a figure is asked to show, and how to calculate it."""

    layer: str | None = None  # a name or glob: of one layer for "heatmap", of any number for "ranks" and "layers"
    absolute: bool = False  # "layers": colours in weight units, not relative to each layer's largest value
    workers: int | None = None
    progress: Progress | None = None
    cancel: Cancel | None = None


def draw(kind: str, paths: Sequence[PathLike], request: FigureRequest | None = None) -> Figure:
    """A figure of one of ``FIGURES``: of one file, or of two to eight where the kind compares.

    Raises: OptionError for an unknown kind or the wrong number of files; MissingExtraError without matplotlib; what
    opening and calculating raise; CancelledError.
    """
    from .plots.style import require_matplotlib

    if kind not in FIGURES:
        raise OptionError(f"no figure is named {kind!r}; there are {', '.join(FIGURES)}")
    many = kind in COMPARING
    if many != (len(paths) > 1):
        raise OptionError(f"{kind} shows {'two to eight adapters' if many else 'one adapter'}, not {len(paths)}")
    require_matplotlib()  # before the long work
    with ExitStack() as stack:
        adapters = [stack.enter_context(open_adapter(path, lenient_metadata=True)) for path in paths]
        return FIGURES[kind](adapters, [_name(path) for path in paths], request or FigureRequest())


def write(
    kind: str,
    paths: Sequence[PathLike],
    target: PathLike,
    request: FigureRequest | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Draw a figure into a file; its suffix says whether it is PNG, SVG or PDF. Raises: as ``draw``; OutputError."""
    from .formats.target import check_target
    from .plots.saving import SUFFIXES, save

    check_target(target, paths, overwrite=overwrite, suffixes=SUFFIXES)
    save(draw(kind, paths, request), target, overwrite=overwrite)


# -- the kinds -----------------------------------------------------------------------------------------


def _heatmap(adapters: Sequence[Adapter], names: Sequence[str], request: FigureRequest) -> Figure:
    from .plots.pages import delta_page, heatmap_page
    from .plots.values import layer_named, layer_norms, picture_of

    adapter, heading = adapters[0], _heading(adapters, names)
    if request.layer is None:
        norms = layer_norms(adapter, workers=request.workers, progress=request.progress, cancel=request.cancel)
        return heatmap_page(norms, heading)
    return delta_page(picture_of(layer_named(adapter, request.layer)), heading)


def _distribution(adapters: Sequence[Adapter], names: Sequence[str], request: FigureRequest) -> Figure:
    from .plots.pages import distribution_page
    from .plots.values import sample_deltas

    samples = sample_deltas(
        adapters[0], workers=request.workers, progress=request.progress, cancel=request.cancel
    )  # fmt: skip
    return distribution_page(samples, _heading(adapters, names))


def _ranks(adapters: Sequence[Adapter], names: Sequence[str], request: FigureRequest) -> Figure:
    from .plots.pages import ranks_page

    return ranks_page(_spectrum(adapters[0], request), _heading(adapters, names))


def _layers(adapters: Sequence[Adapter], names: Sequence[str], request: FigureRequest) -> Figure:
    from .plots.pages import layers_page

    heading = _heading(adapters, names)
    return layers_page(_spectrum(adapters[0], request), heading, "absolute" if request.absolute else "relative")


def _comparison(adapters: Sequence[Adapter], names: Sequence[str], request: FigureRequest) -> Figure:
    from .comparing.calculation import compare
    from .plots.pages import comparison_page

    found = compare(
        adapters, layers=request.layer, workers=request.workers, progress=request.progress, cancel=request.cancel
    )
    return comparison_page(found, _heading(adapters, names))


def _similarity(adapters: Sequence[Adapter], names: Sequence[str], request: FigureRequest) -> Figure:
    from .comparing.calculation import compare
    from .plots.pages import similarity_page

    found = compare(
        adapters, layers=request.layer, workers=request.workers, progress=request.progress, cancel=request.cancel
    )
    return similarity_page(found, _heading(adapters, names))


_Kind = Callable[[Sequence[Adapter], Sequence[str], FigureRequest], "Figure"]
FIGURES: Mapping[str, _Kind] = MappingProxyType(
    {
        "heatmap": _heatmap,
        "distribution": _distribution,
        "ranks": _ranks,
        "layers": _layers,
        "comparison": _comparison,
        "similarity": _similarity,
    }
)
COMPARING = frozenset({"comparison", "similarity"})


def _spectrum(adapter: Adapter, request: FigureRequest) -> Spectrum:
    from .spectra.calculation import spectrum

    return spectrum(
        adapter, layers=request.layer, workers=request.workers, progress=request.progress, cancel=request.cancel
    )


def _heading(adapters: Sequence[Adapter], names: Sequence[str]) -> str:
    from .formats.families import LABELS
    from .plots.pages import heading_of

    first = adapters[0]
    facts = [LABELS.get(first.base_model.family, first.base_model.family)]
    if len(adapters) == 1:
        facts += [_rank_words(first), quantity(len(first.layers), "layer")]
    return heading_of(names if len(names) < 3 else [names[0], f"{len(names) - 1} more"], facts)


def _rank_words(adapter: Adapter) -> str:
    ranks = sorted({layer.rank for layer in adapter.layers.values() if layer.rank})
    if not ranks:
        return ""
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"


def _name(path: PathLike) -> str:
    return os.path.basename(os.path.normpath(os.fspath(path)))
