"""An inspection document for people: plain text for terminals, Markdown for notes.

Works on the plain dict, which may come from a file of another version: what is missing or of another
type is left out, never an error. Everything shown went through ``printable``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ..text import printable

TOP_TAGS = 20
_MAX_VALUE = 200  # characters
_MAX_RAW_VALUE = 120
_MAX_ITEMS = 12
_MAX_PROBLEMS = 100


class Section(NamedTuple):
    """A heading with rows of label and value."""

    title: str
    rows: list[tuple[str, str]]


# block of the document, heading, and its fields with their labels
_FIELDS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    (
        "file_info",
        "File",
        (
            ("filename", "Name"),
            ("file_size_mb", "Size (MB)"),
            ("modified_time", "Modified"),
            ("files", "Weight files"),
            ("sha256", "SHA-256"),
            ("autov2", "AutoV2"),
            ("autov3", "AutoV3"),
            ("sshs_model_hash", "Tensor data SHA-256"),
        ),
    ),
    (
        "model_info",
        "Model",
        (
            ("model_name", "Name"),
            ("author", "Author"),
            ("description", "Description"),
            ("license", "License"),
            ("format", "Format"),
            ("container", "Container"),
            ("base_model_family", "Base model family"),
            ("base_model", "Base model"),
            ("base_model_sha256", "Base model SHA-256"),
            ("trigger_phrase", "Trigger phrase"),
            ("keywords", "Keywords"),
            ("network_module", "Network module"),
            ("network_rank", "Rank"),
            ("network_alpha", "Alpha"),
            ("resized_from", "Resized from rank"),
            ("merged_from", "Merged from"),
            ("embedded_autov3", "AutoV3 in the header"),
        ),
    ),
    (
        "architecture_info",
        "Tensors",
        (
            ("algorithm", "Algorithm"),
            ("layers", "Layers"),
            ("parameters", "Parameters"),
            ("rank_distribution", "Ranks (layers)"),
            ("alpha_distribution", "Alphas (layers)"),
            ("components", "Components (layers)"),
            ("layer_kinds", "Kinds (layers)"),
            ("dtypes", "Types (layers)"),
            ("target_modules", "Target modules"),
            ("opaque_layers", "Without a delta (layers)"),
            ("extra_tensors", "Other tensors"),
        ),
    ),
    (
        "training_info",
        "Training",
        (
            ("trainer", "Trainer"),
            ("trainer_version", "Trainer version"),
            ("training_method", "Method"),
            ("steps", "Steps"),
            ("epoch", "Epoch"),
            ("epochs", "Epochs planned"),
            ("learning_rate", "Learning rate"),
            ("unet_lr", "UNet learning rate"),
            ("text_encoder_lr", "Text encoder learning rate"),
            ("optimizer", "Optimizer"),
            ("optimizer_args", "Optimizer arguments"),
            ("scheduler", "Scheduler"),
            ("batch_size", "Batch size"),
            ("resolution", "Resolution"),
            ("images", "Images per epoch"),
            ("distinct_images", "Distinct images"),
            ("mixed_precision", "Precision"),
            ("training_seconds", "Duration (s)"),
            ("started_at", "Started"),
        ),
    ),
)


def render_text(metadata: Mapping[str, Any]) -> str:
    """The document as plain text, one line per fact."""
    lines = []
    for title, rows in sections(metadata):
        width = max((len(label) for label, _ in rows), default=0)
        lines += [title, "-" * len(title), *(f"{label.ljust(width)}  {value}".rstrip() for label, value in rows), ""]
    return "\n".join(lines)


def render_markdown(metadata: Mapping[str, Any]) -> str:
    """The document as Markdown, one table per section."""
    lines = [f"# {_escaped(_title(metadata))}", ""]
    for title, rows in sections(metadata):
        lines += [f"## {title}", "", "| | |", "|---|---|"]
        lines += [f"| {_escaped(label)} | {_escaped(value)} |" for label, value in rows]
        lines.append("")
    return "\n".join(lines)


def sections(metadata: Mapping[str, Any]) -> Iterator[Section]:
    """The document as headings with rows of printable text, for any page that shows it."""
    for block, title, fields in _FIELDS:
        content = _block(metadata, block)
        rows = [(label, _shown(content[key])) for key, label in fields if not _is_empty(content.get(key))]
        if rows:
            yield Section(title, rows)
    yield from _tags(metadata)
    yield from _problems(metadata)
    yield from _raw(metadata)


def _tags(metadata: Mapping[str, Any]) -> Iterator[Section]:
    tags = _block(_block(metadata, "training_info"), "tag_frequencies")
    if tags:
        rows = [(printable(tag, limit=_MAX_VALUE), _shown(count)) for tag, count in list(tags.items())[:TOP_TAGS]]
        yield Section(f"Tags (the first {len(rows)} of {len(tags)})", rows)


def _problems(metadata: Mapping[str, Any]) -> Iterator[Section]:
    validation = _block(metadata, "validation_info")
    rows = []
    for key, label in (("errors", "error"), ("warnings", "warning")):
        messages = validation.get(key)
        if isinstance(messages, list):
            rows += [(label, printable(message, limit=300)) for message in messages[:_MAX_PROBLEMS]]
    if rows:
        yield Section("Problems", rows)
    elif validation:
        yield Section("Problems", [("none found", "")])


def _raw(metadata: Mapping[str, Any]) -> Iterator[Section]:
    every = _block(_block(metadata, "model_info"), "all_metadata")
    if every:
        rows = [(printable(key, limit=80), _shown(every[key], limit=_MAX_RAW_VALUE)) for key in sorted(every, key=str)]
        yield Section(f"Header ({len(rows)} keys)", rows)


# -- values ------------------------------------------------------------------------------------------


def _title(metadata: Mapping[str, Any]) -> str:
    name = _block(metadata, "file_info").get("filename")
    return printable(name, limit=_MAX_VALUE) if name else "Adapter"


def _block(document: Any, name: str) -> Mapping[Any, Any]:
    found = document.get(name) if isinstance(document, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, (str, list, tuple, Mapping)) and not value)


def _shown(value: Any, *, limit: int = _MAX_VALUE) -> str:
    """One line. Text that is cut says how long it was."""
    text = _as_text(value)
    if len(text) <= limit:
        return printable(text)
    return f"{printable(text, limit=limit)} ({len(text):,} characters)"


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if value.bit_length() < 64 else "a number of more than 18 digits"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        pairs = [f"{key}: {_as_text(item)}" for key, item in list(value.items())[:_MAX_ITEMS]]
        return ", ".join(pairs) + _rest(len(value))
    if isinstance(value, (list, tuple)):
        return ", ".join(_as_text(item) for item in value[:_MAX_ITEMS]) + _rest(len(value))
    return str(value)


def _rest(count: int) -> str:
    return f", … ({count} in all)" if count > _MAX_ITEMS else ""


_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#~!&])")


def _escaped(text: str) -> str:
    """Text that no Markdown reader takes for markup, a link or the end of a cell."""
    return _MARKDOWN.sub(r"\\\1", text).replace("\n", " ").replace("://", ":&#47;&#47;")
