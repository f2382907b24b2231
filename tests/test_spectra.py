"""The spectra of an adapter: every kind against a dense SVD, what is skipped and why, and their exported forms."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lora_analysis
import oracle
from lora_analysis.errors import CancelledError, FileAccessError, OptionError
from lora_analysis.formats.blocks import block_of
from lora_analysis.spectra.calculation import spectrum
from lora_analysis.spectra.export import MEASURES, csv_text, write_npz
from lora_analysis.spectra.groups import in_network_order
from lora_analysis.spectra.order import Order
from lora_analysis.spectra.values import LayerSpectrum, SkippedLayer, Spectrum
from sources import BF16, adapter_of

M = "lora_unet_down_blocks_1_attentions_0_proj_in"
RNG = np.random.default_rng(7)
ALPHA = np.float32(3.0)


def normal(*shape: int, dtype=np.float32) -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


def lora(name: str = M, rank: int = 4, dtype=np.float16, size: float = 1.0) -> dict[str, np.ndarray]:
    return {
        f"{name}.lora_down.weight": (size * normal(rank, 20)).astype(dtype),
        f"{name}.lora_up.weight": normal(24, rank).astype(dtype),
        f"{name}.alpha": ALPHA,
    }


# -- every kind against the dense definition ------------------------------------------------------------


def pair(dtype):
    arrays = lora(dtype=dtype)
    return arrays, oracle.low_rank(arrays[f"{M}.lora_up.weight"], arrays[f"{M}.lora_down.weight"], 3 / 4)


def convolution():
    down, up = normal(4, 6, 3, 3), normal(24, 4, 1, 1)
    arrays = {f"{M}.lora_down.weight": down, f"{M}.lora_up.weight": up, f"{M}.alpha": ALPHA}
    return arrays, oracle.low_rank(up[:, :, 0, 0], down.reshape(4, -1), 3 / 4, (3, 3))


def tucker():
    down, up, mid = normal(4, 6, 1, 1), normal(24, 4, 1, 1), normal(4, 4, 3, 3)
    arrays = {
        f"{M}.lora_down.weight": down,
        f"{M}.lora_up.weight": up,
        f"{M}.lora_mid.weight": mid,
        f"{M}.alpha": ALPHA,
    }
    return arrays, oracle.low_rank(up[:, :, 0, 0], down[:, :, 0, 0], 3 / 4, (3, 3), mid)


def loha():
    a1, b1, a2, b2 = normal(24, 3), normal(3, 20), normal(24, 3), normal(3, 20)
    parts = {"w1_a": a1, "w1_b": b1, "w2_a": a2, "w2_b": b2}
    arrays = {f"{M}.hada_{part}": array for part, array in parts.items()} | {f"{M}.alpha": ALPHA}
    return arrays, oracle.hadamard(oracle.low_rank(a1, b1), oracle.low_rank(a2, b2), 1.0)


def loha_tucker():
    a, b, cores = [normal(2, 8), normal(2, 8)], [normal(2, 6), normal(2, 6)], [normal(2, 2, 3, 3), normal(2, 2, 3, 3)]
    parts = {"w1_a": a[0], "w1_b": b[0], "t1": cores[0], "w2_a": a[1], "w2_b": b[1], "t2": cores[1]}
    sides = [oracle.low_rank(a[i].T, b[i], 1.0, (3, 3), cores[i]) for i in range(2)]
    return {f"{M}.hada_{part}": array for part, array in parts.items()}, oracle.hadamard(*sides)


def lokr():
    first, a, b = normal(4, 5), normal(6, 2), normal(2, 4)
    arrays = {f"{M}.lokr_w1": first, f"{M}.lokr_w2_a": a, f"{M}.lokr_w2_b": b, f"{M}.alpha": ALPHA}
    return arrays, oracle.kronecker(first.astype(np.float64), oracle.low_rank(a, b), 3 / 2)


def lokr_whole_convolution():
    first, second = normal(4, 3), normal(2, 4, 3, 3)
    arrays = {f"{M}.lokr_w1": first, f"{M}.lokr_w2": second, f"{M}.alpha": np.float32(1e10)}
    return arrays, oracle.kronecker(first.astype(np.float64), second.astype(np.float64))


def full():
    values = normal(12, 9, 3, 3)
    return {f"{M}.diff": values}, oracle.dense(values)


def dora():
    arrays, delta = pair(np.float32)
    return {**arrays, f"{M}.dora_scale": normal(24, 1)}, delta


KINDS = {
    "fp16": lambda: pair(np.float16),
    "bf16": lambda: pair(BF16),
    "fp32": lambda: pair(np.float32),
    "convolution": convolution,
    "tucker": tucker,
    "loha": loha,
    "loha tucker": loha_tucker,
    "lokr": lokr,
    "lokr whole": lokr_whole_convolution,
    "full": full,
    "dora": dora,
}


@pytest.mark.parametrize("kind", KINDS)
def test_singular_values_are_those_of_the_dense_delta(kind: str) -> None:
    arrays, delta = KINDS[kind]()
    found = spectrum(adapter_of(arrays))
    assert found.is_complete
    (layer,) = found.layers
    assert layer.shape == delta.shape
    expected = oracle.singular_values(delta)
    values = layer.singular_values
    # The engine promises 1e-5 of every value that counts; the rest of the dense spectrum is rounding.
    np.testing.assert_allclose(values, expected[: len(values)], rtol=1e-5, atol=1e-6 * expected[0])
    assert np.all(expected[len(values) :] < 1e-12 * expected[0])
    assert layer.summary.frobenius_norm == pytest.approx(np.linalg.norm(delta), rel=1e-6)
    assert layer.summary.smallest_relative == values[-1] / values[0]
    assert (layer.has_magnitude, layer.name) == (kind == "dora", M)


def test_experts_of_one_parameter_have_a_spectrum_each() -> None:
    ups, downs = normal(3, 6, 2), normal(3, 2, 5)
    module = "base_model.model.model.layers.4.mlp.experts"
    arrays = {
        f"{module}.lora_A.weight": downs.reshape(6, 5),  # experts slowest
        f"{module}.lora_B.weight": ups.transpose(1, 2, 0).reshape(6, 6),  # experts fastest
    }
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_parameters": ["mlp.experts.down_proj"]}
    found = spectrum(adapter_of(arrays, config=config))
    assert [layer.label for layer in found.layers] == [f"{module}[{expert}]" for expert in range(3)]
    for expert, layer in enumerate(found.layers):
        delta = oracle.low_rank(ups[expert], downs[expert], 2.0)
        np.testing.assert_allclose(layer.singular_values, oracle.singular_values(delta)[:2], rtol=1e-5)
        assert (layer.expert, layer.shape, layer.block) == (expert, delta.shape, "layers.4")


def test_measures_follow_from_the_values() -> None:
    up, down = np.diag([3.0, 2.0, 1.0]), np.eye(3)
    arrays = {f"{M}.lora_down.weight": np.eye(3, 9), f"{M}.lora_up.weight": np.pad(up @ down, [(0, 5), (0, 0)])}
    (layer,) = spectrum(adapter_of({**arrays, f"{M}.alpha": np.float32(3)})).layers
    measures = layer.summary
    np.testing.assert_allclose(layer.singular_values, [3, 2, 1])
    p = np.array([3, 2, 1]) / 6
    q = np.array([9, 4, 1]) / 14
    assert measures.effective_rank == pytest.approx(np.exp(-np.sum(p * np.log(p))))
    assert measures.energy_effective_rank == pytest.approx(np.exp(-np.sum(q * np.log(q))))
    assert measures.stable_rank == pytest.approx(14 / 9)
    assert measures.frobenius_norm == pytest.approx(14**0.5)
    assert measures.smallest_relative == pytest.approx(1 / 3)
    assert (measures.rank_90, measures.rank_95, measures.rank_99) == (2, 3, 3)  # 9/14 = 0.64, 13/14 = 0.93


def test_an_untrained_layer_has_a_spectrum_of_zeros() -> None:
    arrays = lora()
    arrays[f"{M}.lora_up.weight"][:] = 0
    found = spectrum(adapter_of(arrays))
    assert found.is_complete
    assert found.layers[0].summary.effective_rank == found.frobenius_norm == 0.0
    assert found.components()[0].energy_share == 0.0


# -- what is skipped ------------------------------------------------------------------------------------


def test_one_bad_layer_hides_no_other() -> None:
    arrays = {**lora("lora_unet_a"), **lora("lora_unet_b"), **lora("lora_unet_c")}
    arrays["lora_unet_b.lora_up.weight"][3, 1] = np.nan
    found = spectrum(adapter_of(arrays))
    assert [layer.name for layer in found.layers] == ["lora_unet_a", "lora_unet_c"]
    (skipped,) = found.skipped
    assert (skipped.name, skipped.code, skipped.is_error) == ("lora_unet_b", "non-finite", True)
    assert "up holds 1 NaN" in skipped.reason
    assert not found.is_complete


WITHOUT_SPECTRUM = {
    "vector": ({f"{M}.diff_b": np.ones(5)}, False),
    "opaque": ({f"{M}.oft_blocks": np.ones((2, 3, 3))}, False),
    "orphan-factor": ({f"{M}.lora_down.weight": np.ones((2, 6))}, False),
    "shape-mismatch": ({f"{M}.lora_down.weight": np.ones((2, 6)), f"{M}.lora_up.weight": np.ones((5, 3))}, True),
    "rank-zero": ({f"{M}.lora_down.weight": np.ones((0, 6)), f"{M}.lora_up.weight": np.ones((5, 0))}, True),
    "alpha-not-finite": ({**lora(), f"{M}.alpha": np.float32("nan")}, True),
    "non-finite": ({**lora(), f"{M}.lora_down.weight": np.full((4, 20), np.inf, np.float16)}, True),
}


@pytest.mark.parametrize("code", WITHOUT_SPECTRUM)
def test_what_has_no_spectrum_is_named_with_the_reason(code: str) -> None:
    arrays, is_error = WITHOUT_SPECTRUM[code]
    found = spectrum(adapter_of({**arrays, **lora("lora_unet_sound")}))
    assert [layer.name for layer in found.layers] == ["lora_unet_sound"]
    (skipped,) = found.skipped
    assert (skipped.name, skipped.code, skipped.is_error) == (M, code, is_error)
    assert skipped.reason
    assert found.is_complete is not is_error
    assert found.to_dict()["skipped"][0]["code"] == code


def test_without_any_layer_nothing_is_complete() -> None:
    assert not spectrum(adapter_of({"model.weight": np.ones((5, 6))})).is_complete


# -- choosing layers ------------------------------------------------------------------------------------


NAMES = ["lora_te1_text_model_encoder_layers_0_mlp_fc1", "lora_unet_mid_block_x", "lora_unet_up_blocks_0_x"]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (None, NAMES),
        ([], NAMES),
        ("lora_unet_*", NAMES[1:]),
        (["*_fc1", "*up_blocks*"], [NAMES[0], NAMES[2]]),
        (["lora_*", "*_x"], NAMES),
        ("lora_unet_[mn]id_block_?", NAMES[1:2]),
    ],
)
def test_globs_choose_layers(patterns: list[str] | str | None, expected: list[str]) -> None:
    adapter = adapter_of({key: array for name in NAMES for key, array in lora(name).items()})
    assert [layer.name for layer in spectrum(adapter, layers=patterns).layers] == expected


@pytest.mark.parametrize("patterns", ["LORA_UNET_*", ["lora_*", "nowhere"]])
def test_a_glob_that_matches_nothing_is_an_error(patterns: list[str] | str) -> None:
    adapter = adapter_of(lora("lora_unet_x"))
    with pytest.raises(OptionError, match="matches none of 1 layers; the first is lora_unet_x"):
        spectrum(adapter, layers=patterns)


def test_a_glob_chooses_among_broken_layers_too() -> None:
    adapter = adapter_of({**lora("lora_unet_a"), "lora_unet_b.lora_up.weight": np.ones((5, 2))})
    assert [skipped.name for skipped in spectrum(adapter, layers="*_b").skipped] == ["lora_unet_b"]
    assert spectrum(adapter, layers="*_a").skipped == ()


# -- order and groups -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three() -> Spectrum:
    sizes = dict(zip(NAMES, (0.5, 4.0, 1.0), strict=True))
    arrays = {key: array for name, size in sizes.items() for key, array in lora(name, size=size).items()}
    arrays.update(lora(NAMES[0], rank=2, size=0.5))
    return spectrum(adapter_of(arrays))


@pytest.mark.parametrize("order", Order)
def test_layers_are_sorted_by_every_measure(three: Spectrum, order: Order) -> None:
    fields = {
        "norm": "frobenius_norm",
        "sigma": "largest",
        "rank": "rank",
        "effective": "effective_rank",
        "energy-effective": "energy_effective_rank",
        "stable": "stable_rank",
        "k90": "rank_90",
        "k95": "rank_95",
        "k99": "rank_99",
        "scale": "scale",
    }
    layers = [layer.to_dict() for layer in three.ordered(order)]
    assert sorted(layer["name"] for layer in layers) == NAMES
    if order in (Order.FILE, Order.NAME):
        assert [layer["name"] for layer in layers] == NAMES
    else:
        values = [layer[fields[order]] for layer in layers]
        assert values == sorted(values, reverse=True)


def test_top_cuts_the_list_and_not_the_summaries(three: Spectrum) -> None:
    document = three.to_dict(Order.NORM, 1)
    assert [layer["name"] for layer in document["layers"]] == [NAMES[1]]
    assert sum(group["layers"] for group in document["components"]) == 3


@pytest.mark.parametrize(("order", "top"), [("size", None), ("norm", -1)])
def test_an_order_that_does_not_exist_is_refused(three: Spectrum, order: str, top: int | None) -> None:
    with pytest.raises(OptionError, match=r"size|-1"):
        three.ordered(order, top)


def test_groups_share_the_energy_of_the_whole(three: Spectrum) -> None:
    assert [(group.component, group.layers) for group in three.components()] == [("text_encoder", 1), ("unet", 2)]
    blocks = three.blocks()
    assert [group.block for group in blocks] == ["encoder_layers.0", "mid_block", "up_blocks.0"]
    for groups in (three.components(), blocks):
        assert sum(group.energy_share for group in groups) == pytest.approx(1.0)
        assert np.hypot.reduce([group.frobenius_norm for group in groups]) == pytest.approx(three.frobenius_norm)
    unet = three.components()[1]
    members = [layer.summary for layer in three.layers[1:]]
    assert unet.largest == max(summary.largest for summary in members)
    assert unet.stable_rank_median == pytest.approx(np.mean([summary.stable_rank for summary in members]))
    assert unet.rank_95_largest == max(summary.rank_95 for summary in members)


def test_blocks_are_summed_up_in_the_order_of_the_network(three: Spectrum) -> None:
    found = three.blocks()[-1]
    names = ["single_blocks.0", None, "double_blocks.10", "double_blocks.2", "context_refiner.0", "noise_refiner.0"]
    groups = [dataclasses.replace(found, block=name) for name in names]
    ordered = [group.block for group in in_network_order(groups)]
    assert ordered == [names[4], names[5], names[3], names[2], names[0], None]
    mixed = [dataclasses.replace(found, component=name) for name in ("unet", "text_encoder", "unet")]
    assert [group.component for group in in_network_order(mixed)] == ["unet", "unet", "text_encoder"]


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q", "down_blocks.1"),
        ("unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q", "down_blocks.1"),
        ("lora_unet_mid_block_attentions_0_proj_in", "mid_block"),
        ("lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q", "middle_block.1"),
        ("lora_unet_input_blocks_4_1_proj_in", "input_blocks.4"),
        ("lora_te1_text_model_encoder_layers_11_mlp_fc1", "encoder_layers.11"),
        ("text_encoders.clip_l.transformer.text_model.encoder.layers.11.mlp.fc1", "encoder_layers.11"),
        ("lora_te3_encoder_block_3_layer_0_SelfAttention_q", "encoder_block.3"),
        ("base_model.model.model.layers.17.self_attn.q_proj", "layers.17"),
        ("base_model.model.transformer.h.5.attn.c_attn", "h.5"),
        ("lora_transformer_transformer_blocks_3_attn_to_q", "transformer_blocks.3"),
        ("lora_transformer_single_transformer_blocks_3_attn_to_q", "single_transformer_blocks.3"),
        ("transformer.joint_transformer_blocks.0.attn.to_q", "joint_transformer_blocks.0"),
        ("diffusion_model.double_blocks.18.img_attn.qkv", "double_blocks.18"),
        ("transformer.double_stream_blocks.2.block.ff_i.w1", "double_stream_blocks.2"),
        ("diffusion_model.blocks.39.cross_attn.k", "blocks.39"),
        ("transformer.noise_refiner.1.attention.to_q", "noise_refiner.1"),
        ("lora_unet_time_embedding_linear_1", None),
        ("unet:3", None),
        ("base_model.model.model.sublayers.3.x", None),
        ("base_model.model.lm_head", None),
        ("", None),
    ],
)
def test_a_block_is_named_alike_in_every_dialect(name: str, block: str | None) -> None:
    assert block_of(name) == block


# -- values ---------------------------------------------------------------------------------------------


def test_the_document_is_strict_json_and_holds_everything(three: Spectrum) -> None:
    document = json.loads(json.dumps(three.to_dict(), allow_nan=False))
    parts = {"components", "blocks", "stages", "roles", "layers", "skipped", "without_base"}
    assert set(document) == {"path", "frobenius_norm", "vector_norm", "dead_layers", "base", *parts}
    layer = document["layers"][0]
    assert set(layer) >= {field.name for field in dataclasses.fields(LayerSpectrum)} - {"summary"}
    assert set(layer) >= set(MEASURES)
    np.testing.assert_array_equal(layer["singular_values"], three.layers[0].singular_values)


def test_values_cannot_be_changed(three: Spectrum) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        three.path = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        three.layers[0].singular_values[0] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        SkippedLayer("a", "b", "c", is_error=False).code = "d"  # type: ignore[misc]


def test_an_open_adapter_stays_open_and_a_path_is_as_good(demo_library: Path) -> None:
    path = demo_library / "sd15-style-kohya.safetensors"
    with lora_analysis.open(path) as adapter:
        first = spectrum(adapter, workers=1)
        second = spectrum(adapter, workers=2)
        assert first.to_dict() == second.to_dict() == spectrum(path).to_dict()
    assert spectrum(demo_library / "llama-chat-peft").path == str(demo_library / "llama-chat-peft")


def test_progress_counts_layers_and_cancelling_stops() -> None:
    adapter = adapter_of({key: array for name in NAMES for key, array in lora(name).items()})
    seen: list[tuple[int, int]] = []
    spectrum(adapter, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(CancelledError):
        spectrum(adapter, cancel=lambda: True)
    with pytest.raises(OptionError, match="0 workers"):
        spectrum(adapter, workers=0)


def test_a_file_that_cannot_be_read_is_an_error_of_the_whole(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError, match="absent"):
        spectrum(tmp_path / "absent.safetensors")


def test_the_public_name_is_the_function_whatever_was_imported_before() -> None:
    script = (
        "import lora_analysis.spectra.calculation, lora_analysis.linalg.spectrum, lora_analysis.cli.spectrum\n"
        "import lora_analysis\n"
        "assert callable(lora_analysis.spectrum), lora_analysis.spectrum\n"
        "assert lora_analysis.spectrum is lora_analysis.spectra.calculation.spectrum\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    package = Path(lora_analysis.__file__).parent
    assert not [*package.glob("spectrum.py"), *package.glob("spectrum/")], "importing it would hide the function"


def test_asking_for_the_function_loads_no_numpy() -> None:
    script = "import sys, lora_analysis; lora_analysis.spectrum; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0


# -- export ---------------------------------------------------------------------------------------------


def test_csv_gives_back_every_measure(three: Spectrum) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(three.layers))))
    assert [row["layer"] for row in rows] == NAMES
    for row, layer in zip(rows, three.layers, strict=True):
        for measure in MEASURES:
            assert float(row[measure]) == getattr(layer.summary, measure)
        assert (row["rank"], row["expert"], row["shape"]) == (str(layer.rank), "", "24x20")
        assert float(row["scale"]) == layer.scale


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "＝", "＠"])
def test_csv_starts_no_formula(first: str) -> None:
    name = f"{first}cmd|' /C calc'!A0"
    text = csv_text(spectrum(adapter_of(lora(name))).layers)
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["layer"] == f"'{name}"


def test_csv_escapes_control_characters_and_quotes_separators() -> None:
    name = 'a\n=1,"b"\t\x1b[31m\u202e'
    text = csv_text(spectrum(adapter_of(lora(name))).layers)
    assert len(text.splitlines()) == 2
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["layer"] == 'a\\x0a=1,"b"\\x09\\x1b[31m\\u202e'


def test_csv_of_no_layer_is_its_heading() -> None:
    assert csv_text(()).startswith("layer,expert,component,block,kind,shape,rank,scale,has_magnitude,count,")
    assert len(csv_text(()).splitlines()) == 1


def test_npz_gives_back_every_value(three: Spectrum, tmp_path: Path) -> None:
    write_npz(three.layers, tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz", allow_pickle=False) as found:
        assert list(found["layer"]) == NAMES
        for index, layer in enumerate(three.layers):
            start, end = found["offsets"][index : index + 2]
            np.testing.assert_array_equal(found["singular_values"][start:end], layer.singular_values)
            assert {name: found[name][index] for name in MEASURES} == layer.summary.to_dict()
        assert list(found["rank"]) == [2, 4, 4]
        assert list(found["expert"]) == [-1, -1, -1]
        assert found["offsets"][-1] == len(found["singular_values"])


def test_npz_of_the_same_layers_is_the_same_bytes_and_is_not_replaced_unasked(three: Spectrum, tmp_path: Path) -> None:
    write_npz(three.layers, tmp_path / "a.npz")
    write_npz(three.layers, tmp_path / "b.npz")
    before = (tmp_path / "a.npz").read_bytes()
    assert before == (tmp_path / "b.npz").read_bytes()
    with pytest.raises(OSError, match="exists"):
        write_npz((), tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_bytes() == before
    write_npz((), tmp_path / "a.npz", overwrite=True)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert len(found["layer"]) == len(found["singular_values"]) == 0


def test_npz_refuses_a_name_that_would_fill_the_memory(tmp_path: Path) -> None:
    (layer,) = spectrum(adapter_of(lora())).layers
    long = dataclasses.replace(layer, name="x" * 1_000_000)
    with pytest.raises(OptionError, match="a layer has 1,000,000 characters"):
        write_npz([long] * 100, tmp_path / "s.npz")
    assert list(tmp_path.iterdir()) == []
