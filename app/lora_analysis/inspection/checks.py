"""Where header and tensors disagree, and what is missing. The tensors win; a warning says so.

Broken layers (rank zero, shapes that do not fit, orphan factors) are found on opening, see
``formats.layers``; digests in ``formats.hashes``.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import isclose, sqrt

from ..adapter import Adapter, Finding, Layer
from ..formats.headers import HeaderFacts
from .summary import AdapterSummary

# Of these kinds a stated dimension is a rank; of LoKr, OFT or IA3 it is a limit, a count or nothing.
_RANKED = frozenset({"lora", "loha"})
_ALPHA_TOLERANCE = 0.01  # bf16 keeps 8 bits of an alpha


def check(adapter: Adapter, facts: HeaderFacts, summary: AdapterSummary) -> list[Finding]:
    """Every disagreement and gap between what is stated and what is stored."""
    ranked = [layer for layer in adapter.layers.values() if layer.kind in _RANKED and layer.rank]
    found = [_rank(ranked, facts, summary), _alpha(ranked, facts, summary), _base(adapter)]
    found += [_missing_alpha(adapter, summary), _missing_targets(facts, summary)]
    return [finding for finding in found if finding is not None]


def _rank(ranked: list[Layer], facts: HeaderFacts, summary: AdapterSummary) -> Finding | None:
    stated = facts.network_dim
    # PEFT's ranks, patterns included, are compared layer by layer on opening.
    if not ranked or not isinstance(stated, int) or facts.r is not None or _has_block_values(facts, "block_dims"):
        return None
    ranks = {layer.rank for layer in ranked}
    if stated in ranks:
        return None
    shown = _shown({rank: summary.ranks[rank] for rank in summary.ranks if rank in ranks})
    return _warning("rank-disagrees", f"the header says rank {stated}, the tensors have {shown}; the tensors count")


def _alpha(ranked: Iterable[Layer], facts: HeaderFacts, summary: AdapterSummary) -> Finding | None:
    stated = facts.network_alpha
    stored = [layer for layer in ranked if layer.scale_origin == "tensor" and layer.alpha is not None]
    # Trainers take 0 as "alpha = rank" and store the rank.
    if not stored or not isinstance(stated, float) or not stated or _has_block_values(facts, "block_alphas"):
        return None
    if any(_is_alpha_of(layer, stated) for layer in stored):
        return None
    shown = _shown(summary.alphas)
    return _warning("alpha-disagrees", f"the header says alpha {stated:g}, the tensors {shown}; the tensors count")


def _is_alpha_of(layer: Layer, stated: float) -> bool:
    """LyCORIS stores a rank-stabilised alpha as ``alpha * sqrt(rank)``, so that ``alpha / rank`` stays right."""
    stabilised = stated * sqrt(layer.rank or 0)
    return any(isclose(layer.alpha or 0.0, value, rel_tol=_ALPHA_TOLERANCE) for value in (stated, stabilised))


def _has_block_values(facts: HeaderFacts, name: str) -> bool:
    """Whether every block was given its own value, so that the single one is only a default."""
    return bool((facts.network_args or {}).get(name))


def _base(adapter: Adapter) -> Finding | None:
    base = adapter.base_model
    if not base.conflict or any(finding.code == "base-disagrees" for finding in adapter.findings):
        return None
    message = f"the header says {base.from_header}, the tensors belong to {base.from_keys}; the tensors count"
    return _warning("base-disagrees", message)


def _missing_alpha(adapter: Adapter, summary: AdapterSummary) -> Finding | None:
    missing = summary.scale_origins.get("default", 0)
    if not missing or any(finding.code == "scale-assumed" for finding in adapter.findings):
        return None
    message = (
        f"{missing} of {summary.layers} layers have no alpha, in the file or beside it; they are read with scale 1"
    )
    # A state dict has no header that could have named one, and PyTorch files of every age come without.
    is_usual = adapter.source.container == "pytorch"
    return Finding("info", "missing-alpha", message) if is_usual else _warning("missing-alpha", message)


def _missing_targets(facts: HeaderFacts, summary: AdapterSummary) -> Finding | None:
    if not summary.layers and not summary.extras:
        return _warning("missing-target-modules", "no target modules: no layer of a base model is adapted")
    if facts.format == "peft" and summary.layers and not facts.target_modules:
        return _warning("missing-target-modules", "adapter_config.json names no target_modules")
    return None


def _shown(distribution: dict[int, int] | object) -> str:
    """``16 (700 layers), 32 (22 layers)``, the most frequent three."""
    assert isinstance(distribution, dict)
    ordered = sorted(distribution.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{value:g} ({count} layer{'s' if count != 1 else ''})" for value, count in ordered[:3])
    return f"{shown}, …" if len(ordered) > 3 else shown


def _warning(code: str, message: str) -> Finding:
    return Finding("warning", code, message)
