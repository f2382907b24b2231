"""The scale of one layer, and who said so.

Order: an alpha tensor in the file; what the header says (diffusers' ``lora_adapter_metadata``, a bare
``lora_alpha`` pair); ``adapter_config.json``; nothing, which every loader takes as 1. ``ss_network_alpha``
is not among them: no loader reads it, and it is stale after most resizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, NamedTuple

from ..adapter import EMPTY, VECTOR_KINDS, Finding, ScaleOrigin
from ..errors import FormatError
from .adapter_config import PEFT_PREFIX, configured_rank, configured_scale, mlx_scale, number
from .kinds import Described, Group
from .strict_json import loads

_COMPONENTS = ("transformer", "transformer_2", "unet", "text_encoder", "text_encoder_2", "text_encoder_3")
SCALE_ROLES = ("alpha", "scale")  # single values that opening reads
_FIXED_KINDS = VECTOR_KINDS | {"full"}  # no alpha acts on a difference


class Scale(NamedTuple):
    """``alpha`` as stored or configured, the ``scale`` it makes, and where it came from."""

    alpha: float | None
    scale: float
    origin: ScaleOrigin
    problem: str | None = None  # why there is no usable scale


@dataclass(frozen=True, slots=True)
class StatedScales:
    """Everything outside the tensors that speaks about scales."""

    config: Mapping[str, Any] = field(default_factory=dict)  # adapter_config.json
    components: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # header, per component
    header_alpha: float | None = None  # header, for the whole file
    is_mlx: bool = False
    is_gguf: bool = False

    def config_for(self, module: str) -> Mapping[str, Any]:
        """The configuration that speaks about ``module``: the header's, else the file's."""
        if not self.components:
            return self.config
        component = module.partition(".")[0]
        return self.components.get(component, self.components.get("", self.config))


def stated_scales(metadata: Mapping[str, Any], config: Mapping[str, Any] | None, dialect: str) -> StatedScales:
    """Collect what header and config say. A broken inner document is left to the header parser to report."""
    return StatedScales(
        config or EMPTY, _component_configs(metadata), _header_alpha(metadata), dialect == "mlx", dialect == "gguf"
    )


def _component_configs(metadata: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """diffusers >= 0.34: one JSON string with ``transformer.r``, ``text_encoder.lora_alpha``, ..."""
    document = metadata.get("lora_adapter_metadata")
    if isinstance(document, str):
        try:
            document = loads(document, what="lora_adapter_metadata")
        except FormatError:
            document = None
    flat: Mapping[str, Any] = document if isinstance(document, Mapping) else {}
    # SimpleTuner writes the same pairs straight into the header, as strings.
    pairs = {key: number(metadata[key]) for key in metadata if key.endswith((".lora_alpha", ".r"))}
    configs: dict[str, dict[str, Any]] = {}
    for key, value in {**pairs, **flat}.items():
        component, _, name = str(key).partition(".")
        if component in _COMPONENTS and name:
            configs.setdefault(component, {})[name] = value
        elif not _ and isinstance(document, Mapping):
            configs.setdefault("", {})[component] = value
    return {name: config for name, config in configs.items() if "lora_alpha" in config or "alpha" in config}


def _header_alpha(metadata: Mapping[str, Any]) -> float | None:
    for name in ("lora_alpha", "alpha", "network_alpha", "adapter.lora.alpha"):
        value = number(metadata.get(name))
        if value is not None:
            return value
    return None


def resolve_scale(group: Group, described: Described, stated: StatedScales, scalars: Mapping[str, float]) -> Scale:
    """The scale of one module; see the module's docstring for the order.

    ``scalars``: single values read already, by tensor name. Raises: FormatError where one has no value.
    """
    if described.kind in _FIXED_KINDS:
        return Scale(None, 1.0, "none")
    if group.has("scale"):  # read by A1111 and Forge in place of alpha / rank
        return Scale(None, _value(group, "scale", scalars), "tensor")
    if group.has("alpha"):
        return _from_tensor(_value(group, "alpha", scalars), described)
    if stated.is_mlx:
        absolute = mlx_scale(stated.config)
        return Scale(None, absolute, "config") if absolute is not None else Scale(None, 1.0, "default")
    return _from_statements(group, described, stated)


def _value(group: Group, role: str, scalars: Mapping[str, float]) -> float:
    key = group.keys[role]
    value = scalars.get(key)
    return group.source.scalar(key) if value is None else value  # which says what is wrong with it


def _from_tensor(alpha: float, described: Described) -> Scale:
    if described.opaque is not None or described.divisor is None:
        return Scale(alpha, 1.0, "tensor")  # LoKr with both sides whole: alpha has no effect
    if not isfinite(alpha):
        return Scale(alpha, 1.0, "tensor", f"alpha is {alpha}; a rank too large for its dtype may have been stored")
    return Scale(alpha, alpha / described.divisor if described.divisor else 0.0, "tensor")


def _from_statements(group: Group, described: Described, stated: StatedScales) -> Scale:
    config = stated.config_for(group.name)
    from_header = config is not stated.config
    module = _bare_module(group.name, from_header)
    # A configuration's alpha is LoRA's: what has no delta without the base has a formula of its own.
    pair = configured_scale(config, module, described.divisor) if config and described.opaque is None else None
    if pair is not None:
        return Scale(*pair, "header" if from_header else "config")
    if stated.header_alpha is not None and described.divisor:
        alpha = stated.header_alpha
        if stated.is_gguf and alpha == 0:  # llama.cpp: alpha 0 means no scaling
            return Scale(alpha, 1.0, "header")
        return Scale(alpha, alpha / described.divisor, "header")
    return Scale(None, 1.0, "default" if described.opaque is None else "none")


def _bare_module(name: str, from_header: bool) -> str:
    """The module's name as the configuration's patterns spell it."""
    return name.partition(".")[2] if from_header else name.removeprefix(PEFT_PREFIX)


def depends_on_name(config: Mapping[str, Any]) -> bool:
    """Whether modules have ranks or alphas of their own in the configuration."""
    return bool(config.get("rank_pattern") or config.get("alpha_pattern"))


def rank_conflict(group: Group, described: Described, stated: StatedScales) -> Finding | None:
    """A configured rank that is not the stored one: PEFT would refuse the file, others would scale wrongly."""
    config = stated.config_for(group.name)
    if described.rank is None or described.kind not in ("lora", "loha") or stated.is_mlx or not config:
        return None
    wanted = configured_rank(config, _bare_module(group.name, config is not stated.config))
    if wanted is None or wanted == described.rank:
        return None
    message = f"{group.name}: the configuration says rank {wanted:g}, the tensors have rank {described.rank}"
    return Finding("warning", "rank-conflict", message, group.name)
