"""The report: one page that is whole, true and inert."""

from __future__ import annotations

import base64
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import lora_analysis as la
from command import lora
from lora_analysis.errors import MissingExtraError, OptionError
from lora_analysis.reporting.report import write_report

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'lora-analysis[plot]'")

NAME = "sdxl-character-kohya.safetensors"


class Page(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


@pytest.fixture(scope="module")
def page(demo_library: Path) -> Page:
    return Page(la.report(demo_library / NAME))


def test_the_page_shows_metadata_findings_spectra_and_the_recommendation(page: Page, demo_library: Path) -> None:
    spectrum = la.spectrum(demo_library / NAME)
    strongest = spectrum.ordered("norm", 1)[0]
    for expected in ("Pepper the witch", "AdamW8bit", "Stable Diffusion XL", "witch hat", strongest.label):
        assert expected in page.text
    assert f"{strongest.summary.frobenius_norm:.4g}" in page.text
    assert "of the energy" in page.text or "leave the rank" in page.text


def test_figures_are_inside_and_described(page: Page) -> None:
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(images) == 4
    for image in images:
        assert (image["src"] or "").startswith("data:image/png;base64,iVBOR")
        assert len(image["alt"] or "") > 40


def test_letters_have_one_size_in_all_figures_and_a_narrow_screen_scrolls_them(page: Page) -> None:
    for _, image in (element for element in page.elements if element[0] == "img"):
        png = base64.b64decode((image["src"] or "").partition(",")[2])
        assert int(image["width"] or 0) == round(int.from_bytes(png[16:20], "big") * 96 / 160)
    style = page.text
    assert "max-width: 48rem" in style
    assert "overflow-x: auto" in style
    assert len([1 for _, attributes in page.elements if attributes.get("class") == "frame"]) == 4


def test_nothing_on_the_page_runs_or_loads(page: Page) -> None:
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "base", "a"}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("href", "srcset")]
    policies = [attributes for tag, attributes in page.elements if attributes.get("http-equiv")]
    assert "default-src 'none'" in (policies[0]["content"] or "")


def test_a_hostile_header_stays_text(tmp_path: Path) -> None:
    numpy_files = pytest.importorskip("safetensors.numpy")
    hostile = "</table><script>alert(1)</script><img src=x onerror=alert(1)>\x1b]0;title\x07\u202e"
    path = tmp_path / "a<b>&'\".safetensors"
    tensors = {
        "lora_unet_<svg onload=alert(1)>.lora_up.weight": np.ones((4, 1), np.float32),
        "lora_unet_<svg onload=alert(1)>.lora_down.weight": np.ones((1, 3), np.float32),
    }
    numpy_files.save_file(tensors, path, {"ss_output_name": hostile, "ss_training_comment": hostile})
    text = la.report(path)
    page = Page(text)
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "svg"})
    assert len([tag for tag, _ in page.elements if tag == "img"]) == 4
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert "onerror=alert" in page.text


@pytest.mark.parametrize("name", ["llama-chat-peft", "llama-ia3-peft", "sdxl-portrait-dora.safetensors"])
def test_every_kind_of_adapter_has_a_report(demo_library: Path, name: str) -> None:
    assert "<h1>" + name in la.report(demo_library / name)


def test_the_command_writes_it_once(demo_library: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    done = lora("report", demo_library / NAME, "-o", out)
    assert done.code == 0, done.err
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert lora("report", demo_library / NAME, "-o", out).code == 1
    assert lora("report", demo_library / NAME, "-o", tmp_path / "report.pdf").code == 2


def test_the_plot_command_draws_and_refuses(demo_library: Path, tmp_path: Path) -> None:
    out = tmp_path / "ranks.svg"
    done = lora("plot", "ranks", demo_library / NAME, "-o", out)
    assert done.code == 0, done.err
    assert out.read_bytes().startswith(b"<?xml")
    assert lora("plot", "ranks", demo_library / NAME, "-o", out).code == 1
    assert lora("plot", "pie", demo_library / NAME, "-o", out).code == 2
    assert lora("plot", "comparison", demo_library / NAME, "-o", tmp_path / "c.png").code == 2
    assert lora("plot", "ranks", tmp_path / "missing", "-o", tmp_path / "m.png").code == 1
    assert not (tmp_path / "m.png").exists()


@pytest.mark.parametrize("arguments", [["compare", "sdxl-style-lokr.safetensors"], ["pca"]])
def test_other_commands_draw_with_a_figure_for_output(demo_library: Path, tmp_path: Path, arguments: list[str]) -> None:
    command, *others = arguments
    out = tmp_path / "figure.png"
    done = lora(command, demo_library / NAME, *(demo_library / other for other in others), "-o", out)
    assert done.code == 0, done.err
    assert out.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_there_is_no_report(demo_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"lora-analysis\[plot\]"):
        la.report(demo_library / NAME)
    with pytest.raises(OptionError, match="must end in"):
        write_report(demo_library / NAME, "report.txt")
