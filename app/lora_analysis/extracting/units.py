"""What is extracted: every weight that both checkpoints hold, by the name its layer has in the target dialect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from ..adapter import FloatArray, TensorInfo
from ..baking.matching import targets_of
from ..errors import OptionError
from ..formats.architectures import OWN_NAMES, fused_in, is_known, is_pipeline, spelled_in
from ..formats.base_weights import module_of, shapes_of
from ..formats.checkpoint import Checkpoint
from ..formats.families import UNKNOWN, infer_base_model
from ..linalg.floats import Float64Array, widen
from .options import ExtractOptions

_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_EMBEDDINGS = ("embed_tokens", "token_embedding", "position_embedding", "wte", "wpe", "shared", "embeddings")
_COMPONENTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")
_CONV1D = ("c_attn", "c_proj", "c_fc")  # GPT-2 stores these as (in, out)


class Piece(NamedTuple):
    """Rows ``[start, stop)`` of a checkpoint's tensor, which are rows from ``to`` of the layer."""

    key: str
    start: int
    stop: int
    to: int


@dataclass(frozen=True, slots=True)
class Unit:
    """One layer of the result."""

    name: str
    pieces: tuple[Piece, ...]
    shape: tuple[int, ...]
    transposed: bool = False  # the checkpoints store it as (in, out)
    is_vector: bool = False  # a norm or a bias, kept whole

    @property
    def limit(self) -> int:
        """The largest rank the difference can have."""
        return min(self.shape[0], prod(self.shape[1:])) if len(self.shape) > 1 else 0

    def delta(self, tuned: Checkpoint, base: Checkpoint) -> Float64Array:
        """The difference as ``(out, in * k)`` in float64, or as a vector."""
        made = [self._piece(piece, tuned, base) for piece in self.pieces]
        if self.is_vector:
            return made[0]
        whole = made[0] if len(made) == 1 else np_concatenate(made)
        return whole.T if self.transposed else whole.reshape(self.shape[0], -1)

    def _piece(self, piece: Piece, tuned: Checkpoint, base: Checkpoint) -> Float64Array:
        new, old = (_rows(one.array(piece.key), piece) for one in (tuned, base))
        return widen(new) - widen(old)


def np_concatenate(parts: list[Float64Array]) -> Float64Array:
    import numpy as np

    return np.concatenate([part.reshape(part.shape[0], -1) for part in parts])


def _rows(array: FloatArray, piece: Piece) -> FloatArray:
    return array[piece.start : piece.stop] if array.ndim else array


class Found(NamedTuple):
    """What can be extracted, and what is left out with the reason."""

    family: str
    units: tuple[Unit, ...]
    skipped: Mapping[str, str]  # tensor -> reason


def find_units(tuned: Checkpoint, base: Checkpoint, options: ExtractOptions) -> Found:
    """Raises: OptionError where the base model is unknown, or the checkpoints have no weight in common."""
    mine, theirs = tuned.tensors, base.tensors
    family = _family(theirs, options)
    skipped = {key: f"only the {who} has it" for key, who in _only(mine, theirs)}
    common = {key: info for key, info in theirs.items() if key in mine}
    for key, info in common.items():
        reason = _why_not(info, mine[key])
        if reason:
            skipped[key] = reason
    usable = {key: info for key, info in common.items() if key not in skipped}
    units, unnamed = _matrices(usable, family, options)
    skipped |= unnamed
    if options.full_norms:
        units += _vectors(usable, family, options, skipped)
    if not units:
        raise OptionError(f"{tuned.path} and {base.path} have no weight in common that {options.to} has a name for")
    return Found(family, tuple(units), skipped)


def _only(mine: Mapping[str, TensorInfo], theirs: Mapping[str, TensorInfo]) -> list[tuple[str, str]]:
    return [(key, "tuned checkpoint") for key in mine if key not in theirs] + [
        (key, "base") for key in theirs if key not in mine
    ]


def _family(tensors: Mapping[str, TensorInfo], options: ExtractOptions) -> str:
    if options.family is not None:
        if not is_known(options.family):
            raise OptionError(f"{options.family}: no such base model")
        return options.family
    family = infer_base_model(shapes_of(tensors), {}).family
    if is_known(family):
        return family
    if options.to == "peft" and family == UNKNOWN:
        return OWN_NAMES
    raise OptionError(f"the base model is not recognised by its names ({family}); say --base-model")


def _why_not(old: TensorInfo, new: TensorInfo) -> str | None:
    if old.shape != new.shape:
        return f"the shapes differ: {list(old.shape)} and {list(new.shape)}"
    wrong = next((info.dtype for info in (old, new) if info.dtype not in _FLOATS), None)
    return f"stored as {wrong}, which is no plain float" if wrong else None


def _matrices(
    tensors: Mapping[str, TensorInfo], family: str, options: ExtractOptions
) -> tuple[list[Unit], dict[str, str]]:
    matrices = {key: info for key, info in tensors.items() if len(info.shape) > 1 and module_of(key)}
    targets = targets_of(matrices, family)
    chosen = _component(targets.rows, family, options)
    names: dict[str, tuple[str, ...]] = {}
    skipped: dict[str, str] = {}
    for module, place in targets.rows.items():
        reason = _why_no_layer(module, family, chosen)
        held = spelled_in(options.to, module, family) if reason is None else None
        if held is None:
            skipped[place.key] = reason or f"{options.to} has no name for {module}"
        else:
            names[held.name] = held.modules
    for key in matrices:
        if not any(place.key == key for place in targets.rows.values()) and key not in skipped:
            skipped[key] = f"the names of {family} hold no such module"
    units = []
    for name, modules in names.items():
        places = [targets.rows.get(module) for module in modules]
        present = [place for place in places if place is not None]
        if len(present) != len(modules):
            skipped |= {place.key: f"the other parts of {name} are not in the checkpoints" for place in present}
            continue
        shape = matrices[present[0].key].shape
        transposed = family == "gpt2" and modules[0].rpartition(".")[2] in _CONV1D
        pieces, to = [], 0
        for place in present:
            pieces.append(Piece(place.key, place.to, place.to + place.stop, to))
            to += place.stop
        size = (shape[1], shape[0]) if transposed else (to, *shape[1:])
        units.append(Unit(name, tuple(pieces), size, transposed))
    return units, skipped


def _component(rows: Mapping[str, object], family: str, options: ExtractOptions) -> str | None:
    """The one component of a PEFT folder, or the one asked for; None for all of them."""
    if options.component is not None or not is_pipeline(family):
        return options.component
    found = {module.partition(".")[0] for module in rows}
    return next((name for name in _COMPONENTS if name in found), None) if options.to == "peft" else None


def _why_no_layer(module: str, family: str, component: str | None) -> str | None:
    if component is not None and module.partition(".")[0] != component:
        return f"not part of {component}"
    if module.rpartition(".")[2] in _EMBEDDINGS or module.endswith(("scale_shift_table", "modulation")):
        return "an embedding or a table, which no linear layer multiplies"
    return None


def _vectors(
    tensors: Mapping[str, TensorInfo], family: str, options: ExtractOptions, skipped: dict[str, str]
) -> list[Unit]:
    """Norms' weights and all biases: ``.diff`` and ``.diff_b``."""
    units = []
    for key, info in tensors.items():
        if len(info.shape) != 1 or not key.endswith((".weight", ".bias")):
            continue
        held = fused_in(key.rpartition(".")[0], family)
        spelled = spelled_in(options.to, held.modules[0], family) if held else None
        if held is None or spelled is None or spelled.modules != held.modules:
            skipped[key] = f"{options.to} has no name for it"
            continue
        ending = ".diff" if key.endswith(".weight") else ".diff_b"
        units.append(Unit(spelled.name + ending, (Piece(key, 0, info.shape[0], 0),), info.shape, is_vector=True))
    return units
