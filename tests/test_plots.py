"""Figures: what they show, of every kind of adapter, and that nothing in a file can spoil them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lora_analysis as la
from lora_analysis.adapter import LowRank, Opaque, Stacked, Vector
from lora_analysis.errors import LoraAnalysisError, MissingExtraError, OptionError
from lora_analysis.figures import COMPARING, FIGURES, FigureRequest, draw, write
from lora_analysis.linalg.dense import materialise
from lora_analysis.linalg.samples import delta_entries, evenly, matrix_shape
from lora_analysis.plots.saving import rendered
from lora_analysis.plots.values import sample_deltas

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'lora-analysis[plot]'")

PNG = b"\x89PNG\r\n\x1a\n"
SINGLE = [kind for kind in FIGURES if kind not in COMPARING]
ADAPTERS = [
    "sdxl-character-kohya.safetensors",
    "sdxl-style-loha.safetensors",
    "sdxl-style-lokr.safetensors",
    "sdxl-portrait-dora.safetensors",
    "sd15-clothing-locon.safetensors",
    "llama-chat-peft",
    "flux-product-diffusers.safetensors",
]


# -- values --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ADAPTERS, "qwen-chat-mlx"])
def test_sampled_entries_are_those_of_the_dense_delta(demo_library: Path, name: str) -> None:
    with la.open(demo_library / name) as adapter:
        for layer in list(adapter.layers.values())[:12]:
            update = layer.update()
            if isinstance(update, Opaque):
                continue
            whole = materialise(update).reshape(matrix_shape(update))
            rows, columns = evenly(whole.shape[0], 7), evenly(whole.shape[1], 9)
            found = delta_entries(update, rows, columns)
            np.testing.assert_allclose(found, whole[np.ix_(rows, columns)], rtol=1e-9, atol=1e-12 * abs(whole).max())


def test_sampled_entries_of_experts_and_vectors() -> None:
    rng = np.random.default_rng(5)
    parts = tuple(LowRank(rng.normal(size=(4, 2)), rng.normal(size=(2, 5)), 0.5) for _ in range(3))
    stacked = Stacked(parts)
    whole = materialise(stacked).reshape(12, 5)
    rows, columns = np.arange(12), np.array([0, 3])
    np.testing.assert_allclose(delta_entries(stacked, rows, columns), whole[:, columns], atol=1e-12)
    vector = Vector(rng.normal(size=6), 2.0)
    np.testing.assert_allclose(delta_entries(vector, np.array([0]), np.arange(6))[0], 2.0 * vector.values)


def test_a_picture_of_a_layer_holds_the_root_mean_squares_of_its_cells(demo_library: Path) -> None:
    from lora_analysis.plots.values import picture_of

    with la.open(demo_library / "sdxl-style-lokr.safetensors") as adapter:
        layer = next(iter(adapter.layers.values()))
        found = picture_of(layer, 8)
        whole = la.materialise(layer).reshape(found.shape)
    height, width = whole.shape[0] // 8, whole.shape[1] // 8
    expected = np.sqrt(np.mean(whole.reshape(8, height, 8, width) ** 2, axis=(1, 3)))
    np.testing.assert_allclose(found.cells, expected, rtol=1e-9)


@pytest.mark.parametrize("name", [*ADAPTERS, "qwen-chat-mlx"])
def test_norms_alone_are_those_of_the_spectra(demo_library: Path, name: str) -> None:
    from lora_analysis.plots.values import layer_norms, norms_of

    with la.open(demo_library / name) as adapter:
        found, expected = layer_norms(adapter), norms_of(la.spectrum(adapter))
    assert [layer.name for layer in found.layers] == [layer.name for layer in expected]
    np.testing.assert_allclose([x.norm for x in found.layers], [x.norm for x in expected], rtol=1e-9)


def test_the_energy_curve_is_that_of_the_squares(demo_library: Path) -> None:
    from lora_analysis.plots.axes.energy import kept_energy

    spectrum = la.spectrum(demo_library / "sdxl-character-kohya.safetensors")
    table, shares = kept_energy(spectrum)
    squares = [np.asarray(layer.singular_values) ** 2 for layer in spectrum.layers if layer.singular_values[0] > 0]
    for rank in (1, 2, 4):
        expected = sum(s[:rank].sum() for s in squares) / sum(s.sum() for s in squares)
        assert (shares @ table)[rank - 1] == pytest.approx(expected, rel=1e-9)


def test_layers_stand_where_their_names_say() -> None:
    from lora_analysis.plots.modules import place_of

    class Named:
        component = "unet"

        def __init__(self, name: str) -> None:
            from lora_analysis.formats.blocks import block_of

            self.name, self.block = name, block_of(name)

    cases = {
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_k": ("input_blocks 4.1.0", "attn1_to_k"),
        "unet.down_blocks.1.attentions.0.transformer_blocks.10.ff.net.0.proj": ("down_blocks 1.0.10", "ff_net_0_proj"),
        "lora_unet_output_blocks_3_0_emb_layers_1": ("output_blocks 3.0", "emb_layers_1"),
        "lora_te2_text_model_encoder_layers_11_self_attn_q_proj": ("encoder_layers 11", "self_attn_q_proj"),
        "model.layers.17.mlp.gate_proj": ("layers 17", "mlp_gate_proj"),
        "lora_unet_conv_in": ("other", "lora_unet_conv_in"),
    }
    assert {name: tuple(place_of(Named(name))) for name in cases} == cases


def test_blocks_are_in_the_order_of_the_network() -> None:
    from lora_analysis.formats.blocks import block_of
    from lora_analysis.plots.modules import in_network_order

    class Named:
        component = "unet"

        def __init__(self, name: str) -> None:
            self.name, self.block = name, block_of(name)

    names = ["single_blocks.0.linear1", "double_blocks.10.img_attn.qkv", "double_blocks.2.img_attn.qkv", "img_in"]
    assert [layer.name for layer in in_network_order(map(Named, names))] == [names[2], names[1], names[0], names[3]]
    stacks = [f"{stack}.{n}.attention.to_q" for n in (0, 1) for stack in ("layers", "noise_refiner", "context_refiner")]
    ordered = [layer.name for layer in in_network_order(map(Named, stacks))]
    assert ordered == [stacks[1], stacks[4], stacks[2], stacks[5], stacks[0], stacks[3]]


# -- figures -------------------------------------------------------------------------------------------


DRAWN = [(kind, ADAPTERS[0]) for kind in SINGLE] + [("distribution", name) for name in ADAPTERS[1:]]


@pytest.mark.parametrize(("kind", "name"), DRAWN)
def test_every_kind_of_adapter_can_be_drawn(demo_library: Path, tmp_path: Path, kind: str, name: str) -> None:
    out = tmp_path / "figure.png"
    write(kind, [demo_library / name], out)
    assert out.read_bytes().startswith(PNG)
    assert ink(out) > 0.01  # something was drawn: not an empty page


def ink(path: Path) -> float:
    """Share of pixels that are not white."""
    from matplotlib.image import imread

    return float(np.mean(np.min(imread(path)[..., :3], axis=-1) < 0.98))


@pytest.mark.parametrize(("suffix", "magic"), [(".svg", b"<?xml"), (".pdf", b"%PDF"), (".PNG", PNG)])
def test_the_suffix_chooses_the_format_and_the_same_figure_has_the_same_bytes(
    demo_library: Path, tmp_path: Path, suffix: str, magic: bytes
) -> None:
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    for out in (first, second):
        write("layers", [demo_library / "sdxl-portrait-dora.safetensors"], out)
    assert first.read_bytes().startswith(magic)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("kind", sorted(COMPARING))
def test_adapters_of_one_base_can_be_drawn_together(demo_library: Path, tmp_path: Path, kind: str) -> None:
    paths = [demo_library / name for name in ADAPTERS[:3]]
    write(kind, paths, tmp_path / "figure.png")
    assert ink(tmp_path / "figure.png") > 0.01


def test_one_layer_is_drawn_as_a_picture(demo_library: Path, tmp_path: Path) -> None:
    path = demo_library / "sdxl-character-kohya.safetensors"
    with la.open(path) as adapter:
        name = next(iter(adapter.layers))
    write("heatmap", [path], tmp_path / "one.png", FigureRequest(layer=name))
    assert ink(tmp_path / "one.png") > 0.1
    with pytest.raises(OptionError, match=r"matches \d+ layers"):
        draw("heatmap", [path], FigureRequest(layer="*"))
    with pytest.raises(OptionError, match="matches none"):
        draw("heatmap", [path], FigureRequest(layer="nothing"))


def test_a_tiny_adapter_of_one_layer_and_one_rank_is_legible(tmp_path: Path) -> None:
    path = one_layer(tmp_path, np.full((4, 1), 0.5, np.float32), np.full((1, 3), 0.5, np.float32))
    for kind in SINGLE:
        write(kind, [path], tmp_path / f"{kind}.png")
        assert ink(tmp_path / f"{kind}.png") > 0.005, kind


def test_an_untrained_adapter_says_so_instead_of_failing(tmp_path: Path) -> None:
    path = one_layer(tmp_path, np.zeros((4, 2), np.float32), np.ones((2, 3), np.float32))
    for kind in SINGLE:
        write(kind, [path], tmp_path / f"{kind}.png")


def test_names_from_a_file_are_text_and_no_markup(tmp_path: Path) -> None:
    name = "lora_unet_$\\frac{1}{0}$_<b>\x1b[31m_漢字"
    path = one_layer(tmp_path, np.ones((4, 1), np.float32), np.ones((1, 3), np.float32), name)
    for kind in SINGLE:
        write(kind, [path], tmp_path / f"{kind}.svg")
    text = (tmp_path / "heatmap.svg").read_text(encoding="utf-8")
    assert "<b>" not in text
    assert "\x1b" not in text


def one_layer(folder: Path, up: np.ndarray, down: np.ndarray, name: str = "lora_unet_mid_block_proj") -> Path:
    safetensors = pytest.importorskip("safetensors.numpy")
    path = folder / "tiny.safetensors"
    safetensors.save_file({f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}, path)
    return path


def test_axes_are_drawn_into_and_returned(demo_library: Path) -> None:
    from matplotlib.figure import Figure

    spectrum = la.spectrum(demo_library / "sdxl-character-kohya.safetensors")
    ax = Figure().add_subplot()
    assert la.plot.energy(spectrum, ax) is ax
    assert la.plot.decay(spectrum).get_ylabel() == "σₖ / σ₁"
    assert set(la.plot.__all__) <= set(dir(la.plot))
    with pytest.raises(AttributeError, match="no attribute 'enegry'"):
        la.plot.enegry  # noqa: B018


def test_drawing_leaves_matplotlib_as_it_was_and_loads_no_pyplot(demo_library: Path) -> None:
    script = (
        "import sys, matplotlib\n"
        "names = ('font.size', 'axes.grid', 'text.parse_math')\n"
        "before = [matplotlib.rcParams[name] for name in names]\n"
        "from lora_analysis.figures import draw\n"
        "draw('ranks', [sys.argv[1]])\n"
        "assert [matplotlib.rcParams[name] for name in names] == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    path = str(demo_library / "sdxl-character-kohya.safetensors")
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


# -- baselines -----------------------------------------------------------------------------------------

BASELINES = Path(__file__).parent / "baselines"
_TOLERANCE = 0.12  # root mean square of the differences of shrunk pictures: fonts and versions move text a little


@pytest.mark.parametrize("kind", ["ranks", "heatmap", "layers"])
def test_figures_look_as_they_did(demo_library: Path, kind: str, tmp_path: Path) -> None:
    from matplotlib.image import imread

    out = tmp_path / "figure.png"
    write(kind, [demo_library / "sdxl-character-kohya.safetensors"], out)
    found, expected = shrunk(imread(out)), imread(BASELINES / f"{kind}.png")[..., :3]
    assert found.shape == expected.shape
    difference = float(np.sqrt(np.mean((found - expected) ** 2)))
    assert difference < _TOLERANCE
    assert float(np.sqrt(np.mean((found[::-1] - expected) ** 2))) > difference  # the measure sees a figure upside down


def shrunk(picture: np.ndarray, factor: int = 8) -> np.ndarray:
    """Means over squares of ``factor`` pixels, as 8-bit values: what a baseline holds."""
    height, width = (side // factor * factor for side in picture.shape[:2])
    cells = picture[:height, :width, :3].reshape(height // factor, factor, width // factor, factor, 3)
    return np.round(cells.mean(axis=(1, 3)) * 255) / 255


# -- refusals ------------------------------------------------------------------------------------------


def test_wrong_requests_are_named(demo_library: Path, tmp_path: Path) -> None:
    path = demo_library / "sdxl-character-kohya.safetensors"
    with pytest.raises(OptionError, match="no figure is named 'pie'"):
        draw("pie", [path])
    with pytest.raises(OptionError, match="one adapter, not 2"):
        draw("ranks", [path, path])
    with pytest.raises(OptionError, match="two to eight adapters, not 1"):
        draw("comparison", [path])
    with pytest.raises(OptionError, match="must end in"):
        write("ranks", [path], tmp_path / "figure.gif")
    existing = tmp_path / "figure.png"
    existing.write_bytes(b"old")
    with pytest.raises(LoraAnalysisError, match="exists"):
        write("ranks", [path], existing)
    assert existing.read_bytes() == b"old"


def test_without_matplotlib_the_install_line_is_the_answer(
    demo_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    path = demo_library / "sdxl-character-kohya.safetensors"
    with pytest.raises(MissingExtraError, match=r"pip install 'lora-analysis\[plot\]'"):
        draw("ranks", [path])
    visualizer = la.LoraVisualizer()
    assert not asyncio.run(visualizer.generate_rank_analysis_plot(path, tmp_path / "x.png"))
    assert visualizer.last_error is not None
    assert visualizer.last_error["install"] == "pip install 'lora-analysis[plot]'"


def test_without_seaborn_boxes_are_drawn(demo_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lora_analysis.plots import letters

    monkeypatch.setattr(letters, "find_spec", lambda name: None)
    write("distribution", [demo_library / "sdxl-character-kohya.safetensors"], tmp_path / "boxes.png")
    assert ink(tmp_path / "boxes.png") > 0.01


# -- the application's interface -----------------------------------------------------------------------

METHODS = {
    "generate_weight_heatmap": 1,
    "generate_weight_distribution_plot": 1,
    "generate_rank_analysis_plot": 1,
    "generate_layer_map": 1,
    "generate_comparison_plot": 2,
    "generate_similarity_plot": 2,
}


@pytest.mark.parametrize("method", METHODS)
def test_the_visualizer_writes_or_says_why_not(
    demo_library: Path, tmp_path: Path, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    visualizer = la.LoraVisualizer()
    call: Any = getattr(visualizer, method)
    good: Any = [demo_library / name for name in ADAPTERS[:2]] if METHODS[method] == 2 else demo_library / ADAPTERS[0]
    assert asyncio.run(call(good, tmp_path / "figure.png")) is True
    assert visualizer.last_error is None
    assert asyncio.run(call(good, tmp_path / "figure.png")) is True  # an older figure is replaced
    missing: Any = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"] if METHODS[method] == 2 else tmp_path / "a"
    assert asyncio.run(call(missing, tmp_path / "other.png")) is False
    assert visualizer.last_error is not None
    assert visualizer.last_error["code"] == "file-access"
    assert caplog.records
    assert not (tmp_path / "other.png").exists()


def test_a_principal_component_analysis_is_drawn(demo_library: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    analyzer = la.LoraPcaAnalyzer()
    path = demo_library / ADAPTERS[0]

    async def work() -> tuple[bool, bool, bool]:
        every = await analyzer.analyze_lora_pca(path, 4, include_arrays=False)
        one_name = next(iter(every["pca_results"]))
        one = await analyzer.analyze_lora_pca(path, 4, layers=one_name.rsplit(".", 1)[0])
        single = {**one, "pca_results": {one_name: one["pca_results"][one_name]}}
        return (
            await analyzer.generate_pca_visualization(every, tmp_path / "every.png"),
            await analyzer.generate_pca_visualization(single, tmp_path / "one.svg"),
            await analyzer.generate_pca_visualization({"success": False}, tmp_path / "none.png"),
        )

    assert asyncio.run(work()) == (True, True, False)
    assert ink(tmp_path / "every.png") > 0.01


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9])
def test_components_of_any_number_of_matrices_are_drawn(count: int) -> None:
    values = {"explained_variance_ratio": [0.6, 0.4], "cumulative_variance": [0.6, 1.0], "singular_values": [3.0, 2.0]}
    results = {f"layer{number}.lora_A": values for number in range(count)}
    axes = la.plot.cumulative_variance(results)
    assert axes.get_lines()[0].get_ydata().tolist() == [0.6, 1.0]
    assert rendered(axes.figure, "png").startswith(PNG)


def labels_of(axis: Any) -> list[str]:
    rendered(axis.figure, "png")
    low, high = sorted(axis.get_view_interval())
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    return [tick.label1.get_text() for tick in ticks if low <= tick.get_loc() <= high and tick.label1.get_text()]


def test_an_axis_is_labelled_where_all_values_lie_within_a_decade(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.numpy").save_file
    rng = np.random.default_rng(0)
    factors = {"lora_down.weight": rng.normal(size=(4, 64)), "lora_up.weight": rng.normal(size=(64, 4))}
    path = tmp_path / "one.safetensors"
    save_file({f"lora_unet_mid_block_x.{key}": value.astype(np.float32) for key, value in factors.items()}, path)
    spectrum = la.spectrum(path)
    assert len(labels_of(la.plot.decay(spectrum).yaxis)) >= 2
    with la.open(path) as adapter:
        axes = la.plot.distribution(sample_deltas(adapter))
    assert len(labels_of(axes.yaxis)) >= 3
    assert [label.get_rotation() for label in axes.get_xticklabels()] == [0.0]  # there is room to read it


def test_what_one_layer_has_no_width_for_is_drawn_all_the_same(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.numpy").save_file
    rng = np.random.default_rng(1)
    paths = [tmp_path / "first.safetensors", tmp_path / "second.safetensors"]
    for path in paths:
        factors = {"lora_down.weight": rng.normal(size=(4, 64)), "lora_up.weight": rng.normal(size=(64, 4))}
        save_file({f"lora_unet_mid_block_x.{key}": value.astype(np.float32) for key, value in factors.items()}, path)
    spectrum = la.spectrum(paths[0])
    ranks = la.plot.effective_ranks(spectrum)
    stored = ranks.get_lines()[0].get_xydata()
    assert stored[[0, -1]].tolist() == [[-0.5, 4.0], [0.5, 4.0]]
    assert [text.get_text() for text in la.plot.energy(spectrum).get_legend().get_texts()] == ["the one layer"]
    comparison = la.compare(paths)
    (band, *_) = la.plot.layer_cosines(comparison).collections
    assert band.get_paths()[0].get_extents().width == 1.0


def test_rounding_does_not_stretch_the_axis_of_singular_values() -> None:
    common = {"explained_variance_ratio": [0.6, 0.4], "cumulative_variance": [0.6, 1.0]}
    results = {
        "x.lora_A": {**common, "singular_values": [3.0, 1e-15]},
        "x.lora_B": {**common, "singular_values": [2.0, 1.0]},
        "zero.lora_B": {**common, "singular_values": [0.0, 0.0]},
    }
    axes = la.plot.singular_value_bars(results)
    assert axes.get_ylim()[0] > 1e-3
    assert rendered(axes.figure, "png").startswith(PNG)


def test_every_matrix_stands_with_its_kind() -> None:
    ratios = {"lora_A": [0.3, 0.2], "lora_B": [0.9, 0.1]}
    results = {f"{n}.{kind}": {"explained_variance_ratio": ratios[kind]} for n in range(5) for kind in ratios}
    axes = la.plot.component_map(results)
    (image,) = axes.get_images()
    assert image.get_array()[:, 0].tolist() == [0.3] * 5 + [0.9] * 5
    assert [label.get_text() for label in axes.get_yticklabels()] == ["lora_A", "lora_B"]
