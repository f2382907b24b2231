"""The text encoders beside an image model, and files that hold nothing else."""

from __future__ import annotations

from .llm import decoder_of
from .structure import Part, Structure
from .verdict import Rule, Verdict

_CLIP_LAYERS = "text_model_encoder_layers_N_"
_SQUARE = ("_q_proj", "_k_proj", "_v_proj", "_out_proj", "_to_q", "_to_k", "_to_v", "_to_out")
_CLIP_WIDTHS = frozenset({768, 1024, 1280})
_BESIDE = {"qwen3": "anima", "gemma2": "lumina2"}  # language models used as a text encoder


def clip_widths(encoders: Part) -> set[int]:
    """Hidden sizes of the CLIP text encoders: 768 (L), 1024 (OpenCLIP H), 1280 (OpenCLIP bigG)."""
    if encoders.has("\nN\n"):  # cloneofsimo numbers the modules
        return encoders.inps("N") & _CLIP_WIDTHS
    if not encoders.has(_CLIP_LAYERS):
        return set()
    # Output widths too: OFT and BOFT store no input width; IA3 stores one only.
    return (encoders.inps(*_SQUARE, "_fc1") | encoders.outs(*_SQUARE)) & _CLIP_WIDTHS


def alone(structure: Structure) -> Verdict | None:
    """A file of text encoders: which ones there are, and what they are called."""
    if structure or not structure.encoders:
        return None
    widths = clip_widths(structure.encoders)
    has_t5 = structure.encoders.has("_SelfAttention_", "_DenseReluDense_")
    return _of_clip(structure, widths, has_t5=has_t5) or _of_language_model(structure.encoders)


def _of_clip(structure: Structure, widths: set[int], *, has_t5: bool) -> Verdict | None:
    seen = f"text encoders alone: CLIP {' and '.join(map(str, sorted(widths)))} wide{', T5' if has_t5 else ''}"
    if 1280 in widths or "text_encoder_2" in structure.towers:
        if has_t5:
            return Verdict("sd3-medium", seen, rivals=("sd35-medium", "sd35-large"))
        return Verdict("sdxl", seen, rivals=() if 1280 in widths else ("flux1",))
    if 1024 in widths:
        return Verdict("sd21", seen)
    if has_t5:
        return Verdict("flux1", seen, rivals=("sd3-medium", "sd35-medium", "sd35-large", "pixart", "chroma"))
    if 768 not in widths:
        return None
    if "te1" in structure.towers:  # numbered: there is a second one somewhere
        return Verdict("sdxl", seen, rivals=("flux1", "sd3-medium", "sd35-medium", "sd35-large"))
    is_kohya = "te" in structure.towers
    return Verdict("sd15", seen, rivals=() if is_kohya else ("sdxl", "flux1", "sd3-medium"))


def _of_language_model(encoders: Part) -> Verdict | None:
    verdict = decoder_of(encoders)
    family = _BESIDE.get(verdict.family) if verdict else None
    if verdict is None or family is None:
        return None
    return Verdict(family, f"a text encoder alone: {verdict.evidence}", rivals=(verdict.family,))


def bundled(structure: Structure) -> Verdict | None:
    """OneTrainer bundles embeddings per text encoder: ``bundle_emb.<token>.clip_g``."""
    if structure.has("bundle_emb_") and structure.has("_clip_g\n"):
        return Verdict("sdxl", "a bundled embedding for clip_g", rivals=("sd3-medium", "sd35-medium", "sd35-large"))
    return None


RULES: tuple[Rule, ...] = (alone, bundled)
