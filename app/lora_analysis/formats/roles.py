"""What a module does in its network, by its name: attention, MLP, convolution, ...; and which stage its block is of."""

from __future__ import annotations

import re

from ..adapter import Layer

ROLES = ("attention", "mlp", "conv", "norm", "embedding", "other")

# Words of module names, in both spellings, "attn1_to_q" and "attn1.to_q". The first line that matches decides: MLPs of
# attention blocks and norms of attention layers are named by their own word last.
_WORDS: tuple[tuple[str, str], ...] = (
    ("norm", r"norm\w*|ln_?\w*|adaln\w*|\w*mod(?:ulation)?(?:_lin)?|modulation"),
    (
        "mlp",
        r"mlp\d*|ff|ffn|ff_context|fc\d?|c_fc|feed_forward|gate_proj|up_proj|down_proj|gate_up_proj|experts?|proj_mlp|w[123]"
        r"|DenseReluDense|wi_\d|wi|linear_fc\d",
    ),
    (
        "attention",
        r"attn\d*|attention\d*|self_attn|cross_attn|encoder_attn|\w*attention|to_[qkv]|to_out|add_[qkv]_proj|to_add_out"
        r"|[qkvo]_proj|out_proj|qkv\w*|query|key|value|query_key_value|c_attn|in_proj|kv_proj|q_lin|k_lin|v_lin|out_lin"
        r"|SelfAttention|EncDecAttention",
    ),
    ("embedding", r"\w*emb\w*|lm_head|wte|wpe|(?:img|txt|time|guidance|vector)_in|pos_\w+"),
)
_PATTERNS = tuple((role, re.compile(rf"(?<![^._/:])(?:{words})(?![^._/:0-9])")) for role, words in _WORDS)
_STAGES = {
    "down_blocks": "down",
    "input_blocks": "down",
    "mid_block": "mid",
    "middle_block": "mid",
    "up_blocks": "up",
    "output_blocks": "up",
}


def role_of(layer: Layer) -> str:
    """One of ``ROLES``; a weight with a kernel is a convolution whatever its name."""
    if layer.is_conv:
        return "conv"
    if layer.kind in ("norm", "bias"):
        return "norm"
    found = [
        (max(match.start() for match in matches), role)
        for role, pattern in _PATTERNS
        if (matches := list(pattern.finditer(layer.name)))
    ]
    # "attn1_norm" is a norm and "attn_mlp_fc1" an MLP, but "mlp_attn_to_q" is attention: the last word decides, and of
    # words that begin at one place, the first line above.
    return max(found, key=lambda one: one[0])[1] if found else "other"


def stage_of(block: str | None) -> str | None:
    """``down``, ``mid`` or ``up`` of a UNet; the kind of block elsewhere (``double_blocks``, ``layers``); None outside.

    >>> stage_of("input_blocks.4"), stage_of("mid_block"), stage_of("double_blocks.3"), stage_of(None)
    ('down', 'mid', 'double_blocks', None)
    """
    if block is None:
        return None
    name = block.rpartition(".")[0] or block
    return _STAGES.get(name, name)
