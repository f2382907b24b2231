"""Make a conversion plan: find every layer's name in the target, and what the target cannot say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..adapter import Adapter, Layer
from ..errors import OptionError, UnknownDialectError
from ..formats.adapter_config import PEFT_PREFIX
from ..formats.architectures import OWN_NAMES, canonical_parts, is_known, is_pipeline
from ..formats.families import LABELS, UNKNOWN
from ..formats.layout import TensorPlan, aligned, predicted_size
from .configuration import output_config, output_metadata
from .expressing import extra_name, lost_beside, why_not
from .grouping import group_layers, with_columns
from .options import ConvertOptions
from .plan import ConvertPlan, LayerPlan, Missing, Stored
from .storing import store


def plan_conversion(adapter: Adapter, options: ConvertOptions) -> ConvertPlan:
    """What the conversion will write. Reads factors where a fused layer is divided or several are joined.

    Raises: OptionError where the base model is unknown or has no names in the target, or where something cannot be
    expressed and ``drop`` was not asked for; UnknownDialectError where nothing is left to write.
    """
    family = _family(adapter, options)
    chosen, missing = _chosen(adapter, family, options)
    expressible: list[Layer] = []
    for layer in chosen:
        reason = why_not(adapter, layer, options)
        if reason is None:
            expressible.append(layer)
            missing += lost_beside(layer, options)
        else:
            missing.append(Missing(layer.name, reason))
    expressible = _of_one_kind(expressible, options, missing)
    groups, unnamed = group_layers(expressible, family, options)
    missing += unnamed
    _require_names(adapter, groups, family, options, missing)
    groups, zero = with_columns(groups, family)
    layers: dict[str, LayerPlan] = {}
    for group in groups.values():
        made = store(adapter, group, family, options)
        if isinstance(made, Missing):
            missing.append(made)
        else:
            layers[made.name] = made
    carried, lost = _extras(adapter, family, options)
    missing += lost
    return _plan(adapter, options, family, layers, _distinct(missing), carried, zero)


def _family(adapter: Adapter, options: ConvertOptions) -> str:
    family = options.family or adapter.base_model.family
    if options.family is None and not is_known(family) and options.to == "peft" and adapter.dialect in ("peft", "mlx"):
        return OWN_NAMES  # PEFT's names are the model's own, whichever it is
    if family == UNKNOWN:
        raise OptionError(
            f"{adapter.path}: its base model is unknown, so its names stand for nothing; say --base-model"
        )
    if not is_known(family):
        known = f"the names of {LABELS[family]} are not in the table" if family in LABELS else "no such base model"
        raise OptionError(f"{family}: {known}; nothing can be converted")
    return family


def _chosen(adapter: Adapter, family: str, options: ConvertOptions) -> tuple[list[Layer], list[Missing]]:
    """The layers of the component to write. A PEFT folder holds one: the network itself, unless another is named."""
    layers = list(adapter.layers.values())
    if options.to != "peft" and options.component is None:
        return layers, []
    component = options.component or _main_component(layers, family)
    if component is None:  # a language model's names have none
        return layers, []
    chosen = [layer for layer in layers if _component(layer, family) in (component, None)]
    if not any(_component(layer, family) == component for layer in chosen):
        found = sorted({c for layer in layers if (c := _component(layer, family)) is not None})
        raise OptionError(f"{adapter.path}: nothing belongs to {component}; there are {', '.join(found) or 'none'}")
    reason = f"a PEFT folder holds one component, and {component} was chosen; --component says which"
    others = [layer.name for layer in layers if layer not in chosen]
    return chosen, [Missing(name, reason) for name in others] if options.component is None else []


def _component(layer: Layer, family: str) -> str | None:
    parts = canonical_parts(layer, family)
    if not parts:
        return None
    component = parts[0].module.partition(".")[0]
    return component if component in _COMPONENTS else None


_COMPONENTS = ("unet", "transformer", "transformer_2", "text_encoder", "text_encoder_2", "text_encoder_3")


def _main_component(layers: Iterable[Layer], family: str) -> str | None:
    if not is_pipeline(family):
        return None
    found = {component for layer in layers if (component := _component(layer, family)) is not None}
    return next((component for component in _COMPONENTS if component in found), None)


def _of_one_kind(layers: list[Layer], options: ConvertOptions, missing: list[Missing]) -> list[Layer]:
    """PEFT trains norms in all of an adapter's layers or in none: a plain layer beside DoRA would be read as DoRA."""
    if options.spoken.carries_other_kinds or not any(layer.magnitude_axis for layer in layers):
        return layers
    reason = f"it is plain LoRA beside DoRA layers, and {options.to} would read norms into it"
    missing += [Missing(layer.name, reason) for layer in layers if layer.magnitude_axis is None]
    return [layer for layer in layers if layer.magnitude_axis is not None]


def _require_names(
    adapter: Adapter, groups: Mapping[str, Any], family: str, options: ConvertOptions, missing: list[Missing]
) -> None:
    if not groups:
        first = f"; e.g. {missing[0].name}: {missing[0].reason}" if missing else ""
        what = LABELS.get(family, family)
        raise UnknownDialectError(f"{adapter.path}: no layer of this {what} adapter can be {options.to}{first}")
    if missing and not options.drop:
        _refuse(adapter, options, missing)


def _refuse(adapter: Adapter, options: ConvertOptions, missing: list[Missing]) -> None:
    first = missing[0]
    raise OptionError(
        f"{len(missing)} parts of the adapter cannot be written as {options.to}, e.g. {first.name}: {first.reason}. "
        "--dry-run --drop lists them, --drop leaves them out"
    )


def _distinct(missing: Iterable[Missing]) -> tuple[Missing, ...]:
    return tuple({one.name: one for one in missing}.values())


def _extras(adapter: Adapter, family: str, options: ConvertOptions) -> tuple[list[Stored], list[Missing]]:
    """Tensors that are no update: those the target has a name for, and those it has not."""
    carried, lost = [], []
    tensors = adapter.source.tensors
    for extra in adapter.extras:
        name = extra_name(adapter, extra, family, options)
        if name is None:
            lost.append(Missing(extra.key, f"{extra.note}; {options.to} has no name for it"))
        else:
            carried.append(Stored(TensorPlan(name, tensors[extra.key].dtype, tensors[extra.key].shape), raw=extra.key))
    lost += [Missing(key, "the name means nothing to this version") for key in adapter.unrecognised_keys]
    return carried, lost


# -- the whole ---------------------------------------------------------------------------------------


def _plan(
    adapter: Adapter,
    options: ConvertOptions,
    family: str,
    layers: dict[str, LayerPlan],
    missing: tuple[Missing, ...],
    carried: list[Stored],
    zero: list[str],
) -> ConvertPlan:
    if missing and not options.drop:
        _refuse(adapter, options, list(missing))
    if not layers:
        raise UnknownDialectError(f"{adapter.path}: nothing is left to write as {options.to}")
    stored = [one for plan in layers.values() for one in plan.tensors] + carried
    by_name = {one.tensor.name: one for one in stored}
    tensors = [by_name[tensor.name] for tensor in aligned([one.tensor for one in stored])]
    metadata = output_metadata(adapter, options, layers, family)
    config = None
    if options.to == "peft":
        experts = any(source.layer.experts for plan in layers.values() for source in plan.sources)
        config = output_config(adapter, layers, experts, keeps_experts=adapter.dialect == "peft")
    size = predicted_size([one.tensor for one in tensors], metadata)
    notes = tuple(_notes(adapter, options, layers, zero))
    return ConvertPlan(
        adapter, options, family, layers, missing, tuple(carried), tensors, metadata, config, size, notes
    )  # fmt: skip


def _notes(
    adapter: Adapter,
    options: ConvertOptions,
    layers: Mapping[str, LayerPlan],
    zero: list[str],
) -> Iterator[str]:
    base = adapter.base_model
    if base.conflict and options.family is None:
        yield f"the keys say {base.from_keys}, the header says {base.from_header}; the keys were believed"
    if zero:
        yield f"{len(zero)} layers are not written: their rows are zero in the fused layer, e.g. {zero[0]}"
    assumed = [source.layer for plan in layers.values() for source in plan.sources if _is_assumed(source.layer)]
    if assumed:
        yield f"{len(assumed)} layers state no alpha; they are read with scale 1, and written so"
    cut = [plan for plan in layers.values() if plan.truncate is not None]
    if cut:
        yield f"{len(cut)} layers of other kinds are truncated; the error is measured after writing"
    if options.uniform_rank is not None:
        larger = [plan for plan in layers.values() if _joined_rank(plan) > options.uniform_rank]
        if larger:
            yield f"{len(larger)} layers have a rank above {options.uniform_rank} and are truncated"


def _joined_rank(plan: LayerPlan) -> int:
    ranks = [len(s.columns) if s.columns is not None else s.layer.rank or 0 for s in plan.sources]
    return max(ranks) if plan.action == "share" else sum(ranks)


def _is_assumed(layer: Layer) -> bool:
    return layer.scale_origin == "default" and layer.name.startswith(PEFT_PREFIX)
