"""Open an adapter: bytes in, one :class:`~lora_analysis.adapter.Adapter` value out.

Only headers are read, and the few bytes of each alpha; arrays stay in the file until a layer is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..adapter import Adapter, Finding, TensorSource
from ..errors import ConfigError, FileAccessError, LoraAnalysisError
from .adapter_config import is_full_fine_tune, number, unusable_patterns
from .algorithm import algorithm_of
from .container import open_source
from .dialects import KeyView, dialect_of
from .families import infer_base_model
from .families.extent import blocks_outside
from .folder import CONFIG_NAME, open_folder, read_config
from .keys import CONTROLNET_MARKER, KeyMap, map_keys
from .layers import Assembly, assemble
from .scale import stated_scales

HEADER_LIMIT = 25_000_000  # bytes; huggingface_hub's own cap. The specification allows 100 MB.
_NORMAL_FLUX_CHANNELS = 64
_DOUBLED_PREFIX = "lora_unet_unet_"
_NO_LAYERS = frozenset({"prompt", "embedding", "token-rows"})  # what a file without layers can be made of
_CHECKPOINT_WEIGHTS = 50  # plain weights from which a file without factors looks like a checkpoint


def open_adapter(
    path: str | os.PathLike[str], *, header_limit: int = HEADER_LIMIT, lenient_metadata: bool = False
) -> Adapter:
    """Open a file or a PEFT, diffusers or MLX folder. Close the result, or use it as a context manager.

    ``header_limit``: bytes of header to accept, up to 100 MB. ``lenient_metadata``: read a header whose
    ``__metadata__`` holds numbers or objects, which the specification forbids and the wild contains; the
    result then has an error finding.

    Raises: FileAccessError, HeaderError, UnsafePickleError, ConfigError, MissingExtraError; each names the file.
    """
    location = Path(path)
    opener = partial(open_source, header_limit=header_limit, lenient_metadata=lenient_metadata)
    source, config = _open(location, opener)
    try:
        return adapt(source, config)
    except BaseException:
        source.close()
        raise


def _open(location: Path, opener: Any) -> tuple[TensorSource, dict[str, Any] | None]:
    """The tensors and the configuration beside them. Raises: as :func:`open_adapter`, with the path in front."""
    try:
        if location.is_dir():
            config = read_config(location / CONFIG_NAME)
            return open_folder(location, opener), config
        source: TensorSource = opener(location)
    except ConfigError as error:
        raise ConfigError(f"{location}: {error.message}") from error
    except OSError as error:
        if isinstance(error, LoraAnalysisError):
            raise
        raise FileAccessError(f"{location}: {error.strerror or error}") from error
    return source, None


def adapt(source: TensorSource, config: dict[str, Any] | None) -> Adapter:
    """Make an adapter of an open file and the configuration beside it (looked up there when None)."""
    keys = map_keys(source.tensors)
    findings: list[Finding] = list(source.findings)
    view = KeyView(keys.modules, keys.tails, tuple(keys.rest), source.metadata, config, source.container)
    dialect = dialect_of(view)
    if config is None and _wants_config(dialect, keys):
        config = _sibling_config(source, findings)
        if config is not None:
            dialect = dialect_of(replace(view, config=config))
    stated = stated_scales(source.metadata, config, dialect)
    is_full = is_full_fine_tune(config) and not keys.modules
    made = assemble(keys, source, stated, is_peft=dialect == "peft", is_full=is_full)
    base_model = infer_base_model(made.shapes, source.metadata, config, [*keys.rest, *_extra_keys(made)])
    findings += [*made.findings, *_file_findings(made, keys, config)]
    outside = blocks_outside(made.shapes, base_model)
    if outside is not None:
        findings.append(outside)
    return Adapter(
        source=source,
        dialect=dialect,
        algorithm=algorithm_of(
            made.layers,
            is_control=_is_flux_control(made),
            is_controlnet=CONTROLNET_MARKER in keys.rest,
            is_full=is_full,
        ),
        base_model=base_model,
        layers=made.layers,
        extras=tuple(made.extras),
        unrecognised_keys=tuple(made.unrecognised),
        findings=tuple(findings),
        config=config,
    )


def _extra_keys(made: Assembly) -> list[str]:
    return [extra.key for extra in made.extras]


def _wants_config(dialect: str, keys: KeyMap) -> bool:
    """Whether a single weights file is of a kind that leaves its scale, or its meaning, to a config beside it."""
    if not keys.modules:  # mlx-lm's full fine-tunes are plain weights
        return True
    return dialect in ("peft", "mlx", "diffusers") or any("prompt_embeddings" in key for key in keys.rest)


def _sibling_config(source: TensorSource, findings: list[Finding]) -> dict[str, Any] | None:
    """The config beside a single weights file. A broken one becomes an error finding."""
    path = Path(source.path).parent / CONFIG_NAME
    try:
        return read_config(path)
    except (ConfigError, FileAccessError) as error:
        findings.append(Finding("error", "config", error.message))
        return None


def _is_flux_control(made: Assembly) -> bool:
    """A control adapter widens the image input (``img_in`` takes more channels, or is padded) and replaces norms."""
    inputs = [shape.inp for name, shape in made.shapes.items() if name.endswith("img_in")]
    if any(width is not None and width > _NORMAL_FLUX_CHANNELS for width in inputs):
        return True
    if any(layer.reshape for layer in made.layers.values()):
        return True
    return any(extra.category == "replacement" and "_norm.scale" in extra.key for extra in made.extras)


def _file_findings(made: Assembly, keys: KeyMap, config: Mapping[str, Any] | None) -> list[Finding]:
    """Remarks on the file as a whole."""
    found = []
    if not made.layers and not any(extra.category in _NO_LAYERS for extra in made.extras):
        found.append(_what_it_is_instead(keys, config))
    if any(name.startswith(_DOUBLED_PREFIX) for name in keys.modules):
        message = f"module names start with {_DOUBLED_PREFIX}: a converter added its prefix twice; loaders find nothing"
        found.append(Finding("warning", "malformed-names", message))
    if len(keys.adapters) > 1:
        names = ", ".join(sorted(keys.adapters))
        found.append(Finding("warning", "several-adapters", f"the file holds several adapters: {names}"))
    if made.unrecognised:
        first, count = made.unrecognised[0], len(made.unrecognised)
        names = f"{count} tensor names are not recognised, e.g." if count > 1 else "a tensor name is not recognised:"
        message = f"{names} {first}"
        found.append(Finding("warning", "unrecognised-keys", message))
    defaults = sum(layer.scale_origin == "default" for layer in made.layers.values())
    if defaults and config is None and any(name.startswith("base_model.") for name in made.layers):
        message = f"{CONFIG_NAME} is not beside the file: {defaults} layers are read with scale 1, which is a guess"
        found.append(Finding("warning", "scale-assumed", message))
    return found + (_config_findings(config) if config is not None else [])


def _what_it_is_instead(keys: KeyMap, config: Mapping[str, Any] | None) -> Finding:
    if is_full_fine_tune(config) and keys.rest:
        message = (
            f"mlx-lm trained {len(keys.rest)} parameters whole: they take the place of the base model's; lora extract "
            "finds an adapter between them and the base"
        )
        return Finding("info", "full-weights", message)
    return Finding("warning", "no-adapter-layers", _what_else(keys, config or {}))


def _what_else(keys: KeyMap, config: Mapping[str, Any]) -> str:
    weights = sum(key.endswith((".weight", ".bias")) for key in keys.rest)
    if weights >= _CHECKPOINT_WEIGHTS:
        return f"the file holds no adapter layer but {weights} plain weights: a whole model, not an adapter?"
    method = config.get("peft_type")
    named = f"; {CONFIG_NAME} says peft_type {method[:40]!r}" if isinstance(method, str) else ""
    return f"the file holds no adapter layer: no factor pairs, no differences{named}"


def _config_findings(config: Mapping[str, Any]) -> list[Finding]:
    found = []
    rank = config.get("r")
    parsed = number(rank)
    is_lora = str(config.get("peft_type", "LORA")).upper() in ("LORA", "LOHA", "LOKR", "ADALORA")
    if rank is not None and is_lora and (parsed is None or parsed < 1):
        found.append(Finding("error", "config-rank", f"{CONFIG_NAME}: r is {rank!r}; a rank is a positive integer"))
    for pattern in unusable_patterns(config):
        message = f"{CONFIG_NAME}: pattern {pattern!r} is no usable regular expression and is not applied"
        found.append(Finding("warning", "config-pattern", message))
    return found
