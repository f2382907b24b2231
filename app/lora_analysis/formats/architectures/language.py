"""Language models and other networks of transformers: one set of dotted names, those of the model itself.

The names stand for themselves. llama.cpp's are translated where a row of its factors is a row of the model's; for
Llama and its relatives the rows of q and k are in another order there (``convert_hf_to_gguf.py``, ``permute``).
"""

from __future__ import annotations

import re

from .table import Held

_PEFT = "base_model.model."
_GGUF_BLOCK = re.compile(r"blk\.(\d{1,6})\.(\w+)\Z")
_GGUF_PARTS = {
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_GGUF_UNPERMUTED = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj"}
_GGUF_ENDS = {"token_embd": "model.embed_tokens", "output": "lm_head"}
_PERMUTED = frozenset({"llama", "mistral", "mixtral", "granite", "olmo"})  # families whose q and k are reordered
# Not names of modules: numbered or flattened ones, and a second adapter's in one file.
_NO_NAME = re.compile(r"[:\s]|\A(?:lora|lycoris|oft)_")


def read(name: str, family: str) -> Held | None:
    """The module itself, without PEFT's prefix; None for names that are no dotted path."""
    name = name.removeprefix(_PEFT)
    if _NO_NAME.search(name):
        return None
    if name.startswith("blk.") or name in _GGUF_ENDS:
        module = _from_gguf(name, family)
        return Held(name, (module,), (1,)) if module else None
    return Held(name, (name,), (1,))


def _from_gguf(name: str, family: str) -> str | None:
    if name in _GGUF_ENDS:
        return _GGUF_ENDS[name]
    block = _GGUF_BLOCK.match(name)
    if block is None:
        return None
    parts = _GGUF_PARTS if family in _PERMUTED else _GGUF_PARTS | _GGUF_UNPERMUTED
    part = parts.get(block[2])
    return f"model.layers.{block[1]}.{part}" if part else None


def spell(module: str, dialect: str) -> Held | None:
    """PEFT's name, or the model's own; no other dialect has names for language models."""
    if dialect == "peft":
        return Held(_PEFT + module, (module,), (1,))
    return Held(module, (module,), (1,)) if dialect == "native" else None
