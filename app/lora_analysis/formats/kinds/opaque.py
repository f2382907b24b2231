"""Updates that act on the base weight itself: recognised, described as far as the file goes, never guessed.

Formulas are in ``docs/formats.md``. Each of these needs the base weight (or a random projection that is not
in the file) before there is a delta, so the layer carries the reason and passes through every write.
"""

from __future__ import annotations

from functools import partial
from math import prod

from ...adapter import Opaque
from ...errors import ShapeError
from .group import Described, Group, Kind, Outline


def _opaque(kind: str, reason: str, rank: int | None = None, outline: Outline | None = None) -> Described:
    return Described(kind, None, partial(_load, reason), rank=rank, divisor=rank, opaque=reason, outline=outline)


def _load(reason: str, _group: Group, _scale: float) -> Opaque:
    return Opaque(reason)


# -- GLoRA: Chavan et al., arXiv 2306.07967 ---------------------------------------------------------------


def _describe_glora(group: Group) -> Described:
    """``delta = s * (W0 @ a1 @ a2 + b1 @ b2)``; an older orientation stores every pair the other way round."""
    a1, b1, b2 = (group.matrix_shape(role) for role in ("ga_1", "gb_1", "gb_2"))
    if b1[1] == b2[0]:  # b1 (out, rank), b2 (rank, in)
        rank, outline = b1[1], (b1[0], b2[1], ())
    elif b2[1] == b1[0]:  # older: b1 (rank, in), b2 (out, rank)
        rank, outline = b1[0], (b2[0], b1[1], ())
    else:
        raise ShapeError(f"{group.name}: b1 {list(b1)} and b2 {list(b2)} cannot be multiplied")
    if rank not in a1:
        raise ShapeError(f"{group.name}: a1 {list(a1)} does not have the rank {rank} of b1 and b2")
    return _opaque("glora", "GLoRA multiplies the base weight", rank, outline)


GLORA = Kind(
    "glora",
    {f".{part}.weight": role for part, role in
     {"a1": "ga_1", "a2": "ga_2", "b1": "gb_1", "b2": "gb_2", "bm": "gb_m"}.items()},
    frozenset({"ga_1", "ga_2", "gb_1", "gb_2"}),
    _describe_glora,
)  # fmt: skip


# -- IA3: Liu et al., arXiv 2205.05638 --------------------------------------------------------------------


def _describe_ia3(group: Group) -> Described:
    role = "ia3_weight" if "ia3_weight" in group.keys else "ia3_l"
    shape = group.shape(role)
    size = prod(shape)
    on_input = (len(shape) > 1 and shape[0] == 1 and size > 1) or _flag(group)
    outline: Outline = (None, size, ()) if on_input else (size, None, ())
    return _opaque("ia3", "IA3 multiplies the base weight", outline=outline)


def _flag(group: Group) -> bool:
    return "on_input" in group.keys and group.source.scalar(group.keys["on_input"]) != 0


IA3 = Kind(
    "ia3", {".ia3_l": "ia3_l", ".on_input": "on_input"}, frozenset({"ia3_l", "ia3_weight", "on_input"}), _describe_ia3
)


# -- OFT and BOFT: Qiu et al., arXiv 2306.07280; Liu et al., arXiv 2311.06243 ------------------------------


def _describe_oft(group: Group) -> Described:
    role = next(role for role in ("oft_blocks", "oft_R", "oft_blocks.0") if role in group.keys)
    shape = group.shape(role)
    if role == "oft_R":  # PEFT: skew-symmetric entries per block, rotating the input side
        return _opaque("oft", "OFT rotates the base weight", outline=_oft_input(shape))
    if len(shape) == 4:
        return _opaque("boft", "BOFT rotates the base weight", outline=(shape[1] * shape[2], None, ()))
    blocks, size = (shape[0], shape[-1]) if len(shape) >= 3 else (0, 0)
    return _opaque("oft", "OFT rotates the base weight", outline=(blocks * size or None, None, ()))


def _oft_input(shape: tuple[int, ...]) -> Outline | None:
    """``(blocks, b * (b - 1) / 2)`` entries, or ``(blocks, b, b)`` in older files: the input is blocks * b wide."""
    if len(shape) == 3:
        return (None, shape[0] * shape[2], ())
    if len(shape) != 2:
        return None
    size = round((1 + (1 + 8 * shape[1]) ** 0.5) / 2)
    return (None, shape[0] * size, ()) if size * (size - 1) // 2 == shape[1] and shape[0] > 1 else None


OFT = Kind(
    "oft",
    {
        ".oft_blocks": "oft_blocks",
        ".oft_diag": "oft_blocks",
        ".oft_R.weight": "oft_R",
        ".oft_R": "oft_R",
        ".oft_r": "oft_R",
        ".oft_s": "oft_s",
        ".rescale": "rescale",
        **{f".oft_blocks.{part}": f"oft_blocks.{part}" for part in range(8)},
    },
    frozenset({"oft_blocks", "oft_R", "oft_blocks.0"}),
    _describe_oft,
)


def _describe_boft(group: Group) -> Described:
    """PEFT: ``boft_R`` is (factors, in / b, b, b), ``boft_s`` (out, 1)."""
    out = group.shape("boft_s")[0] if "boft_s" in group.keys else None
    shape = group.shape("boft_R") if "boft_R" in group.keys else ()
    width = shape[1] * shape[2] if len(shape) == 4 else None
    return _opaque("boft", "BOFT rotates the base weight", outline=(out, width, ()))


BOFT = Kind("boft", {".boft_R": "boft_R", ".boft_s": "boft_s"}, frozenset({"boft_R", "boft_s"}), _describe_boft)


# -- methods of PEFT that share random projections or index tables ----------------------------------------


def _describe_vera(group: Group) -> Described:
    """Kopiczko et al., arXiv 2310.11454: ``diag(b) B diag(d) A`` with A and B shared, or only their seed kept."""
    out = group.shape("vera_b")[0] if "vera_b" in group.keys else None
    rank = group.shape("vera_d")[0] if "vera_d" in group.keys else None
    return _opaque("vera", "VeRA scales a projection shared by the whole model", rank, (out, None, ()))


VERA = Kind(
    "vera",
    {".vera_lambda_b": "vera_b", ".vera_lambda_d": "vera_d"},
    frozenset({"vera_b", "vera_d"}),
    _describe_vera,
)


def _describe_fourier(group: Group) -> Described:
    return _opaque("fourierft", "FourierFT places its spectrum by a random seed")


FOURIER = Kind("fourierft", {".fourierft_spectrum": "spectrum"}, frozenset({"spectrum"}), _describe_fourier)


# Parameter-name prefixes of further PEFT methods (PEFT 0.21 ``tuners/*``): named, so that a report can say what
# they are, and carried through.
PEFT_METHODS: dict[str, str] = {
    "vblora_": "vblora",
    "hra_u": "hra",
    "randlora_": "randlora",
    "shira_": "shira",
    "miss_block": "miss",
    "bone_block": "bone",
    "c3a_": "c3a",
    "poly_lora_": "poly",
    "road_": "road",
    "waveft_": "waveft",
    "delora_": "delora",
    "psoft_": "psoft",
    "ln_tuning_": "ln-tuning",
    "gralora_": "gralora",
    "osf_": "osf",
    "lora_diag": "kasa",
    "glora_": "glora",
    "hira_": "hira",
    "pvera_": "pvera",
    "tinylora_": "tinylora",
    "adamss_": "adamss",
    "deft_": "deft",
    "beft_": "beft",
    "supertuning_": "supertuning",
}


def peft_method(segment: str) -> str | None:
    """The PEFT method whose parameters are called ``segment``, or None."""
    return next((name for prefix, name in PEFT_METHODS.items() if segment.startswith(prefix)), None)


def _describe_other(group: Group) -> Described:
    role = next(role for role in group.keys if role.startswith("other:"))
    method = role.split(":")[1]
    return _opaque(method, f"{method} is not a factored delta this version can apply", outline=_other_outline(group))


def _other_outline(group: Group) -> Outline | None:
    """What the shapes of PEFT 0.21's parameters say about the base weight, for those that say anything."""
    shapes = {role.rpartition(":")[2]: group.shape(role) for role in group.keys if role.startswith("other:")}
    for name, shape in shapes.items():
        match name.removesuffix(".weight").partition(".")[0], shape:
            case "hra_u", (width, _):
                return (None, width, ())
            case "bone_block" | "miss_block", (_, out):  # with init "bat" it is (blocks, b, b)
                return (out, None, ())
            case "c3a_kernel", (outs, inputs, size):
                return (outs * size, inputs * size, ())
            case "delora_A", (_, width):
                ups = shapes.get(name.replace("_A", "_B"), ())
                return (ups[0] if ups else None, width, ())
    return None


OTHER = Kind("other", {}, frozenset({"other"}), _describe_other)
