"""``lora convert``: options, what is shown, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

from command import lora


def test_a_conversion_is_described_and_measured(demo_library: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    done = lora("convert", demo_library / "flux-lineart-kohya.safetensors", "--to", "diffusers", "-o", out)
    assert done.code == 0
    assert "kohya → diffusers (flux1)" in done.out
    assert "error   0 of ‖Δ‖, measured on the written file" in done.out
    assert out.exists()


def test_json_holds_the_plan_and_what_was_measured(demo_library: Path, tmp_path: Path) -> None:
    source = demo_library / "sdxl-character-kohya.safetensors"
    dry = lora("convert", source, "--to", "peft", "--dry-run", "--drop", "--json")
    document = json.loads(dry.out)
    assert document["schema"] == "lora-analysis/convert/1"
    assert document["dry_run"] is True
    assert {one["reason"] for one in document["missing"]} == {
        "a PEFT folder holds one component, and unet was chosen; --component says which"
    }
    done = lora("convert", source, "--to", "peft", "--component", "unet", "-o", tmp_path / "peft", "--json")
    document = json.loads(done.out)
    assert document["relative_error"] == 0.0
    assert document["output"]["size"] == (tmp_path / "peft" / "adapter_model.safetensors").stat().st_size


def test_what_the_dialect_cannot_say_is_refused_with_the_way_out(demo_library: Path, tmp_path: Path) -> None:
    done = lora("convert", demo_library / "llama-ia3-peft", "--to", "peft", "-o", tmp_path / "x")
    assert done.code == 1
    assert "IA3" in done.err
    done = lora("convert", demo_library / "sdxl-character-kohya.safetensors", "--to", "peft", "-o", tmp_path / "x")
    assert done.code == 2
    assert "--drop" in done.err
    assert not (tmp_path / "x").exists()


def test_an_existing_output_is_kept(demo_library: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    out.write_text("mine")
    source = demo_library / "sd15-style-kohya.safetensors"
    assert lora("convert", source, "--to", "comfyui", "-o", out).code == 1
    assert out.read_text() == "mine"
    assert lora("convert", source, "--to", "comfyui", "-o", out, "--force").code == 0
    assert lora("convert", source, "--to", "comfyui").code == 2
