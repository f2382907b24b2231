"""Tensor names taken apart: which module, which role.

The end of a name says the role (``TAILS`` of the kinds), what stands before it is the module. A few endings
are ordinary words (``.weight``, ``.scale``, ``.m``): they count only beside factors of the same module, so
they are settled in a second pass over the whole file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from .kinds import TAILS, peft_method

CONTROLNET_MARKER = "lora_controlnet"  # Stability's control-lora: factors of the network that reads the control image
_MAX_TAIL_PARTS = 4
_WHOLE_MODEL = ("base_model", "base_model.model")  # PEFT: what all layers share stands here, and is no layer
# Endings joined by an underscore or a colon: "to_q_lora.down.weight", "unet:12:up".
_JOINED = re.compile(r"(?P<tail>_lora[._](?:down|up)\.weight|:(?:down|up))\Z")
# XLabs puts the rank factors under the processor's own parameter: "qkv_lora1.down.weight", in single blocks
# "qkv_lora.down.weight", which ends as diffusers' processors do.
_XLABS = re.compile(
    r"(?P<module>.*_lora\d+|(?:.*\.)?single_blocks\.\d+\.processor\.(?:qkv|proj)_lora)\.(?P<role>down|up)\.weight\Z"
)
# A PEFT state dict taken before saving keeps the adapter's name: "lora_A.default.weight".
_NAMED = re.compile(
    r"(?P<module>.+)(?P<tail>\.(?:lora_(?:A|B|E|embedding_A|embedding_B|magnitude_vector)|hada_\w+|lokr_\w+|oft_R|ia3_l"
    r"|boft_[Rs]|vera_lambda_[bd]|ranknum|fourierft_spectrum))\.(?P<adapter>[^.]+)(?P<rest>\.weight|\.bias)?\Z"
)


class Split(NamedTuple):
    """A tensor name: module, role, and the adapter's name where the file spells it."""

    module: str
    role: str
    tail: str  # the rest of the name
    adapter: str | None = None


@lru_cache(maxsize=1 << 16)  # a folder of adapters repeats the same few thousand names
def split_key(key: str) -> Split | None:
    """The module and role of a tensor name, or None where its ending means nothing by itself."""
    position = len(key)
    cuts = []
    for _ in range(_MAX_TAIL_PARTS):
        position = key.rfind(".", 0, position)
        if position < 0:
            break
        cuts.append(position)
    for cut in reversed(cuts):  # the longest ending first
        role = TAILS.get(key[cut:])
        if role is not None and cut:
            return Split(key[:cut], role, key[cut:])
    return _split_joined(key) or _split_named(key) or _split_method(key)


def _split_joined(key: str) -> Split | None:
    match = _XLABS.match(key)
    if match:
        return Split(match["module"], match["role"], key[match.end("module") :])
    match = _JOINED.search(key)
    return Split(key[: match.start()], TAILS[match["tail"]], match["tail"]) if match and match.start() else None


def _split_named(key: str) -> Split | None:
    match = _NAMED.match(key)
    if not match:
        return None
    tail = match["tail"]
    role = TAILS.get(tail + (match["rest"] or "")) or TAILS.get(tail)
    return Split(match["module"], role, key[match.end("module") :], match["adapter"]) if role else None


def _split_method(key: str) -> Split | None:
    """Parameters of further PEFT methods, recognised by their prefix."""
    parts = key.split(".")
    for index in range(len(parts) - 1, max(len(parts) - 4, 0), -1):
        method = peft_method(parts[index])
        if method and ".".join(parts[:index]) not in _WHOLE_MODEL:
            tail = ".".join(parts[index:])
            return Split(".".join(parts[:index]), f"other:{method}:{tail}", f".{tail}")
    return None


@dataclass(slots=True)
class KeyMap:
    """Every tensor name of a file, accounted for: in a module, or in ``rest``."""

    modules: dict[str, dict[str, str]] = field(default_factory=dict)  # module -> role -> tensor name
    rest: list[str] = field(default_factory=list)
    duplicates: list[tuple[str, str, str]] = field(default_factory=list)  # module, role, tensor name
    adapters: set[str] = field(default_factory=set)
    tails: set[str] = field(default_factory=set)  # how the names in modules end

    def add(self, module: str, role: str, key: str) -> None:
        roles = self.modules.get(module)
        if roles is None:
            self.modules[module] = {role: key}
        elif role in roles:
            self.duplicates.append((module, role, key))
        else:
            roles[role] = key


def map_keys(keys: Iterable[str]) -> KeyMap:
    """Sort tensor names into modules. Names that mean nothing by themselves are settled at the end."""
    found = KeyMap()
    pending = []
    for key in keys:
        split = split_key(key)
        if split is None:
            pending.append(key)
            continue
        module, role, tail, adapter = split
        found.tails.add(tail)
        if adapter is not None:
            found.adapters.add(adapter)
            module = _of_adapter(found, module, role, adapter)
        found.add(module, role, key)
    if not found.modules and pending and all(key.isdecimal() for key in pending):
        return _pair_positions(pending)
    _settle(found, pending)
    return found


def _pair_positions(keys: list[str]) -> KeyMap:
    """A bare list of tensors: cloneofsimo's first files, ``[up, down, up, down, ...]`` in traversal order."""
    found = KeyMap()
    for key in sorted(keys, key=int):
        module, is_down = divmod(int(key), 2)
        found.add(f"list:{module}", "down" if is_down else "up", key)
    return found


def _of_adapter(found: KeyMap, module: str, role: str, adapter: str) -> str:
    """Two adapters saved in one file share module names: keep the second one's modules apart."""
    roles = found.modules.get(module)
    return f"{module} [{adapter}]" if roles and role in roles else module


# Word -> (role it takes, roles one of which the module must already have).
_WORDS: Mapping[str, tuple[str, frozenset[str]]] = {
    "weight": ("ia3_weight", frozenset({"on_input"})),
    "scale": ("scale", frozenset({"down", "k1", "k1_a", "w1_a"})),
    "m": ("magnitude", frozenset({"down_t"})),
    "magnitude": ("magnitude", frozenset({"down"})),
}


def _settle(found: KeyMap, pending: list[str]) -> None:
    control = CONTROLNET_MARKER in pending
    for key in pending:
        module, _, word = key.rpartition(".")
        if control and word in ("down", "up") and module:  # Stability's control-lora
            found.add(module, word, key)
            continue
        role, beside = _WORDS.get(word, ("", frozenset[str]()))
        roles = found.modules.get(module)
        if roles and not beside.isdisjoint(roles):
            found.add(module, role, key)
        else:
            found.rest.append(key)
