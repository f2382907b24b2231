"""The size that a page predicts by itself is the plan's, to the byte: for every dialect, kind, rank and type."""

from __future__ import annotations

from pathlib import Path

import pytest

import lora_analysis as la
from lora_analysis.demo.library import write_demo_library
from lora_analysis.errors import LoraAnalysisError
from lora_analysis.resizing.request import options_of
from lora_analysis.resizing.size_model import SizeModel, size_model


def size_at(model: SizeModel, rank: int) -> int:
    """What ``src/lib/size.ts`` computes, in Python."""
    ranks, kept = [], []
    for layer in model.layers:
        clamped = rank if layer["limit"] is None else min(rank, layer["limit"])
        ranks.append(clamped)
        kept.append(layer["keep_at"] == clamped)
    entries = []
    for tensor in model.tensors:
        at = tensor["layer"]
        form = tensor["kept"] if at is None or kept[at] else tensor["changed"]
        if form is not None:
            bits, shape, letters = form
            shape = [size if size >= 0 else -size * ranks[at] for size in shape]
            entries.append((bits, shape, letters, tensor["name_bytes"]))
    entries.sort(key=lambda entry: -entry[0])
    header, offset = 2 + model.metadata_bytes[rank - 1], 0
    for bits, shape, letters, name_bytes in entries:
        values = 1
        for size in shape:
            values *= size
        end = offset + values * bits // 8
        text = f'{{"dtype":"","shape":[{",".join(map(str, shape))}],"data_offsets":[{offset},{end}]}}'
        header += 1 + name_bytes + 1 + len(text) + letters
        offset = end
    return 8 + header + (-header % 8) + offset


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    write_demo_library(folder)
    return folder


def adapters(library: Path) -> list[Path]:
    return sorted(path for path in library.iterdir() if path.name != "trouble")


@pytest.mark.parametrize("asked", [{}, {"dtype": "fp32"}, {"dtype": "fp16", "alpha": "baked"}, {"alpha": "rank"}])
def test_the_model_predicts_the_plans_size_at_every_rank(library: Path, asked: dict[str, str]) -> None:
    compared = 0
    for path in adapters(library):
        with la.open(path) as adapter:
            try:
                model = size_model(adapter, options_of(rank=1, **asked))
            except LoraAnalysisError as error:
                with pytest.raises(type(error)):
                    la.plan_resize(adapter, rank=1, predict=False, **asked)
                continue
            for rank in range(1, min(len(model.metadata_bytes), 12) + 1):
                try:
                    plan = la.plan_resize(adapter, rank=rank, predict=False, **asked)
                except LoraAnalysisError:
                    continue
                assert size_at(model, rank) == plan.size_after, (path.name, rank)
                compared += 1
    assert compared > 40


def test_the_model_says_what_is_clamped_and_what_is_copied(library: Path) -> None:
    with la.open(library / "sdxl-character-kohya.safetensors") as adapter:
        model = size_model(adapter).to_dict()
        ranks = {layer["name"]: layer["keep_at"] for layer in model["layers"]}
        assert ranks == {layer.name: layer.rank for layer in adapter.layers.values()}
        assert model["size_before"] == adapter.source.size
