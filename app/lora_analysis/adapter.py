"""The values everything else works on: an adapter, its layers, and the update each layer holds.

An adapter is a set of layers. Each layer is an update to one base weight, kept in the factored form
the file stores. Nothing here knows a path grammar, a header or a file format, and importing this
module does not load numpy: arrays come in from outside.

Shapes are written with ``out`` and ``in`` for the base weight's dimensions and ``k`` for the product
of its kernel dimensions (1 for a linear layer). A delta has the shape ``(out, in, *kernel)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

from .errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FloatArray: TypeAlias = "NDArray[Any]"  # quoted: this module does not load numpy
Severity = Literal["error", "warning", "info"]
ScaleOrigin = Literal["tensor", "header", "config", "default", "none"]
Axis = Literal["out", "in"]
EMPTY: Mapping[str, Any] = MappingProxyType({})


class TensorInfo(NamedTuple):
    """What a header says about one tensor. ``dtype`` uses the names of the safetensors specification."""

    dtype: str
    shape: tuple[int, ...]
    offset: int  # bytes from the start of the file that holds it
    nbytes: int


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a person should know about a file: ``code`` is stable, ``message`` is for reading."""

    severity: Severity
    code: str
    message: str
    layer: str | None = None

    def to_dict(self) -> dict[str, str | None]:
        return {"severity": self.severity, "code": self.code, "message": self.message, "layer": self.layer}


class TensorSource(Protocol):
    """An open file: names and shapes now, values when asked for."""

    @property
    def path(self) -> str: ...  # as given by the caller
    @property
    def container(self) -> str: ...  # "safetensors", "pytorch", ...
    @property
    def size(self) -> int: ...  # bytes on disk
    @property
    def tensors(self) -> Mapping[str, TensorInfo]: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...  # raw header metadata, {} where the container has none
    @property
    def findings(self) -> Sequence[Finding]: ...  # what was odd about the container

    def array(self, name: str) -> FloatArray:
        """The tensor in its stored dtype (bf16 and fp8 as ml_dtypes types), C order."""

    def raw(self, name: str) -> bytes:
        """The stored bytes of one tensor, little endian, C order."""

    def scalar(self, name: str) -> float:
        """The only value of a one-element tensor, without numpy."""

    def scalars(self, names: Sequence[str]) -> Mapping[str, float]:
        """:meth:`scalar` of many, which is much cheaper; those for which it would raise are left out."""

    def close(self) -> None: ...


# -- updates -----------------------------------------------------------------------------------------


# Kinds of layers whose update is a ``Vector``: differences of parameters that are no matrix.
VECTOR_KINDS = frozenset({"norm", "bias", "modulation"})


@dataclass(frozen=True, slots=True, eq=False)  # eq=False: arrays have no single truth value
class LowRank:
    """``delta = scale * up @ down``, reshaped to ``(out, in, *kernel)``.

    With a Tucker core the factors are 1x1 and the kernel lives in the core:
    ``delta[o, i, x] = scale * sum_mn up[o, m] * core[m, n, x] * down[n, i]``.
    """

    up: FloatArray  # (out, rank)             lora_up, lora_B
    down: FloatArray  # (rank, in * k)        lora_down, lora_A; (rank, in) with a core
    scale: float = 1.0  # alpha / rank; 1.0 where nothing states an alpha
    kernel: tuple[int, ...] = ()
    core: FloatArray | None = None  # (rank, rank, *kernel)    lora_mid

    def __post_init__(self) -> None:
        if self.up.ndim != 2 or self.down.ndim != 2:
            raise ShapeError(f"up is {self.up.ndim}-D and down is {self.down.ndim}-D; both must be matrices")
        if self.core is None:
            if self.up.shape[1] != self.down.shape[0]:
                raise ShapeError(f"up has rank {self.up.shape[1]}, down has rank {self.down.shape[0]}")
            if self.down.shape[1] % max(prod(self.kernel), 1):
                raise ShapeError(f"down has {self.down.shape[1]} columns, not a multiple of kernel {self.kernel}")
        elif self.core.shape != (self.up.shape[1], self.down.shape[0], *self.kernel):
            raise ShapeError(
                f"core is {self.core.shape}, up {self.up.shape} and down {self.down.shape} "
                f"need {(self.up.shape[1], self.down.shape[0], *self.kernel)}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the delta."""
        columns = self.down.shape[1]
        width = columns if self.core is not None else columns // max(prod(self.kernel), 1)
        return (self.up.shape[0], width, *self.kernel)

    @property
    def rank(self) -> int:
        """Stored rank: the number of columns of ``up``."""
        return int(self.up.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """The difference itself: ``delta = scale * values``."""

    values: FloatArray  # (out, in, *kernel)
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Hadamard:
    """LoHa: ``delta = scale * first * second``, element by element (Yeh et al., arXiv 2309.14859)."""

    first: LowRank
    second: LowRank
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.first.shape != self.second.shape:
            raise ShapeError(f"the factors make {self.first.shape} and {self.second.shape}; they must agree")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.first.shape


@dataclass(frozen=True, slots=True, eq=False)
class Kronecker:
    """LoKr: ``delta = scale * kron(first, second)``; a kernel belongs to ``second`` alone."""

    first: LowRank | Dense  # (out1, in1)
    second: LowRank | Dense  # (out2, in2, *kernel)
    scale: float = 1.0

    def __post_init__(self) -> None:
        if len(self.first.shape) != 2:
            raise ShapeError(f"the first Kronecker factor is {self.first.shape}; it must be a matrix")
        if len(self.second.shape) < 2:
            raise ShapeError(f"the second Kronecker factor is {self.second.shape}; it needs two dimensions")

    @property
    def shape(self) -> tuple[int, ...]:
        (out1, in1), (out2, in2, *kernel) = self.first.shape, self.second.shape
        return (out1 * out2, in1 * in2, *kernel)


@dataclass(frozen=True, slots=True, eq=False)
class Stacked:
    """One low-rank update per expert of a 3-D parameter: the delta is ``(experts, out, in)``."""

    parts: tuple[LowRank, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.parts), *self.parts[0].shape)


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """The difference of a bias, a norm weight or another parameter that is no matrix."""

    values: FloatArray
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)


@dataclass(frozen=True, slots=True)
class Opaque:
    """An update that is no delta without the base weight (OFT, IA3, GLoRA, ...): carried, never guessed."""

    reason: str


Update: TypeAlias = LowRank | Dense | Hadamard | Kronecker | Stacked | Vector | Opaque


@dataclass(frozen=True, slots=True, eq=False)
class Magnitude:
    """DoRA's trained norms: ``W = m * (W0 + delta) / norm(W0 + delta)`` (Liu et al., arXiv 2402.09353)."""

    values: FloatArray  # (out,) or (in,)
    axis: Axis  # whose norms they are: each output row or each input column


# -- layers and adapters -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)  # without slots: see varied()
class Layer:
    """One adapted module, as the header describes it. Arrays are read by the methods, and not kept."""

    name: str  # the module as the file spells it
    kind: str  # lora, loha, lokr, full, norm, bias, glora, ia3, oft, boft, vera, ...
    keys: Mapping[str, str]  # role -> tensor name
    shape: tuple[int, ...] | None  # of the delta; None where only the base weight knows
    rank: int | None = None  # stored rank; None where the kind has none
    alpha: float | None = None  # as stored or configured
    scale: float = 1.0  # what multiplies the factors' product
    scale_origin: ScaleOrigin = "none"
    component: str = "model"  # unet, transformer, text_encoder, text_encoder_2, model, ...
    magnitude_axis: Axis | None = None
    opaque: str | None = None  # why there is no delta, or None
    experts: int = 0  # matrices stacked in one parameter: the delta is (experts, out, in); 0 for an ordinary weight
    base_transposed: bool = False  # the base stores this weight as (in, out): transpose the delta to add it
    reshape: tuple[int, ...] | None = None  # the base is zero-padded to this shape first (control adapters)
    parameters: int = 0  # stored values, alpha not counted
    dtypes: tuple[str, ...] = ()
    load: Callable[[], Update] = field(repr=False, default=lambda: Opaque("nothing was loaded"))
    load_bias: Callable[[], Vector] | None = field(repr=False, default=None)
    load_magnitude: Callable[[], Magnitude] | None = field(repr=False, default=None)

    def update(self) -> Update:
        """The update to the weight, read now. Raises: ShapeError, NonFiniteError is left to the caller."""
        return self.load()

    def bias(self) -> Vector | None:
        """The difference of the module's bias, or None."""
        return self.load_bias() if self.load_bias else None

    def magnitude(self) -> Magnitude | None:
        """The DoRA norms, or None."""
        return self.load_magnitude() if self.load_magnitude else None

    def varied(self, **fields: Any) -> Layer:
        """A copy with other values in ``fields``.

        Opening makes a thousand layers that differ in a few fields; ``dataclasses.replace`` takes eight times as long.
        """
        made = object.__new__(Layer)
        values = vars(made)
        values.update(vars(self))
        values.update(fields)
        return made

    @property
    def is_conv(self) -> bool:
        """Whether the base weight has a kernel larger than one element."""
        return not self.experts and self.shape is not None and len(self.shape) > 2 and prod(self.shape[2:]) > 1


@dataclass(frozen=True, slots=True)
class Extra:
    """A tensor that is understood but is no update: carried through every write."""

    key: str
    category: str  # saved-module, embedding, replacement, prompt, shared-projection, marker, ...
    note: str


@dataclass(frozen=True, slots=True)
class BaseModel:
    """Which base model an adapter was made for, and who says so."""

    family: str  # one of formats.families.FAMILIES, or "unknown"
    from_keys: str | None  # what names and shapes say
    from_header: str | None  # what the metadata says
    evidence: str  # one sentence: the rule that decided
    variant: str | None = None  # "14B", "i2v", "llama-3-8b": a hint, never relied on

    @property
    def conflict(self) -> bool:
        """Keys and header name different families."""
        return None not in (self.from_keys, self.from_header) and self.from_keys != self.from_header

    def to_dict(self) -> dict[str, Any]:
        return {
            "family": self.family,
            "from_keys": self.from_keys,
            "from_header": self.from_header,
            "evidence": self.evidence,
            "variant": self.variant,
            "conflict": self.conflict,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """An opened adapter. Close it, or use it as a context manager, to release the file."""

    source: TensorSource
    dialect: str
    algorithm: str
    base_model: BaseModel
    layers: Mapping[str, Layer]
    extras: tuple[Extra, ...] = ()
    unrecognised_keys: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    config: Mapping[str, Any] | None = None  # adapter_config.json, where there is one

    @property
    def path(self) -> str:
        return self.source.path

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self.source.metadata

    @property
    def parameters(self) -> int:
        """Values stored in the file, whatever they are."""
        return sum([prod(shape) for _, shape, _, _ in self.source.tensors.values()])

    def close(self) -> None:
        self.source.close()

    def __enter__(self) -> Adapter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
