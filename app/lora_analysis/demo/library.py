"""The demo adapters, one small function each, and the writer that puts them into a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OutputError
from ..formats.digests import request_hashes
from ..formats.writer import TensorPlan, write_safetensors
from . import headers, layouts, weights

if TYPE_CHECKING:
    import numpy as np

    from .weights import Tensors

DTYPES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "int64": "I64"}  # numpy name -> safetensors name


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """What goes into one adapter: its tensors, its header, and for a folder its config."""

    tensors: Tensors
    header: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] | None = None
    keep_bytes: int | None = None  # cut the file here: a download that stopped


def sd15_kohya(rng: np.random.Generator) -> Recipe:
    """SD 1.5 with its text encoder, alpha half the rank."""
    layout = layouts.sd15_unet() | layouts.clip("lora_te", 768, range(12), mlp=False)
    header = headers.kohya(
        "watercolour", module="networks.lora", base="sd_v1", rank="4", alpha="2.0", resolution=512
    ) | headers.modelspec("Watercolour", "stable-diffusion-v1", 512)
    return Recipe(weights.lora(rng, layout, 4, alpha_per_rank=0.5), header)


def sdxl_kohya(rng: np.random.Generator) -> Recipe:
    """SDXL after a dynamic resize: every layer has its own rank, both text encoders take part."""
    blocks = [
        ("lora_unet_input_blocks_4_1", 640, 2),
        ("lora_unet_middle_block_1", 1280, 2),
        ("lora_unet_output_blocks_0_1", 1280, 2),
    ]
    layout = (
        layouts.sdxl_unet(blocks)
        | layouts.clip("lora_te1", 768, range(10, 12))
        | layouts.clip("lora_te2", 1280, range(30, 32), mlp=False)
    )
    ranks = {name: int(rng.choice([1, 2, 3, 4, 5, 6, 8], p=[0.1, 0.2, 0.25, 0.2, 0.1, 0.1, 0.05])) for name in layout}
    header = headers.kohya(
        "pepper",
        module="networks.lora",
        base="sdxl_base_v1-0",
        rank="Dynamic",
        alpha="Dynamic",
        resolution=1024,
        training_comment="Dynamic resize with sv_fro: 0.9 from 32; ",
    ) | headers.modelspec("Pepper the witch", "stable-diffusion-xl-v1-base", 1024)
    return Recipe(weights.lora(rng, layout, ranks, alpha_per_rank=0.5), header)


def sdxl_loha(rng: np.random.Generator) -> Recipe:
    """LyCORIS LoHa on the attention of two SDXL blocks."""
    layout = layouts.sdxl_unet([("lora_unet_input_blocks_4_1", 640, 2)], feed_forward=False)
    header = headers.kohya(
        "claymation",
        module="lycoris.kohya",
        base="sdxl_base_v1-0",
        rank="4",
        alpha="1.0",
        resolution=1024,
        network_args=json.dumps({"algo": "loha", "preset": "attn-only"}),
    )
    return Recipe(weights.loha(rng, layout, 4, 1.0), header)


def sdxl_lokr(rng: np.random.Generator) -> Recipe:
    """LyCORIS LoKr, factor 8, in the middle block of SDXL."""
    layout = layouts.sdxl_unet([("lora_unet_middle_block_1", 1280, 10)], feed_forward=False)
    header = headers.kohya(
        "inkwash",
        module="lycoris.kohya",
        base="sdxl_base_v1-0",
        rank="8",
        alpha="4.0",
        resolution=1024,
        network_args=json.dumps({"algo": "lokr", "factor": "8", "preset": "attn-only"}),
    )
    return Recipe(weights.lokr(rng, layout, 8, 8, 4.0), header)


def sd15_locon(rng: np.random.Generator) -> Recipe:
    """LyCORIS LoCon: Tucker cores on the 3x3 convolutions, linear layers beside them, trained norms."""
    linear = {name: shape for name, shape in layouts.sd15_unet().items() if "down_blocks_0" in name}
    convolutions = layouts.sd15_convolutions()
    tensors = weights.lora(rng, linear, 8, alpha_per_rank=0.5) | weights.tucker(rng, convolutions, 8, 4.0)
    tensors |= weights.norms(rng, {f"lora_unet_down_blocks_0_resnets_{index}_norm2": 320 for index in range(2)})
    header = headers.kohya(
        "raincoat",
        module="lycoris.kohya",
        base="sd_v1",
        rank="8",
        alpha="4.0",
        resolution=512,
        network_args=json.dumps(
            {"algo": "lora", "conv_dim": "8", "conv_alpha": "4", "use_tucker": "True", "train_norm": "True"}
        ),
    )
    return Recipe(tensors, header)


def sdxl_dora(rng: np.random.Generator) -> Recipe:
    """OneTrainer DoRA on SDXL, diffusers block names, norms over the input axis."""
    layout = layouts.sdxl_unet([("lora_unet_down_blocks_1_attentions_0", 640, 2)], feed_forward=False)
    tensors = weights.lora(rng, layout, 8, alpha_per_rank=0.125, dtype="bfloat16")
    tensors |= weights.magnitudes(rng, layout, "bfloat16")
    return Recipe(tensors, headers.onetrainer("Studio portrait", 8, 1.0))


def flux_diffusers(rng: np.random.Generator) -> Recipe:
    """FLUX.1 as diffusers saves it; alpha lives in the header only."""
    layout = layouts.flux_diffusers()
    tensors = weights.lora(rng, layout, 4, suffixes=("lora_A.weight", "lora_B.weight"), dtype="bfloat16")
    targets = sorted({name.split(".", 3)[3].removeprefix("attn.") for name in layout if ".attn." in name})
    return Recipe(tensors, headers.diffusers(4, 8, targets))


def flux_kohya(rng: np.random.Generator) -> Recipe:
    """FLUX.1 as kohya saves it: query, key and value fused."""
    header = headers.kohya(
        "lineart",
        module="networks.lora_flux",
        base="flux1",
        rank="4",
        alpha="1.0",
        resolution=1024,
        optimizer="prodigyopt.prodigy.Prodigy(decouple=True,weight_decay=0.01)",
        learning_rate="1.0",
        unet_lr="1.0",
    ) | headers.modelspec("Line art", "flux-1-dev", 1024)
    return Recipe(weights.lora(rng, layouts.flux_kohya(), 4, alpha_per_rank=0.25, dtype="bfloat16"), header)


def wan_comfyui(rng: np.random.Generator) -> Recipe:
    """Wan 2.1 video, trained with ai-toolkit: no alpha anywhere."""
    suffixes = ("lora_A.weight", "lora_B.weight")
    tensors = weights.lora(rng, layouts.wan(), 4, suffixes=suffixes, dtype="bfloat16")
    return Recipe(tensors, headers.ai_toolkit("slow_orbit", "wan_2.1", 3000, 60))


def qwen_diffsynth(rng: np.random.Generator) -> Recipe:
    """Qwen-Image from DiffSynth-Studio: the adapter's name inside the keys, no header at all."""
    suffixes = ("lora_A.default.weight", "lora_B.default.weight")
    return Recipe(weights.lora(rng, layouts.qwen_image(), 4, suffixes=suffixes, dtype="bfloat16"))


def llama_peft(rng: np.random.Generator) -> Recipe:
    """Llama 3.2 1B in a PEFT folder: rank pattern and rank-stabilised scale in the config."""
    projections = {"self_attn.q_proj": (2048, 2048), "self_attn.v_proj": (512, 2048)}
    layout = layouts.llama("base_model.model.model", range(16), projections)
    ranks = {name: 4 if name.endswith("v_proj") else 8 for name in layout}
    tensors = weights.lora(rng, layout, ranks, suffixes=("lora_A.weight", "lora_B.weight"), dtype="bfloat16")
    return Recipe(tensors, {"format": "pt"}, headers.peft_lora())


def qwen_mlx(rng: np.random.Generator) -> Recipe:
    """Qwen 2.5 0.5B from mlx-lm: both factors transposed, the last four layers only."""
    projections = {"self_attn.q_proj": (896, 896), "self_attn.v_proj": (128, 896)}
    layout = layouts.llama("model", range(20, 24), projections)
    tensors = weights.lora(rng, layout, 8, suffixes=("lora_a", "lora_b"), dtype="float32")
    transposed = {name: weights.cast(values.T, "float32") for name, values in tensors.items()}
    return Recipe(transposed, config=headers.mlx())


def llama_ia3(rng: np.random.Generator) -> Recipe:
    """(IA)^3 on TinyLlama: vectors that multiply the base weight, so there is no delta to show."""
    tensors: Tensors = {}
    for index in range(22):
        prefix = f"base_model.model.model.layers.{index}"
        shapes = {"self_attn.k_proj": (256, 1), "self_attn.v_proj": (256, 1), "mlp.down_proj": (1, 5632)}
        for name, shape in shapes.items():
            tensors[f"{prefix}.{name}.ia3_l"] = weights.cast(rng.normal(1.0, 0.02, shape), "float32")
    return Recipe(tensors, {"format": "pt"}, headers.peft_ia3())


def wrong_base(rng: np.random.Generator) -> Recipe:
    """SD 1.5 by every name and shape; the header says SDXL."""
    layout = {name: shape for name, shape in layouts.sd15_unet().items() if "up_blocks_1" in name}
    header = headers.kohya(
        "mislabelled", module="networks.lora", base="sdxl_base_v1-0", rank="4", alpha="4.0", resolution=1024
    )
    return Recipe(weights.lora(rng, layout, 4, alpha_per_rank=1.0), header)


def orphan_factor(rng: np.random.Generator) -> Recipe:
    """One layer lost its ``lora_up``: a conversion went wrong."""
    layout = layouts.clip("lora_te", 768, range(12), mlp=False)
    tensors = weights.lora(rng, layout, 4, alpha_per_rank=1.0)
    del tensors["lora_te_text_model_encoder_layers_7_self_attn_q_proj.lora_up.weight"]
    return Recipe(
        tensors, headers.kohya("orphan", module="networks.lora", base="sd_v1", rank="4", alpha="4.0", resolution=512)
    )


def damaged(rng: np.random.Generator) -> Recipe:
    """A download that stopped: the header promises more bytes than there are."""
    layout = layouts.clip("lora_te", 768, range(12), mlp=False)
    return Recipe(weights.lora(rng, layout, 4, alpha_per_rank=1.0), keep_bytes=200_000)


RECIPES: dict[str, Callable[[np.random.Generator], Recipe]] = {
    "sd15-style-kohya.safetensors": sd15_kohya,
    "sdxl-character-kohya.safetensors": sdxl_kohya,
    "sdxl-style-loha.safetensors": sdxl_loha,
    "sdxl-style-lokr.safetensors": sdxl_lokr,
    "sd15-clothing-locon.safetensors": sd15_locon,
    "sdxl-portrait-dora.safetensors": sdxl_dora,
    "flux-product-diffusers.safetensors": flux_diffusers,
    "flux-lineart-kohya.safetensors": flux_kohya,
    "wan-motion-comfyui.safetensors": wan_comfyui,
    "qwen-image-diffsynth.safetensors": qwen_diffsynth,
    "llama-chat-peft/adapter_model.safetensors": llama_peft,
    "llama-ia3-peft/adapter_model.safetensors": llama_ia3,
    "qwen-chat-mlx/adapters.safetensors": qwen_mlx,
    "trouble/damaged-download.safetensors": damaged,
    "trouble/orphan-factor.safetensors": orphan_factor,
    "trouble/wrong-base.safetensors": wrong_base,
}


def write_demo_library(folder: str | os.PathLike[str], *, seed: int = 0, overwrite: bool = False) -> list[Path]:
    """Write every demo adapter below ``folder``; the same seed gives the same bytes on the same machine.

    Returns: the adapters' paths in the order of :data:`RECIPES`; a PEFT or MLX folder stands for its files.
    Raises: OutputError where a file exists and ``overwrite`` is false, or where nothing can be written.
    """
    import numpy as np

    written = []
    for index, (name, recipe) in enumerate(RECIPES.items()):
        made = recipe(np.random.default_rng([seed, index]))
        target = Path(folder) / name
        _write(target, made, overwrite=overwrite)
        written.append(target.parent if made.config is not None else target)
    return written


def _write(target: Path, recipe: Recipe, *, overwrite: bool) -> None:
    config = target.parent / "adapter_config.json"
    plans = [TensorPlan(name, DTYPES[values.dtype.name], values.shape) for name, values in recipe.tensors.items()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        chunks = (values.tobytes() for values in recipe.tensors.values())
        header = request_hashes(recipe.header)
        write_safetensors(target, plans, chunks, header, overwrite=overwrite, with_hashes=False)
        if recipe.config is not None:
            config.write_text(json.dumps(recipe.config, indent=2) + "\n", encoding="utf-8")
        if recipe.keep_bytes is not None:
            os.truncate(target, recipe.keep_bytes)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{target}: {error.strerror or error}; nothing more of the library was written") from error
