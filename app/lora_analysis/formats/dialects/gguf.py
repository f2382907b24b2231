"""llama.cpp adapters: GGUF containers with ``blk.N.attn_q.weight.lora_a``."""

from __future__ import annotations

from .view import Dialect

GGUF = Dialect("gguf", "llama.cpp GGUF", lambda view: view.container == "gguf" or view.any_key(".weight.lora_a"))
