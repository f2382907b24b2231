"""What an interface needs to know to predict the size of a resized file by itself, to the byte.

A slider asks for a size sixty times a second; a plan for every position would be too slow. The model states every
tensor of the output with the rank left open, so that the reader of it only adds up. Tests hold both sides to
``plan_resize``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..adapter import Adapter
from ..formats.dtypes import BITS
from ..formats.layout import METADATA_KEY, TensorPlan
from ..linalg.rank import RankChoice
from .candidate import Candidate, shares_one_rank
from .header import output_metadata
from .options import ResizeOptions
from .plan import LayerPlan, rank_limit
from .planning import _Making
from .scales import new_scale, scales_of
from .selection import sort_layers, stored

_LARGEST_RANK = 512  # a size for every rank up to here; sliders end below


@dataclass(frozen=True, slots=True, eq=False)
class SizeModel:
    """Sizes of the output at any ranks.

    ``layers``: the layers that can be resized, with the rank at which each is copied as it stands (``keep_at``) and
    the largest it can have (``limit``; None where the format does not clamp it). ``tensors``: the output's entries in
    the input's order. Their ``kept`` and ``changed`` are ``[bits per value, shape]`` for a layer that is copied or
    written anew, None where the tensor is absent then; a negative size in a shape is that many times the rank.
    ``metadata_bytes[k - 1]``: length of the header's ``"__metadata__":{...}`` at rank ``k`` for all layers.
    """

    layers: Sequence[dict[str, Any]]
    tensors: Sequence[dict[str, Any]]
    metadata_bytes: Sequence[int]
    size_before: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": "lora-analysis/size-model/1",
            "layers": list(self.layers),
            "tensors": list(self.tensors),
            "metadata_bytes": list(self.metadata_bytes),
            "size_before": self.size_before,
        }


def size_model(adapter: Adapter, options: ResizeOptions | None = None) -> SizeModel:
    """The size of an open adapter at every rank, for the type and alpha policy of ``options``.

    Only headers are read. How ``options`` choose ranks does not matter: the model is for all of them.

    Raises: UnknownDialectError where no layer can be resized; OptionError as ``plan_resize`` does.
    """
    one = RankChoice("fixed", 1)
    options = replace(options or ResizeOptions(choice=one), choice=one, budget=None, recipe=None, table=())
    candidates, skipped = sort_layers(adapter, options)
    making = _Making(adapter, options, scales_of(adapter), candidates, skipped)
    layers = [_layer(making, candidate) for candidate in candidates]
    top = max(layer["old_rank"] or min(layer["limit"] or 1, _LARGEST_RANK) for layer in layers)
    return SizeModel(
        layers,
        list(_tensors(making)),
        [_metadata_bytes(making, rank) for rank in range(1, top + 1)],
        adapter.source.size,
    )


def _layer(making: _Making, candidate: Candidate) -> dict[str, Any]:
    layer, options = candidate.layer, making.options
    is_kept = layer.rank is not None and making._layer(candidate, layer.rank).action == "keep"
    return {
        "name": layer.name,
        "old_rank": layer.rank,
        "keep_at": layer.rank if is_kept else None,
        "limit": None if shares_one_rank(candidate) or options.method != "svd" else rank_limit(layer),
    }


def _tensors(making: _Making) -> Iterator[dict[str, Any]]:
    """The entries of both outcomes in one list; leaving out what is absent gives the writer's order."""
    adapter, candidates = making.adapter, making.candidates
    owners = {key: at for at, candidate in enumerate(candidates) for key in candidate.layer.keys.values()}
    changed = [dict(_open_shapes(making, candidate)) for candidate in candidates]
    done: set[int] = set()
    for key in adapter.source.tensors:
        at = owners.get(key)
        kept = _entry(stored(adapter, key))
        if at is None:
            yield {"name_bytes": _json_bytes(key), "layer": None, "kept": kept, "changed": None}
            continue
        if at not in done:
            done.add(at)
            for name, entry in changed[at].items():
                if name not in adapter.source.tensors:
                    yield {"name_bytes": _json_bytes(name), "layer": at, "kept": None, "changed": entry}
        yield {"name_bytes": _json_bytes(key), "layer": at, "kept": kept, "changed": changed[at].get(key)}


def _open_shapes(making: _Making, candidate: Candidate) -> Iterator[tuple[str, list[Any]]]:
    """A changed layer's tensors, with sizes that grow with the rank as the negative of what they grow by."""
    # Neither is the layer's own rank, at which it might be copied and have other tensors.
    first = (candidate.layer.rank or 0) + 1
    low, high = (making._layer(candidate, rank).tensors for rank in (first, first + 1))
    for one, two in zip(low, high, strict=True):
        shape = [a if a == b else a - b for a, b in zip(one.shape, two.shape, strict=True)]
        yield one.name, [BITS[one.dtype], shape, len(one.dtype)]


def _entry(tensor: TensorPlan) -> list[Any]:
    return [BITS[tensor.dtype], list(tensor.shape), len(tensor.dtype)]


def _metadata_bytes(making: _Making, rank: int) -> int:
    adapter, stated = making.adapter, making.stated
    asked = replace(making.options, choice=RankChoice("fixed", rank))
    plans = dict(making.skipped)
    for candidate in making.candidates:
        layer = candidate.layer
        clamped = rank if shares_one_rank(candidate) or asked.method != "svd" else min(rank, rank_limit(layer))
        # The header reads no more of a plan than this.
        scale = new_scale(layer, candidate.spelling.names, clamped, asked.alpha, stated)
        plans[layer.name] = LayerPlan(layer.name, layer.kind, "truncate", layer.rank, clamped, scale)
    metadata, _ = output_metadata(adapter, asked, {name: plans[name] for name in adapter.layers}, stated)
    return len(json.dumps({METADATA_KEY: metadata}, ensure_ascii=False, separators=(",", ":")).encode()) - 2


def _json_bytes(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode())
