"""The command that a job is equivalent to: every option that the server takes has a word, and the same meaning."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

pytest.importorskip("pydantic")

from command import lora
from lora_analysis.errors import OptionError
from lora_analysis.merging import options
from lora_analysis.server.commands import command_of
from lora_analysis.server.schemas.jobs import MergeOptions

SAMPLES: dict[str, Any] = {
    "rank": 3, "energy": 0.1 + 0.2, "norm": 0.9, "sum": 0.7, "ratio": 12.5, "absolute": 1e-7, "layer_error": 0.05,
    "knee": True, "sv_ratio": 8.0, "sv_fro": 0.8, "sv_cumulative": 0.6, "size": 123456789.0, "parameters": 5e6,
    "error": 0.25, "conv_rank": 2, "rank_for": {"*attn2*": 4, "*=odd name*": 5}, "min_rank": 2, "max_rank": 9,
    "method": "ties", "normalize": False, "dtype": "bf16", "metadata": "union", "density": 1 / 3, "epsilon": 0.1,
    "threshold": "global", "seed": 2**53 - 1, "lambda": -1.5, "alpha": 0.5, "beta": 0.25, "common": 0.75,
    "core_rule": "sum", "pico": True, "svc": True, "svc_floor": 0.3, "allow_disjoint": True, "drop_unsupported": True,
}  # fmt: skip


def asked_by(line: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command asks the library for."""
    seen: list[dict[str, Any]] = []

    def record(**asked: Any) -> Any:
        seen.append({key.rstrip("_"): value for key, value in asked.items() if value is not None})
        raise OptionError("seen")

    monkeypatch.setattr(options, "merge_options", record)
    words = shlex.split(line)
    assert words[:2] == ["lora", "merge"]
    assert lora(*words[1:]).err.strip() == "error: seen"
    return seen[0]


def test_the_samples_are_all_options_of_a_merge() -> None:
    assert SAMPLES.keys() == {field.alias or name for name, field in MergeOptions.model_fields.items()}


@pytest.mark.parametrize("name", SAMPLES)
def test_every_option_of_a_merge_has_its_word(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    request = MergeOptions.model_validate({name: SAMPLES[name]}).model_dump(exclude_none=True, by_alias=True)
    params = {"inputs": [{"adapter": "a", "weight": 0.1}], "options": request, "output": "out.safetensors"}
    line = command_of("merge", params, lambda adapter: f"library/{adapter}.safetensors")
    assert line is not None
    found = asked_by(line, monkeypatch)[name]
    if name == "rank_for":
        found = {pattern: int(rank) for pattern, rank in found.items()}
    assert found == SAMPLES[name]


@pytest.mark.parametrize("weight", [1.0, -0.3, 1 / 3, 1e-7, 12345.678])
def test_weights_are_read_back_as_they_are(weight: float) -> None:
    from lora_analysis.cli.merge import parse_weighted

    inputs = [{"adapter": "a", "weight": weight, "layer_weights": "*attn*=0.5"}]
    params = {"inputs": inputs, "options": {}, "output": "o"}
    line = command_of("merge", params, lambda adapter: f"library/{adapter} b.safetensors")
    words = shlex.split(line or "")
    assert parse_weighted(words[2]) == ("library/a b.safetensors", weight)
    assert words[3:] == ["--layer-weights", "1:*attn*=0.5", "-o", "outputs/o"]


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ({"size": 50_000_000, "max_rank": 9.0}, {"size": 5e7, "max_rank": 9}),
        ({"ratio": 8.0, "rank_for": {"*attn2*": "2"}}, {"ratio": 8.0, "rank_for": {"*attn2*": 2}, "knee": False}),
    ],
)
def test_the_recipe_is_the_same_whoever_asks(typed: dict[str, Any], sent: dict[str, Any]) -> None:
    found = [options.merge_options(**asked) for asked in (typed, sent)]
    assert repr(found[0].keywords()) == repr(found[1].keywords())
    assert options.merge_options(**found[0].keywords() or {}).truncation == found[0].truncation
