"""The report of one adapter: calculate, draw, put on a page."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..adapter import Adapter
from ..formats import open_adapter
from ..formats.atomic import atomic_file
from ..formats.families import LABELS
from ..formats.target import check_target
from ..inspection.rendering import sections
from ..metadata import inspect
from ..spectra.calculation import spectrum
from ..spectra.groups import Group
from ..spectra.recommendation import Recommendation, recommend
from ..spectra.values import LayerSpectrum, Spectrum
from ..text import quantity, size
from . import page

PathLike = str | os.PathLike[str]
Progress = Callable[[int, int], None]
Cancel = Callable[[], bool]

SUFFIXES = (".html", ".htm")
_LAYERS_SHOWN = 60
_FOLDED = ("Header", "Tags")


def report(
    path: PathLike,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> str:
    """One self-contained HTML page: metadata, findings, a recommendation, figures, spectra. Reads every layer twice.

    Raises: MissingExtraError without matplotlib; what opening and calculating raise; CancelledError.
    """
    from ..plots.style import require_matplotlib

    require_matplotlib()  # before the long work
    facts = inspect(path).to_dict()
    with open_adapter(path, lenient_metadata=True) as adapter:
        spectra = spectrum(adapter, workers=workers, progress=progress, cancel=cancel)
        advice = recommend(adapter, spectra, workers=workers, cancel=cancel)
        pictures = list(_pictures(adapter, spectra, _name(path), workers, cancel))
    return page.document(f"{_name(path)}: LoRA Analysis", _body(_name(path), facts, spectra, advice, pictures))


def write_report(
    path: PathLike,
    target: PathLike,
    *,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> None:
    """Write :func:`report` to a file, whole or not at all. Raises: as ``report``; OptionError, OutputError."""
    check_target(target, [path], overwrite=overwrite, suffixes=SUFFIXES)
    data = report(path, workers=workers, progress=progress, cancel=cancel).encode("utf-8")
    with atomic_file(target, overwrite=overwrite, size_hint=len(data)) as file:
        file.write(data)


def _body(
    name: str, facts: Mapping[str, Any], spectra: Spectrum, advice: Recommendation, pictures: list[page.Picture]
) -> Iterator[str]:
    yield f"<header><h1>{page.text(name)}</h1>{page.badges(_badges(facts))}</header>"
    yield page.advice(advice.statement, [*advice.reasons, _HONEST])
    yield from _findings(facts)
    for figure in pictures:
        yield page.section(figure.title, page.picture(figure))
    yield from _spectra(spectra)
    for title, rows in sections(facts):
        if title == "Problems":  # shown above, with what is only worth knowing
            continue
        listed = page.facts(rows)
        yield page.folded(title, listed) if title.startswith(_FOLDED) else page.section(title, listed)
    yield _footer()


_HONEST = "these are figures of weights: whether pictures or answers stay as they were is for eyes to say"


def _badges(facts: Mapping[str, Any]) -> Iterator[str]:
    summary: Mapping[str, Any] = facts["adapter"]
    yield LABELS.get(summary["base_model"], summary["base_model"])
    yield f"{summary['algorithm']}, {summary['dialect']} names"
    rank = summary["rank"]
    if rank:
        yield f"rank {rank['mode']}" if rank["min"] == rank["max"] else f"ranks {rank['min']} to {rank['max']}"
    yield quantity(summary["layers"], "layer")
    yield quantity(summary["parameters"], "parameter")
    yield ", ".join(summary["dtypes"])
    yield size(facts["file_info"]["file_size_bytes"])


def _findings(facts: Mapping[str, Any]) -> Iterator[str]:
    found = facts["validation_info"]["findings"]
    if found:
        yield page.section("Findings", page.findings((one["severity"], one["message"]) for one in found))


def _pictures(
    adapter: Adapter, spectra: Spectrum, name: str, workers: int | None, cancel: Cancel | None
) -> Iterator[page.Picture]:
    from ..plots.pages import distribution_page, heatmap_page, layers_page, ranks_page
    from ..plots.saving import rendered
    from ..plots.values import sample_deltas

    if not spectra.layers:
        return
    yield page.Picture("Ranks", rendered(ranks_page(spectra, name), "png"), _ranks_in_words(spectra))
    yield page.Picture(
        "Where it acts",
        rendered(heatmap_page(spectra, name), "png"),
        "Frobenius norm of every layer's delta, blocks downwards, modules across. " + _strongest_in_words(spectra),
    )
    yield page.Picture(
        "Every singular value",
        rendered(layers_page(spectra, name), "png"),
        "A row per layer, a column per singular value, relative to the layer's largest, on a logarithmic scale.",
    )
    samples = sample_deltas(adapter, workers=workers, cancel=cancel)
    yield page.Picture(
        "Sizes of the changes",
        rendered(distribution_page(samples, name), "png"),
        "Entries of the deltas by block, and their sizes over all layers; at most 2,304 entries of a layer.",
    )


def _ranks_in_words(spectra: Spectrum) -> str:
    from statistics import median

    measures = [layer.summary for layer in spectra.layers]
    effective = median(one.effective_rank for one in measures)
    k95, k99 = (median(ranks) for ranks in ((one.rank_95 for one in measures), (one.rank_99 for one in measures)))
    return (
        "Decay of singular values, energy kept by rank, effective rank of every layer. The median layer has an "
        f"effective rank of {effective:.1f} and needs rank {k95:g} for 95 % of its energy, {k99:g} for 99 %."
    )


def _strongest_in_words(spectra: Spectrum) -> str:
    strongest = max(spectra.blocks(), key=lambda group: group.energy_share)
    where = " ".join(part for part in (strongest.component, strongest.block) if part)
    return f"{where} holds {strongest.energy_share:.0%} of the energy."


def _spectra(spectra: Spectrum) -> Iterator[str]:
    if not spectra.layers:
        yield page.section("Spectra", '<p class="note">No layer has singular values.</p>')
        return
    headings = ("component", "block", "layers", "‖Δ‖", "share of energy", "effective rank (median)", "k95 (largest)")
    yield page.section("Blocks", page.table(headings, [_block_row(group) for group in spectra.blocks()]))
    shown = spectra.ordered("norm", _LAYERS_SHOWN)
    caption = f"The {len(shown)} of {len(spectra.layers):,} layers with the largest norm"
    headings = ("layer", "rank", "‖Δ‖", "σ₁", "effective rank", "k95", "k99")
    yield page.section("Layers", page.table(headings, [_layer_row(layer) for layer in shown], caption))
    if spectra.skipped:
        rows = [(x.name, x.code, x.reason) for x in spectra.skipped[:_LAYERS_SHOWN]]
        caption = f"{len(rows)} of {len(spectra.skipped):,} layers without a spectrum"
        yield page.section("Skipped", page.table(("layer", "code", "why"), rows, caption))


def _block_row(group: Group) -> tuple[object, ...]:
    numbers = (group.frobenius_norm, group.energy_share, group.effective_rank_median, group.rank_95_largest)
    return (group.component, group.block or "–", group.layers, *numbers)


def _layer_row(layer: LayerSpectrum) -> tuple[object, ...]:
    found = layer.summary
    return (
        layer.label,
        layer.rank,
        found.frobenius_norm,
        found.largest,
        found.effective_rank,
        found.rank_95,
        found.rank_99,
    )


def _footer() -> str:
    from .. import __version__

    words = "Nothing in the file was run; nothing on this page is loaded from elsewhere."
    return f"<footer>lora-analysis {page.text(__version__)}. {words}</footer>"


def _name(path: PathLike) -> str:
    return os.path.basename(os.path.normpath(os.fspath(path)))
