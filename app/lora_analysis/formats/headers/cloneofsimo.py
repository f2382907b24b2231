"""cloneofsimo/lora: target classes as JSON lists under ``unet`` and ``text_encoder``, a rank per module.

Source: https://github.com/cloneofsimo/lora, ``save_safeloras_with_embeds``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from . import values
from .draft import Draft

PARTS = ("unet", "text_encoder")
_RANK_KEY = re.compile(r"(?:unet|text_encoder):\d+:rank")
_EMBEDDING = "<embed>"


def applies(metadata: Mapping[str, Any], config: Mapping[str, Any] | None) -> bool:
    """Whether the header is of this grammar."""
    return any(_RANK_KEY.fullmatch(key) for key in metadata) or any(
        isinstance(metadata.get(part), str) and metadata[part].startswith("[") for part in PARTS
    )


def read(draft: Draft, metadata: Mapping[str, Any], config: Mapping[str, Any] | None) -> None:
    """State target classes, the usual rank, and the tokens whose embeddings are in the file."""
    classes: list[str] = []
    for part in PARTS:
        found = draft.read(metadata, part, values.sequence) or []
        classes += [name for name in found if isinstance(name, str) and name not in classes]
    ranks = Counter(draft.read(metadata, key, values.count) for key in metadata if _RANK_KEY.fullmatch(key))
    ranks.pop(None, None)
    tokens = tuple(key for key, value in metadata.items() if value == _EMBEDDING)
    draft.state(
        target_modules=tuple(classes) or None,
        network_dim=(ranks.most_common(1)[0][0] if ranks else None) or None,
        embedding_tokens=tokens or None,
    )
