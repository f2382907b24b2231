"""From tensor names to layers: every tensor ends in a layer, an extra, or the list of unrecognised names."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import isfinite, prod
from typing import NamedTuple

from ..adapter import Extra, Finding, Layer, TensorSource, Vector
from ..errors import LoraAnalysisError, MissingFactorError, ShapeError
from .components import component_of
from .dora import load_magnitude, magnitude_axis
from .dtypes import MAX_DIMENSIONS
from .extras import classify_extra
from .families import ModuleShape
from .keys import CONTROLNET_MARKER, KeyMap
from .kinds import Described, Group, Kind, is_told_by_form, kind_of
from .scale import SCALE_ROLES, Scale, StatedScales, depends_on_name, rank_conflict, resolve_scale


@dataclass(slots=True)
class Assembly:
    """What became of a file's tensors."""

    layers: dict[str, Layer] = field(default_factory=dict)
    extras: list[Extra] = field(default_factory=list)
    unrecognised: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    shapes: dict[str, ModuleShape] = field(default_factory=dict)  # of every module, broken ones too
    forms: dict[Hashable, Form] = field(default_factory=dict)

    def report(self, code: str, message: str, layer: str | None = None, *, error: bool = False) -> None:
        self.findings.append(Finding("error" if error else "warning", code, message, layer))


class Form(NamedTuple):
    """What is said once for all modules of the same roles, types, shapes and alpha: hundreds of them, a few forms."""

    described: Described
    scale: Scale
    layer: Layer  # of no module yet: its name, tensors and readers are still to come
    module_shape: ModuleShape
    bias_role: str | None
    is_remarkable: bool  # there is something to say about every one of them


def assemble(
    keys: KeyMap, source: TensorSource, stated: StatedScales, *, is_peft: bool, is_full: bool = False
) -> Assembly:
    """Build every layer. A module that cannot be read becomes a finding and its tensors extras; nothing is lost."""
    made = Assembly()
    scalars = source.scalars([roles[role] for roles in keys.modules.values() for role in SCALE_ROLES if role in roles])
    for name, roles in keys.modules.items():
        group = Group(name, roles, source, stated.config_for(name))
        _add_module(made, group, stated, scalars)
    for module, role, key in keys.duplicates:
        made.extras.append(Extra(key, "duplicate", f"a second {role} of {module}"))
        made.report("duplicate-role", f"{module} has two tensors for {role}; {key} is carried but not used", module)
    is_controlnet = CONTROLNET_MARKER in keys.rest
    for key in keys.rest:
        info = source.tensors[key]
        extra = classify_extra(key, info, is_peft=is_peft, is_controlnet=is_controlnet, is_full=is_full)
        if extra is None:
            made.unrecognised.append(key)
        else:
            made.extras.append(extra)
    return made


def _add_module(made: Assembly, group: Group, stated: StatedScales, scalars: Mapping[str, float]) -> None:
    try:
        form = _form_of(made, group, stated, scalars)
        if form is None:
            _carry_leftovers(made, group)
            return
        layer = _layer(group, form)
    except LoraAnalysisError as error:
        _carry_broken(made, group, error)
        return
    made.layers[group.name] = layer
    made.shapes[group.name] = form.module_shape
    if form.is_remarkable:
        made.findings.extend(_remarks(group, form.described, form.scale, stated))


def _layer(group: Group, form: Form) -> Layer:
    scale, role, axis = form.scale.scale, form.bias_role, form.layer.magnitude_axis
    layer = form.layer.varied(
        name=group.name,
        keys=group.keys,
        component=component_of(group.name),
        load=partial(form.described.load, group, scale),
    )
    if role is not None:  # PEFT's lora_bias is scaled like the product it belongs to
        layer = layer.varied(load_bias=partial(_load_bias, group, role, scale if role == "up_bias" else 1.0))
    if axis is not None:
        layer = layer.varied(load_magnitude=load_magnitude(group, axis))
    return layer.varied(reshape=_reshape(group)) if "reshape" in group.keys else layer


# -- what roles, types, shapes and alpha say -------------------------------------------------------------


def _form_of(made: Assembly, group: Group, stated: StatedScales, scalars: Mapping[str, float]) -> Form | None:
    """The module's form; None where it has accompanying roles only. Raises: LoraAnalysisError naming the module."""
    keys, tensors = group.keys, group.source.tensors
    # The configuration by identity: it is one of a few objects that live as long as the assembly.
    mark = (
        id(group.config),
        scalars.get(keys.get("alpha", "")),
        *keys,
        *[tensors[key][:2] for key in keys.values()],
    )
    form = made.forms.get(mark)
    if form is None:
        kind = kind_of(keys)
        if kind is None:
            return None
        form = _describe(kind, group, stated, scalars)
        if is_told_by_form(group) and not depends_on_name(group.config):
            made.forms[mark] = form
    return form


def _describe(kind: Kind, group: Group, stated: StatedScales, scalars: Mapping[str, float]) -> Form:
    described = kind.describe(group)
    scale = resolve_scale(group, described, stated, scalars)
    parameters, dtypes = _contents(group)
    layer = Layer(
        name="",
        kind=described.kind,
        keys={},
        shape=described.shape,
        rank=described.rank,
        alpha=scale.alpha,
        scale=scale.scale,
        scale_origin=scale.origin,
        magnitude_axis=magnitude_axis(group, described.shape),
        opaque=described.opaque or scale.problem,
        experts=described.experts,
        base_transposed=group.config.get("fan_in_fan_out") is True,
        parameters=parameters,
        dtypes=dtypes,
    )
    return Form(
        described,
        scale,
        layer,
        module_shape=_module_shape(described),
        bias_role=_bias_role(group, described),
        is_remarkable=any(_remarks(group, described, scale, stated)),
    )


def _contents(group: Group) -> tuple[int, tuple[str, ...]]:
    """Number of stored values and their types, alpha not counted."""
    tensors = group.source.tensors
    parameters = 0
    dtypes: dict[str, None] = {}
    for role, key in group.keys.items():
        if role != "alpha":
            info = tensors[key]
            parameters += prod(info.shape)
            dtypes[info.dtype] = None
    return parameters, tuple(dtypes)


def _bias_role(group: Group, described: Described) -> str | None:
    """The role of the difference of the module's bias, where it has one beside the weight's."""
    if group.has("up_bias"):
        return "up_bias"
    role = "bias" if group.has("bias") else "norm_bias"
    return role if group.has(role) and described.kind != "bias" else None


def _reshape(group: Group) -> tuple[int, ...]:
    """ComfyUI's ``.reshape_weight``: the base is zero-padded to this shape before the delta is added.

    Raises: ShapeError where it is no list of sizes.
    """
    info = group.info("reshape")
    if len(info.shape) != 1 or not 0 < info.shape[0] <= MAX_DIMENSIONS:
        raise ShapeError(
            f"{group.name}: reshape_weight has the shape {list(info.shape)}; expected a short list of sizes"
        )
    sizes = group.array("reshape").tolist()
    if not all(isinstance(size, (int, float)) and isfinite(size) and size >= 0 for size in sizes):
        raise ShapeError(f"{group.name}: reshape_weight holds {sizes}; expected sizes")
    return tuple(int(size) for size in sizes)


def _load_bias(group: Group, role: str, scale: float) -> Vector:
    return Vector(group.array(role), scale)


def _module_shape(described: Described) -> ModuleShape:
    if described.shape is not None and len(described.shape) >= 2:
        shape = described.shape[1:] if described.experts else described.shape
        return ModuleShape(shape[0], shape[1], tuple(shape[2:]))
    if described.shape is not None:
        return ModuleShape(described.shape[0] if described.shape else None, None, ())
    return ModuleShape(*(described.outline or (None, None, ())))


# -- what could not be used --------------------------------------------------------------------------


def _carry_broken(made: Assembly, group: Group, error: LoraAnalysisError) -> None:
    """An orphan half or factors that do not fit: say so, keep the tensors, go on with the next module."""
    code = {MissingFactorError: "orphan-factor", ShapeError: "shape-mismatch"}.get(type(error), error.code)
    made.report(code, error.message, group.name, error=code != "orphan-factor")
    made.extras.extend(Extra(key, "broken", f"{role}: {error.message}") for role, key in group.keys.items())
    made.shapes[group.name] = _outline_of_halves(group)


def _outline_of_halves(group: Group) -> ModuleShape:
    tensors = group.source.tensors
    down = tensors[group.keys["down"]].shape if "down" in group.keys else ()
    up = tensors[group.keys["up"]].shape if "up" in group.keys else ()
    return ModuleShape(up[0] if up else None, down[1] if len(down) > 1 else None, tuple(down[2:]))


def _carry_leftovers(made: Assembly, group: Group) -> None:
    """Only accompanying roles (an alpha without factors, a lone DoRA magnitude)."""
    for role, key in group.keys.items():
        made.extras.append(Extra(key, "broken", f"{role} without factors"))
        made.report("orphan-factor", f"{group.name}: {role} is present, the factors it belongs to are not", group.name)


# -- what a person should know about a usable module -----------------------------------------------------


def _remarks(group: Group, described: Described, scale: Scale, stated: StatedScales) -> Iterator[Finding]:
    name = group.name
    if described.rank == 0:
        yield Finding("error", "rank-zero", f"{name}: rank 0 holds no update; the rank must be positive", name)
    elif _is_oversized(group, described):
        message = f"{name}: rank {described.rank} is above what a delta of shape {list(described.shape or ())} can have"
        yield Finding("warning", "rank-over-size", message, name)
    if scale.problem:
        yield Finding("error", "alpha-not-finite", f"{name}: {scale.problem}", name)
    elif scale.alpha == 0 and described.opaque is None and described.divisor is not None:
        yield Finding("warning", "alpha-zero", f"{name}: alpha is 0, so loaders apply nothing of this layer", name)
    if group.has("sparse_values"):
        yield Finding(
            "warning", "sparse-residual", f"{name}: a sparse residual beside the factors is carried, not applied", name
        )
    conflict = rank_conflict(group, described, stated)
    if conflict:
        yield conflict


def _is_oversized(group: Group, described: Described) -> bool:
    """Plain factors whose rank exceeds the delta's: valid, and wasteful. A Tucker core or a product may need it."""
    if described.kind != "lora" or described.rank is None or described.shape is None or group.has("mid"):
        return False
    out, *columns = described.shape[1:] if described.experts else described.shape
    return described.rank > min(out, prod(columns))
