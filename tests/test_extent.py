"""Layers of blocks that the base model does not have are reported, and kept."""

from __future__ import annotations

import numpy as np
import pytest

from layouts import index, load, needs_shared
from lora_analysis.adapter import Adapter
from lora_analysis.formats.opening import adapt
from sources import ShapeSource, adapter_of

CODE = "block-outside-base"
# Name with the block's number open, in-width, out-width, and the numbers of the last block there is.
CASES = [
    ("lora_unet_double_blocks_{}_img_mod_lin", 3072, 18432, 18),
    ("transformer.single_transformer_blocks.{}.norm.linear", 3072, 9216, 37),
    ("diffusion_model.double_blocks.{}.img_attn.proj", 6144, 6144, 7),
    ("diffusion_model.blocks.{}.ffn.0", 5120, 13824, 39),
    ("blocks.{}.ffn.0", 1536, 8960, 29),
    ("transformer_blocks.{}.img_mlp.net.0.proj", 3072, 12288, 59),
    ("lora_unet_layers_{}_attention_qkv", 3840, 11520, 29),
    ("lora_unet_joint_blocks_{}_x_block_attn_qkv", 2432, 7296, 37),
]


def opened(names: list[str], width: int, out: int) -> Adapter:
    arrays = {}
    for name in names:
        arrays[f"{name}.lora_down.weight"] = np.broadcast_to(np.float16(1), (2, width))
        arrays[f"{name}.lora_up.weight"] = np.broadcast_to(np.float16(1), (out, 2))
    return adapter_of(arrays)


@pytest.mark.parametrize(("name", "width", "out", "last"), CASES, ids=[case[0] for case in CASES])
def test_a_block_too_many_is_named(name: str, width: int, out: int, last: int) -> None:
    fine = opened([name.format(0), name.format(last)], width, out)
    assert CODE not in [finding.code for finding in fine.findings], fine.base_model
    outside = name.format(last + 3)  # one more than FLUX.1's is HunyuanVideo
    adapter = opened([name.format(0), name.format(last), outside], width, out)
    [finding] = [finding for finding in adapter.findings if finding.code == CODE]
    assert (finding.severity, finding.layer) == ("warning", outside)
    assert finding.message.startswith("1 of the modules")
    assert f"it has {last + 1} " in finding.message
    assert outside in adapter.layers


def test_a_text_encoder_has_blocks_of_its_own() -> None:
    names = [f"lora_unet_layers_{number}_attention_qkv" for number in (0, 29)]
    image = opened(names, 3840, 11520)
    assert image.base_model.family == "z-image"
    arrays = {key: image.source.array(key) for key in image.source.tensors}
    encoder = "lora_te_layers_35_self_attn_q_proj"
    arrays |= {f"{encoder}.lora_down.weight": np.ones((2, 64)), f"{encoder}.lora_up.weight": np.ones((64, 2))}
    adapter = adapter_of(arrays)
    assert adapter.base_model.family == "z-image"
    assert CODE not in [finding.code for finding in adapter.findings]


@needs_shared
def test_no_real_file_is_suspected() -> None:
    for entry in index():
        if entry["file"].endswith(".gz"):
            continue  # the largest ones, of models without a count
        layout = load(entry["file"])
        tensors = {key: (info["dtype"], tuple(info["shape"])) for key, info in layout["tensors"].items()}
        adapter = adapt(ShapeSource(tensors, layout.get("metadata")), layout.get("adapter_config"))
        assert CODE not in [finding.code for finding in adapter.findings], entry["file"]
