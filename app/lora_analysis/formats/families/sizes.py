"""Published sizes of language models: families share module names, widths and layer counts tell them apart.

Numbers are those of each model's public ``config.json``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .verdict import Verdict

Widths = Mapping[str, set[int]]  # "hidden", "q", "kv", "ffn" -> what the file's modules show


class Size(NamedTuple):
    """One published model."""

    family: str
    variant: str
    hidden: int
    q: int  # attention heads * head size
    kv: int  # key-value heads * head size
    ffn: int
    layers: int

    def fits(self, widths: Widths) -> bool:
        """Every kind of width the file shows includes this model's."""
        return all(not seen or getattr(self, role) in seen for role, seen in widths.items())


# Likeliest first among those of equal shape: the first one is the guess when nothing else decides.
DECODERS: tuple[Size, ...] = (
    Size("llama", "llama-3-8b", 4096, 4096, 1024, 14336, 32),
    Size("llama", "llama-2-7b", 4096, 4096, 4096, 11008, 32),
    Size("llama", "llama-2-13b", 5120, 5120, 5120, 13824, 40),
    Size("llama", "llama-33b", 6656, 6656, 6656, 17920, 60),
    Size("llama", "llama-65b", 8192, 8192, 8192, 22016, 80),
    Size("llama", "llama-3-70b", 8192, 8192, 1024, 28672, 80),
    Size("llama", "llama-3.2-1b", 2048, 2048, 512, 8192, 16),
    Size("llama", "llama-3.2-3b", 3072, 3072, 1024, 8192, 28),
    Size("llama", "llama-3.1-405b", 16384, 16384, 1024, 53248, 126),
    Size("llama", "tinyllama-1.1b", 2048, 2048, 256, 5632, 22),
    Size("llama", "codellama-34b", 8192, 8192, 1024, 22016, 48),
    Size("llama", "smollm2-135m", 576, 576, 192, 1536, 30),
    Size("llama", "smollm2-360m", 960, 960, 320, 2560, 32),
    Size("llama", "smollm2-1.7b", 2048, 2048, 2048, 8192, 24),
    Size("llama", "yi-6b", 4096, 4096, 512, 11008, 32),
    Size("llama", "yi-34b", 7168, 7168, 1024, 20480, 60),
    Size("llama", "solar-10.7b", 4096, 4096, 1024, 14336, 48),
    Size("llama", "deepseek-llm-7b", 4096, 4096, 4096, 11008, 30),
    Size("llama", "deepseek-coder-1.3b", 2048, 2048, 2048, 5504, 24),
    Size("llama", "deepseek-coder-33b", 7168, 7168, 1024, 19200, 62),
    Size("mistral", "mistral-7b", 4096, 4096, 1024, 14336, 32),
    Size("mistral", "mistral-nemo-12b", 5120, 4096, 1024, 14336, 40),
    Size("mistral", "mistral-small-22b", 6144, 6144, 1024, 16384, 56),
    Size("mistral", "mistral-small-24b", 5120, 4096, 1024, 32768, 40),
    Size("mistral", "mistral-large-123b", 12288, 12288, 1024, 28672, 88),
    Size("qwen2", "qwen2.5-0.5b", 896, 896, 128, 4864, 24),
    Size("qwen2", "qwen2.5-1.5b", 1536, 1536, 256, 8960, 28),
    Size("qwen2", "qwen2.5-3b", 2048, 2048, 256, 11008, 36),
    Size("qwen2", "qwen2.5-7b", 3584, 3584, 512, 18944, 28),
    Size("qwen2", "qwen2.5-14b", 5120, 5120, 1024, 13824, 48),
    Size("qwen2", "qwen2.5-32b", 5120, 5120, 1024, 27648, 64),
    Size("qwen2", "qwen2.5-72b", 8192, 8192, 1024, 29568, 80),
    Size("qwen2", "qwen1.5-0.5b", 1024, 1024, 1024, 2816, 24),
    Size("qwen2", "qwen1.5-1.8b", 2048, 2048, 2048, 5504, 24),
    Size("qwen2", "qwen1.5-4b", 2560, 2560, 2560, 6912, 40),
    Size("qwen2", "qwen1.5-7b", 4096, 4096, 4096, 11008, 32),
    Size("qwen2", "qwen1.5-14b", 5120, 5120, 5120, 13696, 40),
    Size("qwen2", "qwen1.5-32b", 5120, 5120, 1024, 27392, 64),
    Size("qwen3", "qwen3-0.6b", 1024, 2048, 1024, 3072, 28),
    Size("qwen3", "qwen3-1.7b", 2048, 2048, 1024, 6144, 28),
    Size("qwen3", "qwen3-4b", 2560, 4096, 1024, 9728, 36),
    Size("qwen3", "qwen3-8b", 4096, 4096, 1024, 12288, 36),
    Size("qwen3", "qwen3-14b", 5120, 5120, 1024, 17408, 40),
    Size("qwen3", "qwen3-32b", 5120, 8192, 1024, 25600, 64),
    Size("mistral", "ministral-8b", 4096, 4096, 1024, 12288, 36),
    Size("gemma", "gemma-2b", 2048, 2048, 256, 16384, 18),
    Size("gemma", "gemma-7b", 3072, 4096, 4096, 24576, 28),
    Size("gemma2", "gemma-2-2b", 2304, 2048, 1024, 9216, 26),
    Size("gemma2", "gemma-2-9b", 3584, 4096, 2048, 14336, 42),
    Size("gemma2", "gemma-2-27b", 4608, 4096, 2048, 36864, 46),
    Size("gemma3", "gemma-3-270m", 640, 1024, 256, 2048, 18),
    Size("gemma3", "gemma-3-1b", 1152, 1024, 256, 6912, 26),
    Size("gemma3", "gemma-3-4b", 2560, 2048, 1024, 10240, 34),
    Size("gemma3", "gemma-3-12b", 3840, 4096, 2048, 15360, 48),
    Size("gemma3", "gemma-3-27b", 5376, 4096, 2048, 21504, 62),
    Size("phi2", "phi-1.5", 2048, 2048, 2048, 8192, 24),
    Size("phi2", "phi-2", 2560, 2560, 2560, 10240, 32),
    Size("granite", "granite-3-2b", 2048, 2048, 512, 8192, 40),
    Size("granite", "granite-3-8b", 4096, 4096, 1024, 12800, 40),
    Size("starcoder2", "starcoder2-3b", 3072, 3072, 256, 12288, 30),
    Size("starcoder2", "starcoder2-7b", 4608, 4608, 512, 18432, 32),
    Size("starcoder2", "starcoder2-15b", 6144, 6144, 512, 24576, 40),
    Size("cohere", "command-r-35b", 8192, 8192, 8192, 22528, 40),
    Size("cohere", "command-r-08-2024", 8192, 8192, 1024, 24576, 40),
    Size("cohere", "command-r-plus", 12288, 12288, 1024, 33792, 64),
    Size("cohere", "aya-8b", 4096, 4096, 1024, 14336, 32),
    Size("olmo", "olmo-1b", 2048, 2048, 2048, 8192, 16),
    Size("olmo", "olmo-7b", 4096, 4096, 4096, 11008, 32),
    Size("olmo", "olmo-2-13b", 5120, 5120, 5120, 13824, 40),
    Size("stablelm", "stablelm-2-1.6b", 2048, 2048, 2048, 5632, 24),
    Size("stablelm", "stablelm-3b", 2560, 2560, 2560, 6912, 32),
    Size("stablelm", "stablelm-2-12b", 5120, 5120, 1280, 13824, 40),
    Size("gpt-oss", "gpt-oss-20b", 2880, 4096, 512, 2880, 24),
    Size("gpt-oss", "gpt-oss-120b", 2880, 4096, 512, 2880, 36),
)
MIXTURES: tuple[Size, ...] = (  # ffn: of one expert
    Size("mixtral", "mixtral-8x7b", 4096, 4096, 1024, 14336, 32),
    Size("mixtral", "mixtral-8x22b", 6144, 6144, 1024, 16384, 56),
    Size("llama4", "llama-4", 5120, 5120, 1024, 8192, 48),
    Size("qwen3-moe", "qwen3-30b-a3b", 2048, 4096, 512, 768, 48),
    Size("qwen3-moe", "qwen3-235b-a22b", 4096, 8192, 512, 1536, 94),
    Size("qwen2-moe", "qwen1.5-moe-a2.7b", 2048, 2048, 2048, 1408, 24),
    Size("qwen2-moe", "qwen2-57b-a14b", 3584, 3584, 512, 2560, 28),
    Size("olmoe", "olmoe-1b-7b", 2048, 2048, 2048, 1024, 16),
)
SEQ2SEQ: tuple[Size, ...] = (
    Size("whisper", "whisper-tiny", 384, 384, 384, 1536, 4),
    Size("whisper", "whisper-base", 512, 512, 512, 2048, 6),
    Size("whisper", "whisper-small", 768, 768, 768, 3072, 12),
    Size("whisper", "whisper-medium", 1024, 1024, 1024, 4096, 24),
    Size("whisper", "whisper-large", 1280, 1280, 1280, 5120, 32),
    Size("bart", "bart-base", 768, 768, 768, 3072, 6),
    Size("bart", "bart-large", 1024, 1024, 1024, 4096, 12),
    Size("mbart", "mbart-large", 1024, 1024, 1024, 4096, 12),
    Size("m2m100", "m2m100-418m", 1024, 1024, 1024, 4096, 12),
    Size("m2m100", "nllb-1.3b", 1024, 1024, 1024, 8192, 24),
    Size("marian", "opus-mt", 512, 512, 512, 2048, 6),
    Size("pegasus", "pegasus-large", 1024, 1024, 1024, 4096, 16),
)


def closest(sizes: Sequence[Size], widths: Widths, depth: int) -> list[Size]:
    """The published models that fit, those with exactly as many layers alone where there are any.

    ``depth``: the number of layers the file reaches. A file may hold a few layers only, or an index that no base
    has, so the count prefers and does not exclude. Empty where the file shows no width at all.
    """
    if not any(widths.values()):
        return []
    fitting = [size for size in sizes if size.fits(widths)]
    exact = [size for size in fitting if size.layers == depth]
    return exact or [size for size in fitting if size.layers >= depth] or fitting


def verdict_of(sizes: Sequence[Size], what: str, widths: Widths, depth: int) -> Verdict | None:
    """The family of the models that fit; more than one are rivals. None where none fits."""
    models = closest(sizes, widths, depth)
    if not models:
        return None
    families = tuple(dict.fromkeys(model.family for model in models))
    shown = ", ".join(f"{role} {'/'.join(map(str, sorted(seen)))}" for role, seen in widths.items() if seen)
    variants = [model.variant for model in models if model.family == families[0]]
    variant = variants[0] if len(variants) == 1 else None
    return Verdict(families[0], f"{what}: {shown}, layers up to {depth - 1}", variant, families[1:])
