"""One adapter for a person to read: what it is, how it was made, what is odd about it.

Takes the inspection's document; every string in it may come from a stranger, so all go through ``shown``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import wording
from .output import shown
from .training import training_lines

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

TOP_TAGS = 12
TOP_KEYS = 10
MAX_FINDINGS = 50
Row = tuple[str, "str | Text"]  # label and value
_SEVERITY_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def view(document: dict[str, Any], *, all_tags: bool = False) -> RenderableType:
    """The whole page."""
    from rich.console import Group

    parts: list[RenderableType] = [_title(document), "", _facts(document, all_tags=all_tags), ""]
    if "layers" in document:
        from .layers import layer_table

        parts += [layer_table(document["layers"]), ""]
    parts.append(findings_table(document["validation_info"]["findings"]))
    return Group(*parts)


def _title(document: dict[str, Any]) -> Text:
    file, what = document["file_info"], document["architecture_info"]
    line = shown(file["filename"], "bold", limit=200)
    line.append(f"  {wording.size(file['file_size_bytes'])}", "dim")
    line.append("\n")
    words = (document["model_info"]["format"], what["algorithm"], base_label(what["base_model"]["family"]))
    line.append_text(shown(" · ".join(str(word) for word in words), "cyan"))
    return line


def base_label(family: str) -> str:
    """The name people use: ``SDXL`` for ``sdxl``."""
    from ..formats.families import LABELS

    return LABELS.get(family, family)


def _facts(document: dict[str, Any], *, all_tags: bool) -> Table:
    """Labels and values in two columns."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    rows = [
        *_identity(document["model_info"]),
        *_base(document["architecture_info"]["base_model"], document["model_info"]),
        *_structure(document["architecture_info"], document["model_info"]),
        *(("training" if not index else "", line) for index, line in enumerate(training_lines(document))),
        *_tags(document["training_info"], None if all_tags else TOP_TAGS),
        *_hashes(document["file_info"]),
        *_unrecognised(document["adapter"]),
    ]
    for label, value in rows:
        table.add_row(label, value if not isinstance(value, str) else shown(value, limit=20_000))
    return table


def _identity(model: dict[str, Any]) -> Iterator[Row]:
    name = model["title"] or model["display_name"] or model["output_name"]
    if name:
        author = f" by {model['author']}" if model["author"] else ""
        yield "name", shown(f"{name}{author}", limit=200)
    for label, key in (("trigger", "trigger_phrase"), ("about", "description"), ("comment", "comment")):
        if model[key]:
            yield label, shown(model[key], limit=300)
    if model["license"]:
        yield "license", shown(model["license"], limit=100)


def _base(base: dict[str, Any], model: dict[str, Any]) -> Iterator[Row]:
    named = f" {base['variant']}" if base["variant"] else ""
    checkpoint = f", trained on {model['base_model_name']}" if model["base_model_name"] else ""
    yield "base", shown(f"{base_label(base['family'])}{named}{checkpoint}", limit=300)
    if base["conflict"]:
        words = f"tensors say {base_label(base['from_keys'])}, the header says {base_label(base['from_header'])}"
        yield "", shown(words, "bold yellow")
    yield "", shown(base["evidence"], "dim", limit=300)


def _structure(what: dict[str, Any], model: dict[str, Any]) -> Iterator[Row]:
    ranks = what["rank_distribution"]
    line = shown(wording.spread(ranks))
    if len(ranks) > 1:
        line.append(f"  {wording.sparkline(ranks)}", "cyan")
    if model["resized_from"]:
        line.append(f"  resized from {model['resized_from']}")
    yield "rank", line
    yield "alpha", _alpha(what)
    yield (
        "layers",
        wording.sentence(
            [
                f"{what['layers']:,}: {wording.counted(what['components'])}" if what["layers"] else "none",
                f"{what['convolutions']} of them k×k convolutions" if what["convolutions"] else None,
                f"{what['dora_layers']} with DoRA norms" if what["dora_layers"] else None,
            ]
        ),
    )
    if len(what["layer_kinds"]) > 1:
        yield "kinds", wording.counted(what["layer_kinds"])
    for reason, count in what["opaque_layers"].items():
        yield "opaque", f"{wording.quantity(count, 'layer')}: {reason}"
    yield "targets", wording.counted(what["target_module_layers"], limit=TOP_KEYS)
    yield "values", f"{what['parameters']:,} as {', '.join(what['dtypes'])}"
    if what["extra_tensors"]:
        yield "besides", "tensors outside layers: " + wording.counted(what["extra_tensors"])


_ORIGINS = {
    "tensor": "from alpha tensors",
    "header": "from the header",
    "config": "from adapter_config.json",
    "default": "nothing states an alpha",
}


def _alpha(what: dict[str, Any]) -> str:
    origins = [words for origin, words in _ORIGINS.items() if what["scale_origins"].get(origin)]
    scale = f"scale {wording.spread(what['scale_distribution'])}" if what["scale_distribution"] else None
    return wording.sentence([wording.spread(what["alpha_distribution"]), scale, *origins])


def _tags(training: dict[str, Any], limit: int | None) -> Iterator[Row]:
    tags = training["tag_frequencies"]
    if tags:
        cut = {str(tag)[:80]: count for tag, count in list(tags.items())[: limit or len(tags)]}
        rest = len(tags) - len(cut)
        line = " · ".join(f"{tag} {count}" for tag, count in cut.items())
        yield "tags", line + (f" · … {rest} more, see --tags" if rest > 0 else "")


def _hashes(file: dict[str, Any]) -> Iterator[Row]:
    for label, key in (("sha256", "sha256"), ("autov2", "autov2"), ("autov3", "autov3"), ("data", "sshs_model_hash")):
        if file.get(key):
            yield label, str(file[key])
    for each in file.get("hashes", ()):
        yield "sha256", f"{each['sha256']}  {each['name']}"


def _unrecognised(adapter: dict[str, Any]) -> Iterator[Row]:
    keys, count = adapter["unrecognised_keys"][:TOP_KEYS], adapter["unrecognised_count"]
    for index, key in enumerate(keys):
        yield "unknown" if not index else "", shown(key, "yellow", limit=120)
    if count > len(keys):
        yield "", f"… {count - len(keys):,} more names that are not recognised"


def findings_table(findings: list[dict[str, Any]]) -> RenderableType:
    """Worst first, each with its severity in colour; a word of relief where there are none."""
    from rich.table import Table

    if not findings:
        return shown("nothing odd found", "green")
    order = list(_SEVERITY_STYLES)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    ordered = sorted(findings, key=lambda finding: order.index(finding["severity"]))
    for finding in ordered[:MAX_FINDINGS]:
        severity = finding["severity"]
        table.add_row(shown(severity, _SEVERITY_STYLES[severity]), shown(finding["message"], limit=300))
    if len(findings) > MAX_FINDINGS:
        table.add_row("", f"… {len(findings) - MAX_FINDINGS:,} more, see --json")
    return table
