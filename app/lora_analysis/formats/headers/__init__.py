"""Training headers and adapter configurations, read into typed facts.

Each grammar is a module with two functions: ``applies(metadata, config)`` and ``read(draft, metadata,
config)``. A file may speak several at once (kohya writes ModelSpec too); the first in the registry that
states a fact keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..families import infer_base_model
from . import (
    additional_networks,
    ai_toolkit,
    cloneofsimo,
    diffusers,
    gguf,
    kohya,
    mlx,
    modelspec,
    onetrainer,
    peft,
    supermerger,
)
from .draft import Draft
from .facts import HeaderFacts
from .trainers import recognise

__all__ = ["GRAMMARS", "Grammar", "HeaderFacts", "parse_header"]


class Grammar(NamedTuple):
    """One way of writing things into a header."""

    name: str
    applies: Callable[[Mapping[str, Any], Mapping[str, Any] | None], bool]
    read: Callable[[Draft, Mapping[str, Any], Mapping[str, Any] | None], None]


# What a run recorded comes before what people typed, and headers before the configuration beside the file.
GRAMMARS: tuple[Grammar, ...] = (
    Grammar("kohya", kohya.applies, kohya.read),
    Grammar("modelspec", modelspec.applies, modelspec.read),
    Grammar("onetrainer", onetrainer.applies, onetrainer.read),
    Grammar("ai-toolkit", ai_toolkit.applies, ai_toolkit.read),
    Grammar("additional-networks", additional_networks.applies, additional_networks.read),
    Grammar("supermerger", supermerger.applies, supermerger.read),
    Grammar("diffusers", diffusers.applies, diffusers.read),
    Grammar("cloneofsimo", cloneofsimo.applies, cloneofsimo.read),
    Grammar("gguf", gguf.applies, gguf.read),
    Grammar("peft", peft.applies, peft.read),
    Grammar("mlx", mlx.applies, mlx.read),
)


def parse_header(metadata: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> HeaderFacts:
    """Read what a header, and the configuration beside the weights, say about an adapter.

    ``metadata``: the ``__metadata__`` object of a file, values as stored (text) or parsed by somebody
    already. ``config``: the parsed ``adapter_config.json``. Never raises for what they hold: a value that
    cannot be read is left out, and a warning in ``findings`` names its key.
    """
    header = {key: value for key, value in metadata.items() if isinstance(key, str)}
    draft = Draft()
    for grammar in GRAMMARS:
        if grammar.applies(header, config):
            grammar.read(draft, header, config)
    trainer = recognise(draft, header, config)
    if trainer is not None:
        draft.state(trainer=trainer.name, trainer_version=trainer.version)
    draft.state(base_model_family=infer_base_model({}, header, config).from_header)
    return HeaderFacts(**draft.facts, settings=draft.settings, findings=tuple(draft.findings))
