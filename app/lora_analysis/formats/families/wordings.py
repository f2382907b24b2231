"""How headers spell base models: fragments of a text in lower case whose words are joined by single dashes.

``Flux.2-klein-4b/lora`` is read as ``-flux-2-klein-4b-lora-``. The first row whose fragments all occur wins, so a
name that contains another comes before it ("distilbert" before "bert").
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Wording(NamedTuple):
    family: str
    fragments: tuple[str, ...]
    variant: str | None = None


def _any(family: str, *fragments: str, variant: str | None = None) -> tuple[Wording, ...]:
    """One row per spelling."""
    return tuple(Wording(family, (fragment,), variant) for fragment in fragments)


# kohya's SD3 versions are bare words; as fragments they would match anything.
EXACT: Mapping[str, tuple[str, str | None]] = MappingProxyType(
    {
        "-medium-": ("sd3-medium", None),
        "-5-medium-": ("sd35-medium", None),
        "-5-large-": ("sd35-large", None),
        "-5-large-turbo-": ("sd35-large", "turbo"),
    }
)
# A source that names a group only: the families it may mean beside the one it is read as.
VAGUE: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "general.architecture": {"llama": ("mistral", "mixtral", "granite")},  # llama.cpp runs them as llama
        "ss_network_module": {
            "flux1": ("chroma",),
            "sd3-medium": ("sd35-medium", "sd35-large"),
            "hunyuan-video": ("framepack",),
        },
        "ss_v2": {"sd15": ("sdxl",)},
    }
)

_IMAGE: tuple[Wording, ...] = (
    *_any("chroma", "-chroma-radiance", variant="radiance"),
    *_any("chroma", "-chroma"),
    *_any("krea2", "-krea-2-", "-krea2-"),
    Wording("flux2", ("flux-2", "klein-4b"), "klein-4b"),
    Wording("flux2", ("flux-2", "klein-9b"), "klein-9b"),
    Wording("flux2", ("flux2", "klein-4b"), "klein-4b"),
    Wording("flux2", ("flux2", "klein-9b"), "klein-9b"),
    *_any("flux2", "flux-klein-4b", variant="klein-4b"),
    *_any("flux2", "flux-klein-9b", variant="klein-9b"),
    *_any("flux2", "flux-2-dev", "flux2-dev", variant="dev"),
    *_any("flux2", "flux-2-", "flux2", "flux-klein"),
    Wording("flux1", ("flux", "kontext"), "kontext"),
    Wording("flux1", ("flux", "schnell"), "schnell"),
    Wording("flux1", ("flux", "fill"), "fill"),
    *_any("flux1", "flux-1-dev", "flux1-dev", variant="dev"),
    *_any("flux1", "flux"),
    *_any("framepack", "framepack"),
    *_any("hunyuan-video", "hunyuan-video-1-5", "hunyuanvideo-1-5", variant="1.5"),
    *_any("hunyuan-video", "hunyuan-video", "hunyuanvideo", "-hv-train"),
    *_any("hunyuan-image", "hunyuan-image", "hunyuanimage"),
    *_any("hunyuan-dit", "hunyuan-dit", "hunyuandit"),
    *_any("qwen-image", "qwen-image-edit", variant="edit"),
    *_any("qwen-image", "qwen-image-layered", variant="layered"),
    *_any("qwen-image", "qwen-image", "qwenimage"),
    *(
        Wording("wan", (spelling, size), variant)
        for spelling in ("-wan-", "-wan2")
        for size, variant in (
            ("i2v-a14b", "14B i2v"),
            ("i2v-14b", "14B i2v"),
            ("14b", "14B"),
            ("1-3b", "1.3B"),
            ("5b", "5B"),
        )
    ),
    *_any("wan", "-wan-", "-wan2"),
    *_any("z-image", "z-image", "zimage"),
    *_any("lumina2", "lumina"),
    *_any("hidream", "hidream-o1", variant="o1"),
    *_any("hidream", "hidream-i1", variant="i1"),
    *_any("hidream", "hidream"),
    *_any("ideogram4", "ideogram"),
    *_any("kandinsky5", "kandinsky-5", "kandinsky5"),
    *_any("omnigen2", "omnigen2", "omnigen-2"),
    *_any("ltx2", "-ltx-2-", "-ltx2-", "-ltxv2-"),
    *_any("ltx-video", "-ltx-", "-ltxv"),
    *_any("cogvideox", "cogvideo"),
    *_any("mochi", "-mochi"),
    *_any("minimax-h3", "minimax-h3"),
    *_any("f-lite", "-f-lite-"),
    *_any("cosmos", "-cosmos-"),
    *_any("stable-audio", "stable-audio"),
    *_any("pixart", "pixart"),
    *_any("sana", "-sana-"),
    *_any("auraflow", "auraflow", "aura-flow"),
    *_any("anima", "-anima-"),
    *_any("kolors", "-kolors-"),
    *_any("stable-cascade", "stable-cascade", "stablecascade", "wuerstchen"),
    *_any("sd35-large", "stable-diffusion-3-5-large", "sd3-5-large", "sd35-large", "-sd35l-"),
    *_any("sd35-medium", "stable-diffusion-3-5-medium", "sd3-5-medium", "sd35-medium", "-sd35m-"),
    *_any("sd3-medium", "stable-diffusion-3", "-sd3"),
    Wording("sdxl-refiner", ("xl", "-refiner")),
    *_any("sdxl", "sdxl", "stable-diffusion-xl", "illustrious", "noobai", "animagine", "pony", "juggernautxl"),
    *_any("sd21", "-sd-v2-", "stable-diffusion-v2", "stable-diffusion-2-", "-sd-2-", "-sd2", "-sd21-"),
    *_any("sd15", "-sd-v1-", "stable-diffusion-v1", "stable-diffusion-1-", "-sd-1-", "-sd1", "v1-5-pruned"),
    *_any("sd15", "animatediff", variant="animatediff"),
)
_LANGUAGE: tuple[Wording, ...] = (
    Wording("qwen3", ("deepseek", "qwen3")),
    *_any("llama", "distill-llama"),
    *_any("qwen2", "distill-qwen"),
    *_any("llava", "llava"),
    *_any("qwen3-vl", "qwen3-vl", "qwen3vl"),
    *_any("qwen2-vl", "qwen2-vl", "qwen2-5-vl", "qwen2vl", "qwen-2-5-vl"),
    *(Wording("qwen3-moe", ("qwen3", size)) for size in ("a3b", "a22b", "a35b", "moe", "-next-")),
    *_any("qwen3", "qwen3", "qwen-3-"),
    *_any("qwen2-moe", "qwen1-5-moe", "qwen2-57b", "qwen2moe", "qwen2-moe"),
    *_any("qwen2", "qwen2", "qwen1-5", "qwen-2", "qwq", "-codeqwen"),
    *_any("qwen", "-qwen"),
    *_any("paligemma", "paligemma"),
    *_any("gemma3", "gemma-3", "gemma3"),
    *_any("gemma2", "gemma-2-", "gemma2"),
    *_any("gemma", "gemma"),
    *_any("mixtral", "mixtral"),
    *_any("llama4", "llama-4-", "llama4"),
    *_any("mistral", "mistral", "zephyr", "ministral", "-devstral", "-codestral"),
    *_any("llama", "llama", "vicuna", "alpaca", "guanaco", "smollm", "-yi-", "-solar-", "falcon3"),
    Wording("llama", ("deepseek-llm",)),
    *(Wording("llama", ("deepseek-coder", size)) for size in ("-1-3b-", "-5-7b", "-6-7b-", "-33b-")),
    *_any("deepseek", "deepseek"),
    *_any("phi3", "-phi-3", "-phi3", "-phi-4", "-phi4"),
    *_any("phi2", "-phi-1", "-phi-2", "-phi2", "-phi-msft-", "-phiforcausallm"),
    *_any("falcon", "falcon"),
    *_any("bloom", "bloom"),
    *_any("gpt-oss", "gpt-oss", "gptoss"),
    *_any("gpt-neox", "gpt-neox", "gptneox", "pythia", "-dolly-", "redpajama-incite"),
    *_any("gpt-neo", "gpt-neo", "gptneo"),
    *_any("gptj", "gpt-j", "gptj"),
    *_any("gpt2", "gpt2", "gpt-2-"),
    *_any("codegen", "codegen"),
    *_any("opt", "-opt-", "-optfor"),
    *_any("mpt", "-mpt-", "-mptfor"),
    *_any("mamba", "mamba"),
    *_any("cohere", "command-r", "c4ai", "cohere", "-aya-"),
    *_any("starcoder2", "starcoder2", "starcoder-2"),
    *_any("starcoder", "starcoder", "santacoder", "gpt-bigcode", "gptbigcode"),
    *_any("granite", "granite"),
    *_any("olmoe", "olmoe"),
    *_any("olmo", "olmo"),
    *_any("stablelm", "stablelm"),
    *_any("internlm2", "internlm"),
    *_any("glm4", "glm-4", "glm4"),
    *_any("chatglm", "chatglm"),
    *_any("baichuan", "baichuan"),
)
_ENCODERS: tuple[Wording, ...] = (
    *_any("distilbert", "distilbert"),
    *_any("modernbert", "modernbert"),
    *_any("albert", "-albert"),
    *_any("deberta", "deberta"),
    *_any("roberta", "roberta", "camembert"),
    *_any("electra", "electra"),
    *_any("hubert", "hubert"),
    *_any("wavlm", "wavlm"),
    *_any("wav2vec2", "wav2vec2", "-xls-r-"),
    *_any("whisper", "whisper"),
    *_any("mbart", "mbart"),
    *_any("bart", "-bart", "-distilbart"),
    *_any("m2m100", "m2m100", "-nllb"),
    *_any("marian", "opus-mt", "marian"),
    *_any("pegasus", "pegasus"),
    *_any("t5", "-t5-", "t5-small", "t5-base", "t5-large", "-t5for", "-mt5", "-byt5", "-codet5"),
    *_any("blip", "-blip"),
    *_any("siglip", "siglip"),
    *_any("clip", "-clip"),
    *_any("dinov2", "dinov2"),
    *_any("deit", "-deit"),
    *_any("beit", "-beit"),
    *_any("swin", "-swin"),
    *_any("sam", "-sam-"),
    *_any("vit", "-vit-", "-vitfor", "-vitmodel"),
    *_any("bert", "bert"),
)
# Image names first: "qwen-image" before "qwen". Languages before encoders: no encoder's name is inside another's.
WORDINGS: tuple[Wording, ...] = (*_IMAGE, *_LANGUAGE, *_ENCODERS)
