"""What a person should know about a plan beside its numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from ..adapter import Adapter
from ..formats.folder import CONFIG_NAME
from .plan import LayerPlan, ResizePlan

_CONVOLUTION = re.compile(r"conv|in_layers|out_layers|[_.]op$")  # what U-Nets call them
# A new pair of a layer that was LoRA: its factors had a core between them, or were block diagonal.
_OTHER_KINDS = {"lora": "Tucker or merged", "full": "difference"}


def notes_on(adapter: Adapter, layers: Mapping[str, LayerPlan], size_after: int) -> Iterator[str]:
    """One sentence each."""
    changed = {name: plan for name, plan in layers.items() if plan.is_changed}
    yield from _about_magnitudes(adapter, changed)
    yield from _about_new_structure(changed)
    yield from _about_flattened_convolutions(adapter, changed)
    if size_after > adapter.source.size and any(plan.is_changed and plan.kind != "lora" for plan in layers.values()):
        yield "the output is larger than the input, whose kind needs fewer values for the same rank"
    if any(finding.code == "scale-assumed" for finding in adapter.findings):
        yield f"{CONFIG_NAME} is missing: change its lora_alpha with its r, so that lora_alpha / r stays the same"


def skipped_in_words(plan: ResizePlan) -> list[str]:
    """Why layers are left alone, one sentence per reason, the most frequent first."""
    reasons = Counter(layer.reason for layer in plan.kept)
    return [
        f"{_layers(count)} left as {'it is' if count == 1 else 'they are'}: {reason}"
        for reason, count in reasons.most_common()
    ]


def _about_magnitudes(adapter: Adapter, changed: Mapping[str, LayerPlan]) -> Iterator[str]:
    count = sum(adapter.layers[name].magnitude_axis is not None for name in changed)
    if count:
        yield (
            f"{_layers(count)} with a DoRA magnitude, which is kept: it was trained with the old delta, so the error "
            "of the merged weight is not the error of the delta"
        )


def _about_new_structure(changed: Mapping[str, LayerPlan]) -> Iterator[str]:
    counts = Counter(plan.kind for plan in changed.values() if plan.spelling is not None and plan.spelling.is_new)
    for kind, count in counts.items():
        yield f"{_layers(count, _OTHER_KINDS.get(kind, kind))} written as plain LoRA, up and down"


def _about_flattened_convolutions(adapter: Adapter, changed: Mapping[str, LayerPlan]) -> Iterator[str]:
    """LoHa and LoKr store a convolution's columns flattened; only the base weight, or the name, tells."""
    count = sum(
        plan.kind in ("loha", "lokr") and len(adapter.layers[name].shape or ()) == 2 and bool(_CONVOLUTION.search(name))
        for name, plan in changed.items()
    )
    if count:
        yield (
            f"{_layers(count)} stored flattened, by the name a convolution: ComfyUI, A1111 and Forge reshape the "
            "result to the base weight, loaders that build the module first refuse it"
        )


def _layers(count: int, kind: str = "") -> str:
    return f"{count} {kind} layer{'s' * (count != 1)}".replace("  ", " ")
